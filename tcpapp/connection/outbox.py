"""
The bytes of one connection that are on their way out.

Bytes that the transport cannot take now wait here, and are fed to it a piece at a time. So the outbox can distinguish
a slow peer from a peer that takes nothing, and a ``send`` waits for its own message only. Small writes are joined.
Everything has a bound: the bytes that wait (``max_unsent``), and the time without progress (``send_progress``). While
the connection closes, unsent bytes are fed and counted in the same way, until the transport has them all.
"""

from __future__ import annotations

from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import classImplements

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.fired import fired
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
from tcpapp.connection.shared_message import SharedMessage
from tcpapp.connection.unsent_queue import SEND_COST, UnsentQueue
from tcpapp.limits import Limits
from tcpapp.telemetry.counters import Throughput
from tcpapp.transport.direct import has_socket, send_now, writes_later

__all__ = ["SEND_COST", "Outbox"]


class _NoTransport:
    """Stands in for the transport and the connection of an outbox after the end: its methods do nothing."""

    def write(self, data: bytes) -> None: ...

    def unregisterProducer(self) -> None: ...

    def settle(self, outcome: int, detail: Any = None) -> None: ...

    is_handling = False


_NO_TRANSPORT: Final = _NoTransport()


class Outbox(UnsentQueue):
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
        "_has_socket",
        "_is_corked",
        "_progress",
        "_writes_later",
        "stays_corked",
        "transport",
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
        super().__init__(settler, lifecycle, limits, throughput)
        self.transport = transport
        self._progress = progress
        self._deadlines = deadlines
        self._corked: list[bytes] | None = None
        self._corked_size = 0
        self._corked_messages = 0
        self._is_corked = False
        self._has_socket = has_socket(transport)
        self._writes_later = self._has_socket and writes_later(transport)
        self.stays_corked = False
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
            self._flush(self._writes_later)
        else:
            self._is_corked = False
            if last:
                self._put(last, messages, None, self._writes_later)

    def uncork_now(self) -> None:
        """Write the gathered bytes now, and end `stays_corked`."""
        self.stays_corked = False
        self.uncork()
        if self._queue:  # a long message waits for its turn
            self.feed()

    def write(self, data: bytes, messages: int = 1) -> None:
        """Send `data`, which carries this many `messages`, after all earlier bytes."""
        if not self._is_corked:
            self._put(data, messages)
            return
        size = self._corked_size + len(data)
        if size > self.write_high:  # a write ends where a message ends, unless that is a long one
            self._flush()
            self._put(data, messages)
            return
        if self._corked is None:
            self._corked = []
        self._corked.append(data)
        self._corked_size = size
        self._corked_messages += messages

    def write_all(self, framed: list[bytes]) -> None:
        """
        Send messages after all earlier bytes. For ``max_unsent`` they are one write, however long they are together.
        """
        if self._corked_size + sum([len(data) for data in framed]) <= self.write_high:
            self.write(b"".join(framed), len(framed))
            return
        self._flush()
        before = self._queued
        for data in framed:
            self._append(data, 1, None)
        self._feed_or_wait(before, True)

    def write_shared(self, shared: SharedMessage) -> bool:
        """
        Send a message that other connections send, too, after all earlier bytes. Returns whether `take_turn` has to be
        called in a later turn: on a socket, the message is written then, or by the next write before that.
        """
        data = shared.data
        if self._is_corked:
            self.write(data)
            return False
        if self.blocked or self._queue or not self._has_socket:
            self._put(data, 1, shared)
            return False
        if len(data) > self.write_high:
            self._append(data, 1, None, shared)
        else:  # `shared` counts these bytes, until they are written
            self._is_corked = True
            self._corked = [data]
            self._corked_messages = 1
        return True

    def take_turn(self) -> None:
        """The turn of `write_shared` has come: write its message, straight to the socket if that takes it."""
        self._is_corked = False
        if self._corked is not None:
            self._flush(True)
        elif self._queue:
            self.feed()

    def send(self, data: bytes) -> Deferred[None]:
        """
        Send `data`. The Deferred fires when the transport has all of it and is below its write mark.

        Cancelling prevents the sending only while the transport has none of the bytes.
        """
        if self._is_corked and not self.blocked and not self._queue:
            size = self._corked_size + len(data)
            if size <= self.write_high:  # as `write`, in one step
                if self._corked is None:
                    self._corked = []
                self._corked.append(data)
                self._corked_size = size
                self._corked_messages += 1
                return fired()
        if self.blocked or self._queue or self._corked_size + len(data) > self.write_high:
            self._flush()
            if self.blocked or self._queue:
                return self._wait_with(data, 1)
        self.write(data)
        return self._wait_with(b"", 0) if self.blocked or self._queue else fired()

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
        self._leave_shared()
        self._take_no_more()

    def end(self, flushed: bool) -> tuple[list[Deferred[None]], list[Deferred[None]]]:
        """
        The connection is lost. Returns the waiting ``send`` calls that have succeeded, and the calls to fail.

        Where it was `flushed`, a ``send`` whose bytes the transport had got has succeeded.
        """
        self._deadlines.stop("send_progress")
        self._corked, self._corked_size = None, 0
        handed, self._handed = self._handed, None
        self._leave_shared()
        waiting, self._queue = self._queue, None
        self.unsent = self._sends = 0
        self._take_no_more()
        if not handed and not waiting:
            self.transport = self._settler = _NO_TRANSPORT
            return [], []
        has_all = flushed
        ended = [(waiter, has_all) for waiter in handed or ()]
        for each in waiting or ():
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
            held += 2 * self.write_high
        if self._queue:
            held += self._queued - self._shared
            if self._queue[0].shared is None:
                held += self._queue[0].given  # a message is held whole until its last byte has gone
        if self._handed:
            held += SEND_COST * len(self._handed)
        return held

    @property
    def behind(self) -> bool:
        """Whether bytes wait because the peer has not taken earlier ones."""
        return self.blocked or bool(self._queue)

    @property
    def at_rest(self) -> bool:
        """Whether the transport has all bytes, and takes more."""
        return not (self.blocked or self._queue or self._corked or self._handed or self._is_corked)

    def _flush(self, at_once: bool = False) -> None:
        if self._corked is not None:
            corked, self._corked, self._corked_size = self._corked, None, 0
            messages, self._corked_messages = self._corked_messages, 0
            self._put(corked[0] if len(corked) == 1 else b"".join(corked), messages, None, at_once)

    def _put(self, data: bytes, messages: int, shared: SharedMessage | None = None, at_once: bool = False) -> None:
        """
        Hand over `data`, or let it wait behind other bytes, or in pieces.

        `shared`: other connections send these bytes, too. `at_once`: they can go straight to the socket.
        """
        if self.blocked or self._queue or len(data) > self.write_high:
            self._wait(data, messages, None, shared)
        else:
            self.hand_over(data, messages, at_once)

    def hand_over(self, data: bytes, messages: int, at_once: bool = False) -> None:
        """Give the transport `data`: the one place where bytes leave the connection."""
        size = len(data)
        deadlines = self._deadlines
        deadlines.last_sent = now = deadlines.seconds()
        if now >= self.until:
            self.begin_second(now)
        self.messages += messages
        self.bytes += size
        if at_once and (sent := send_now(self.transport, data)):
            if sent == size:
                return
            data = data[sent:]
        self.transport.write(data)

    def _wait_with(self, data: bytes, messages: int) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._withdraw)
        self._wait(data, messages, waiter)
        return waiter

    def _wait(
        self, data: bytes, messages: int, waiter: Deferred[None] | None, shared: SharedMessage | None = None
    ) -> None:
        before = self._queued
        self._append(data, messages, waiter, shared)
        self._feed_or_wait(before, bool(data))

    def _feed_or_wait(self, before: int, grows: bool) -> None:
        """Bytes were added to the `before` that waited: give them to the transport, or check that these are few."""
        assert self._queue is not None
        if not self.blocked and self._queue[0].stream is None:
            self._feed()
        elif before > self._limits.max_unsent and grows:
            self._settler.settle(TOO_MUCH_UNSENT, before)
        if self._queue:
            self._settler.settle(BUFFERED_CHANGED)

    def _feed(self) -> None:
        """Give the transport pieces up to the write mark until it has enough, and fire each ``send`` that is done."""
        self._fire_handed()
        while self._queue and not self.blocked and not self._lifecycle.stage.drops:
            stream = self._queue[0].stream
            if stream is None:
                piece, messages, taken = self._next_piece()
                self.hand_over(piece, messages)
                for shared in taken:  # last: the memory that this frees can be of use to any connection, at once
                    shared.leave(self._settler)
            else:
                stream.run()
                if self.sends(stream):  # it waits for its source, or for its turn
                    break
            self._fire_handed()

    def _end_if_all_handed_over(self) -> int:
        if self._queue:
            return NOTHING
        self.transport.unregisterProducer()
        return HANDED_OVER


classImplements(Outbox, IPushProducer)  # a compiled class takes no decorator
