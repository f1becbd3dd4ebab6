"""
The bytes of one connection that are on their way out.

Bytes that the transport cannot take now wait here, and are fed to it a piece at a time. So the outbox can distinguish
a slow peer from a peer that takes nothing, and a ``send`` waits for its own message only. Small writes are joined.
Everything has a bound: the bytes that wait (``max_unsent``), and the time without progress (``send_progress``). While
the connection closes, unsent bytes are fed and counted in the same way, until the transport has them all.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.outcomes import (
    BUFFERED_CHANGED,
    HANDED_OVER,
    NOTHING,
    TOO_MUCH_UNSENT,
    WRITE_BLOCKED,
    WRITE_RESUMED,
    Settler,
)
from tcpapp.connection.waiting_bytes import WaitingBytes
from tcpapp.limits import Limits
from tcpapp.telemetry.counters import MessageCounter, Throughput

__all__ = ["SEND_COST", "Outbox"]

SEND_COST: Final = 512
"""Bytes that count for a waiting ``send`` besides its message: Deferred and place take 310 bytes on CPython 3.11."""


class _NoTransport:
    """Stands in for the transport and the connection of an outbox after the end: its methods do nothing."""

    def write(self, data: bytes) -> None: ...

    def unregisterProducer(self) -> None: ...

    def settle(self, outcome: int, detail: Any = None) -> None: ...

    is_handling = False


_NO_TRANSPORT: Final = _NoTransport()


class Outbox(MessageCounter):
    """
    Writes to a transport. It is the transport's producer, so the transport tells it when to stop and when to go on.

    `blocked` says that the transport asks for no more. `unsent` counts the bytes that wait here. ``max_unsent`` limits
    these bytes plus `SEND_COST` for each ``send`` that waits. Bytes written between `cork` and `uncork` go out as
    one write. While it `stays_corked`, several such groups go out as one write.

    `bytes` counts the bytes that the transport got, and `messages` the messages that it got whole. All bytes leave
    through `transport`, in `_put`.
    """

    __slots__ = (
        "_corked",
        "_corked_messages",
        "_corked_size",
        "_deadlines",
        "_handed",
        "_is_corked",
        "_lifecycle",
        "_limits",
        "_progress",
        "_queue",
        "_sends",
        "_settler",
        "blocked",
        "stays_corked",
        "transport",
        "unsent",
    )

    def __init__(
        self,
        transport: Any,
        settler: Settler,
        lifecycle: Lifecycle,
        limits: Limits,
        progress: float,
        deadlines: Deadlines,
        throughput: Throughput,
    ) -> None:
        super().__init__(throughput)
        self.transport = transport
        self._settler = settler
        self._lifecycle = lifecycle
        self._limits = limits
        self._progress = progress
        self._deadlines = deadlines
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        self._corked_messages = 0
        self._is_corked = False
        self._queue: deque[WaitingBytes] | None = None
        self._sends = 0
        self._handed: list[Deferred[None]] | None = None
        self.blocked = False
        self.stays_corked = False
        self.unsent = 0
        transport.registerProducer(self, True)

    def cork(self) -> None:
        """Gather the written bytes until `uncork`, or until they exceed the write mark."""
        self._is_corked = True

    def uncork(self, last: bytes = b"", messages: int = 0) -> None:
        """Write the gathered bytes and `last`, with its `messages`, in one write; not yet while it `stays_corked`."""
        if self.stays_corked:
            if last:
                self.write(last, messages)
        elif self._corked is not None:
            if last:
                self.write(last, messages)
            self._is_corked = False
            self._flush()
        else:
            self._is_corked = False
            if last:
                self._put(last, messages)

    def uncork_now(self) -> None:
        """Write the gathered bytes now, and end `stays_corked`."""
        self.stays_corked = False
        self.uncork()

    def write(self, data: bytes, messages: int = 1) -> None:
        """Send `data`, which carries this many `messages`, after all earlier bytes."""
        if not self._is_corked:
            self._put(data, messages)
            return
        if self._corked is None:
            self._corked = []
        self._corked.append(data)
        self._corked_size += len(data)
        self._corked_messages += messages
        if self._corked_size > self._limits.write_high:
            self._flush()

    def send(self, data: bytes) -> Deferred[None]:
        """
        Send `data`. The Deferred fires when the transport has all of it and is below its write mark.

        Cancelling prevents the sending only while the transport has none of the bytes.
        """
        if self.blocked or self._queue or self._corked_size + len(data) > self._limits.write_high:
            self._flush()
            if self.blocked or self._queue:
                return self._wait_with(data, 1)
        self.write(data)
        return self._wait_with(b"", 0) if self.blocked or self._queue else succeed(None)

    def sends(self, stream: Any) -> bool:
        """Whether the transport takes bytes of this `SentStream` now: no bytes wait before it, and nothing blocks."""
        is_first = self._queue is not None and len(self._queue) > 0 and self._queue[0].stream is stream
        return is_first and not self.blocked and not self._lifecycle.stage.drops

    def feed(self) -> None:
        """Go on with what waits: a stream has waited for its source, or for its turn."""
        if not self.blocked:
            self._feed()
            self._report_fed()

    def finish(self) -> int:
        """
        Write the gathered bytes. Once the transport has all bytes, stop being its producer: it can be closed then.

        The outcome `HANDED_OVER` says so, at once or later. ``send_progress`` no longer applies, because ``grace``
        bounds the whole flush.
        """
        self._deadlines.stop("send_progress")
        self._deadlines.start("flush", inf)
        self.uncork_now()
        return self._end_if_all_handed_over()

    def drop(self) -> None:
        """The connection is cut: drop all bytes, and take no more. `end` returns each ``send`` that waits."""
        self._corked, self._corked_size = None, 0
        for waiting in self._queue or ():
            waiting.data = b""
            waiting.given = 0
        self.unsent = 0
        self._take_no_more()

    def end(self, flushed: bool) -> tuple[list[Deferred[None]], list[Deferred[None]]]:
        """
        The connection is lost. Returns the waiting ``send`` calls that have succeeded, and the calls to fail.

        Where it was `flushed`, a ``send`` whose bytes the transport had got has succeeded.
        """
        self._deadlines.stop("send_progress")
        self._corked, self._corked_size = None, 0
        handed, self._handed = self._handed or (), None
        waiting, self._queue = self._queue or (), None
        self.unsent = self._sends = 0
        self._take_no_more()
        has_all = flushed
        ended = [(waiter, has_all) for waiter in handed]
        for each in waiting:
            has_all = has_all and each.given == len(each.data) and each.stream is None
            if each.waiter is not None:
                ended.append((each.waiter, has_all))
        self.transport = self._settler = _NO_TRANSPORT  # TLS keeps a reference to its producer: this breaks the circle
        left = [(waiter, has_got) for waiter, has_got in ended if not waiter.called]  # some were cancelled
        return [waiter for waiter, has_got in left if has_got], [waiter for waiter, has_got in left if not has_got]

    def pauseProducing(self) -> None:
        """The transport has more bytes than its write mark."""
        flushing = self._lifecycle.stage.flushes
        if not self.blocked and not flushing:
            self._deadlines.start("send_progress", self._progress or inf)
        self.blocked = True
        if not flushing:
            self._settler.settle(WRITE_BLOCKED)

    def resumeProducing(self) -> None:
        """The transport has sent its bytes, and takes more."""
        self.blocked = False
        self._deadlines.stop("send_progress")
        self._feed()
        self._report_fed()

    def _report_fed(self) -> None:
        if self._lifecycle.stage.flushes:
            self._settler.settle(self._end_if_all_handed_over())
        elif not self.behind:
            self._settler.settle(WRITE_RESUMED)

    def stopProducing(self) -> None:
        """The transport is gone; `end` follows."""

    @property
    def held(self) -> int:
        """How many bytes are held here, and by the transport: up to twice the write mark when it is over the mark."""
        held = self._corked_size
        if self.blocked:
            held += 2 * self._limits.write_high
        if self._queue:
            held += self._queued + self._queue[0].given  # a message is held whole until its last byte has gone
        if self._handed:
            held += SEND_COST * len(self._handed)
        return held

    @property
    def _queued(self) -> int:
        """The bytes of memory that wait for the transport."""
        return self.unsent + SEND_COST * self._sends

    @property
    def behind(self) -> bool:
        """Whether bytes wait because the peer has not taken earlier ones."""
        return self.blocked or bool(self._queue)

    def _flush(self) -> None:
        if self._corked is not None:
            corked, self._corked, self._corked_size = self._corked, None, 0
            messages, self._corked_messages = self._corked_messages, 0
            self._put(corked[0] if len(corked) == 1 else b"".join(corked), messages)

    def _put(self, data: bytes, messages: int, waited: bool = False) -> None:
        """
        The one place where bytes leave the connection. Bytes that have not `waited` wait behind others, or in pieces.
        """
        size = len(data)
        if not waited and (self.blocked or self._queue or size > self._limits.write_high):
            self._wait(data, messages, None)
            return
        deadlines = self._deadlines
        deadlines.last_sent = now = deadlines.seconds()
        if now >= self.until:
            self.begin_second(now)
        self.messages += messages
        self.bytes += size
        self.transport.write(data)

    def _wait_with(self, data: bytes, messages: int) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._withdraw)
        self._wait(data, messages, waiter)
        return waiter

    def _wait(self, data: bytes, messages: int, waiter: Deferred[None] | None) -> None:
        if self._lifecycle.stage.drops:
            data = b""
        if self._queue is None:
            self._queue = deque()
        before = self._queued
        if waiter is None and self._queue and self._queue[-1].takes(data, self._limits.write_high):
            self._queue[-1].join(data, messages)
        else:
            self._queue.append(WaitingBytes(data, messages, waiter))
            if waiter is not None:
                self._sends += 1
        self.unsent += len(data)
        if not self.blocked and self._queue[0].stream is None:
            self._feed()
        elif before > self._limits.max_unsent and data:
            self._settler.settle(TOO_MUCH_UNSENT, before)
        if self._queue:
            self._settler.settle(BUFFERED_CHANGED)

    def _withdraw(self, waiter: Deferred[None]) -> None:
        """A ``send`` was cancelled: remove its bytes, if the transport has none of them."""
        for waiting in self._queue or ():
            if waiting.waiter is waiter and not waiting.given:
                assert self._queue is not None
                self._queue.remove(waiting)
                self.unsent -= len(waiting.data)
                self._sends -= 1
                break

    def _feed(self) -> None:
        """Give the transport pieces up to the write mark until it has enough, and fire each ``send`` that is done."""
        self._fire_handed()
        while self._queue and not self.blocked and not self._lifecycle.stage.drops:
            stream = self._queue[0].stream
            if stream is None:
                piece, messages = self._next_piece()
                self._put(piece, messages, waited=True)
            else:
                stream.run()
                if self.sends(stream):  # it waits for its source, or for its turn
                    break
            self._fire_handed()

    def _next_piece(self) -> tuple[bytes, int]:
        """Take the bytes of one write, up to the write mark, and the number of messages that end in them."""
        assert self._queue
        messages = 0
        pieces: list[bytes | bytearray] = []
        room = self._limits.write_high
        while self._queue and (room or not self._queue[0].data):
            waiting = self._queue[0]
            if waiting.stream is not None:
                break
            piece = waiting.data
            if waiting.given or len(piece) > room:
                piece = piece[waiting.given : waiting.given + room]
            waiting.given += len(piece)
            room -= len(piece)
            pieces.append(piece)
            if waiting.given == len(waiting.data):
                self._queue.popleft()
                messages += waiting.messages
                self._note_handed(waiting)
        self.unsent -= self._limits.write_high - room
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces), messages

    def _take_no_more(self) -> None:
        """Bytes that are written from now on wait behind a piece that is never fed, and are dropped there."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(WaitingBytes(b"", 0, None))

    def _end_if_all_handed_over(self) -> int:
        if self._queue:
            return NOTHING
        self.transport.unregisterProducer()
        return HANDED_OVER

    def _fire_handed(self) -> None:
        if not self.blocked and not self._lifecycle.stage.drops:
            handed, self._handed = self._handed or (), None
            for waiter in handed:
                if not waiter.called:  # it may have been cancelled
                    waiter.callback(None)

    def _note_handed(self, waiting: WaitingBytes) -> None:
        if waiting.waiter is not None:
            self._sends -= 1
            if self._handed is None:
                self._handed = []
            self._handed.append(waiting.waiter)


classImplements(Outbox, IPushProducer)  # with a decorator it would not be compiled as a native class
