"""
The bytes of one connection that are on their way out.

What the transport cannot take now waits here and is fed to it a piece at a time, so that a peer that takes little is
told from one that takes nothing, and a ``send`` waits for its own message only. Everything has a bound: the bytes
(``max_unsent``), and the time without progress (``send_progress``).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

from tcpapp.deadlines import Deadlines
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits
from tcpapp.transports import bottom_of

__all__ = ["Outbox", "Sender"]


class Sender(Protocol):
    """Whose bytes they are."""

    def writing_blocked(self) -> None:
        """More than the write mark is unsent."""

    def writing_resumed(self) -> None:
        """All that was over the mark is the transport's."""

    def load_changed(self) -> None:
        """More bytes wait here."""

    def too_much_unsent(self, unsent: int) -> None:
        """`unsent` bytes wait, over ``max_unsent``, and more came."""


class _Waiting:
    """Bytes that wait for the transport, how many of them it has been given, and who is told when it has them all."""

    __slots__ = ("data", "given", "told")

    def __init__(self, data: bytes, told: Deferred[None] | None) -> None:
        self.data = data
        self.given = 0
        self.told = told


class Outbox:
    """
    Writes to a transport, as whose producer it is told when to stop and when to go on.

    `blocked` says that the transport asks for no more; `unsent` counts the bytes that wait here. What is written
    between `gather` and `release` goes out as one write.
    """

    __slots__ = (
        "_deadlines",
        "_finished",
        "_gathered",
        "_gathered_size",
        "_gathering",
        "_handed",
        "_limits",
        "_progress",
        "_queue",
        "_sender",
        "_transport",
        "blocked",
        "unsent",
    )

    def __init__(self, transport: Any, sender: Sender, limits: Limits, progress: float, deadlines: Deadlines) -> None:
        self._transport = transport
        self._sender = sender
        self._limits = limits
        self._progress = progress
        self._deadlines = deadlines
        self._gathered: list[bytes] | None = None
        self._gathered_size = 0
        self._gathering = False
        self._queue: deque[_Waiting] | None = None
        self._handed: list[Deferred[None]] | None = None
        self._finished = False
        self.blocked = False
        self.unsent = 0
        bottom = bottom_of(transport)
        if hasattr(bottom, "bufferSize"):
            bottom.bufferSize = limits.write_high
        transport.registerProducer(self, True)

    def gather(self) -> None:
        """Keep what is written until `release`, or until it is over the write mark."""
        self._gathering = True

    def release(self, last: bytes = b"") -> None:
        """Write what was gathered, and `last` with it."""
        if self._gathered is not None:
            if last:
                self.write(last)
            self._gathering = False
            self._flush()
        else:
            self._gathering = False
            if last:
                self._put(last)

    def write(self, data: bytes) -> None:
        """Send `data` after all that was written before."""
        if not self._gathering:
            self._put(data)
            return
        if self._gathered is None:
            self._gathered = []
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size > self._limits.write_high:
            self._flush()

    def send(self, data: bytes) -> Deferred[None]:
        """
        Send `data`; the Deferred fires when the transport has it and is below its mark.

        Cancelled before the transport was given any of it, it is not sent. Cancelled later, it is sent all the same.
        """
        if self.behind or self._gathered_size + len(data) > self._limits.write_high:
            self._flush()
        if self.behind:
            return self._wait_with(data)
        self.write(data)
        return self._wait_with(b"") if self.behind else succeed(None)

    def finish(self) -> bool:
        """
        Hand all that waits to the transport, whatever its mark, and be its producer no longer: it will be closed.

        Whether this was the first time.
        """
        if self._finished:
            return False
        self._finished = True
        self.release()
        self._deadlines.stop("send_progress")
        self._transport.unregisterProducer()  # before the writes: their pauses concern nobody any more
        for waiting in self._queue or ():
            self._transport.write(waiting.data[waiting.given :])
            self._note_handed(waiting)
        self._queue = None
        self.unsent = 0
        return True

    def end(self, error: NotConnected, flushed: bool) -> None:
        """The connection is lost: tell every ``send`` that waits that it was `flushed`, or fail it with `error`."""
        self._deadlines.stop("send_progress")
        handed, self._handed = self._handed or (), None
        waiting, self._queue = self._queue or (), None
        for told in (*handed, *(each.told for each in waiting)):
            if told is not None and not told.called:  # it may have been cancelled
                if flushed:
                    told.callback(None)
                else:
                    told.errback(error)

    def pauseProducing(self) -> None:
        """The transport has more than its mark."""
        if self._progress and not self.blocked:
            self._deadlines.start("send_progress", self._progress)
        self.blocked = True
        self._sender.writing_blocked()

    def resumeProducing(self) -> None:
        """The transport has sent what it had."""
        self.blocked = False
        self._deadlines.stop("send_progress")
        self._feed()
        if not self.behind:
            self._sender.writing_resumed()

    def stopProducing(self) -> None:
        """The transport is gone; `end` follows."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits to hear of what was sent."""
        return bool(self._handed or self._queue)

    @property
    def held(self) -> int:
        """How many bytes are held here, and by a transport over its mark, which may have up to twice as many."""
        return self.unsent + self._gathered_size + (2 * self._limits.write_high if self.blocked else 0)

    @property
    def behind(self) -> bool:
        """Whether bytes wait for the peer to take what was sent before."""
        return self.blocked or bool(self._queue)

    def _flush(self) -> None:
        if self._gathered is not None:
            gathered, self._gathered, self._gathered_size = self._gathered, None, 0
            self._put(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def _put(self, data: bytes) -> None:
        if self.blocked or self._queue or len(data) > self._limits.write_high:
            self._wait(_Waiting(data, None))
        else:
            self._deadlines.said = self._deadlines.seconds()
            self._transport.write(data)

    def _wait_with(self, data: bytes) -> Deferred[None]:
        told: Deferred[None] = Deferred(self._withdraw)
        self._wait(_Waiting(data, told))
        return told

    def _wait(self, waiting: _Waiting) -> None:
        if self._queue is None:
            self._queue = deque()
        before = self.unsent
        self._queue.append(waiting)
        self.unsent += len(waiting.data)
        if not self.blocked:
            self._feed()
        elif before > self._limits.max_unsent and waiting.data:
            self._sender.too_much_unsent(before)
        if self.unsent:
            self._sender.load_changed()

    def _withdraw(self, told: Deferred[None]) -> None:
        """It was cancelled: leave out the bytes it stands for, if none of them is gone."""
        for waiting in self._queue or ():
            if waiting.told is told and not waiting.given:
                assert self._queue is not None
                self._queue.remove(waiting)
                self.unsent -= len(waiting.data)
                break

    def _feed(self) -> None:
        """Give the transport pieces of the write mark's size until it has enough; tell each who may know by then."""
        piece_size = self._limits.write_high
        self._tell_handed()
        while self._queue and not self.blocked:
            waiting = self._queue[0]
            piece = waiting.data[waiting.given : waiting.given + piece_size]
            waiting.given += len(piece)
            self.unsent -= len(piece)
            if waiting.given == len(waiting.data):
                self._queue.popleft()
                self._note_handed(waiting)
            self._deadlines.said = self._deadlines.seconds()
            self._transport.write(piece)
            self._tell_handed()

    def _tell_handed(self) -> None:
        if not self.blocked:
            handed, self._handed = self._handed or (), None
            for told in handed:
                if not told.called:  # it may have been cancelled
                    told.callback(None)

    def _note_handed(self, waiting: _Waiting) -> None:
        if waiting.told is not None:
            if self._handed is None:
                self._handed = []
            self._handed.append(waiting.told)


classImplements(Outbox, IPushProducer)  # a decorator would keep its class from being compiled as one
