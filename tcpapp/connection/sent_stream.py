"""
Raw bytes that a connection sends piece by piece: a file, or whatever an iterator gives.

The stream has its place in the outbox: earlier bytes go before it, later ones wait behind it. The outbox calls `run`
when the transport takes bytes, and the stream gives pieces until the transport is over its mark, the source has none
yet, or its time in this turn is over. So at most one piece is held, however long the stream is.

A stream is sent whole, or the connection is cut. The peer was told how long the stream is, or reads on to its end. So
it would take the next message for a part of the stream.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import APP_FAILED, BUFFERED_CHANGED, STREAM_CUT, TOO_MUCH_UNSENT, WRITE_BLOCKED
from tcpapp.connection.stream_sources import Source
from tcpapp.connection.waiting_bytes import WaitingBytes
from tcpapp.limits.fairness import turn_seconds
from tcpapp.spec import line_of

if TYPE_CHECKING:
    from tcpapp.connection.parts import Parts

__all__ = ["SentStream", "send_stream"]


class SentStream:
    """The bytes of a `source` in the `outbox` of a connection."""

    def __init__(self, connection: Parts, source: Source, outbox: Outbox) -> None:
        settings = connection._settings
        self._connection = connection
        self._source = source
        self._outbox = outbox
        self._deadlines = connection._deadlines
        self._clock = connection._clock
        self._fair_share = settings.fair_share
        self._handler_seconds = settings.timeouts.handler_timeout
        self._piece = settings.limits.write_high
        self._budget = turn_seconds(settings.limits.work_per_turn) if self._clock is not None else inf
        self._ends = inf
        self._running = False
        self._is_over = False
        source.arrived = self._go_on

    def run(self) -> None:
        """Give the outbox pieces while it takes them. The outbox calls it; a source that sends itself is not asked."""
        if self._running:
            return
        self._running = True
        self._ends = self._deadlines.seconds() + self._budget
        try:
            self._give_pieces()
        except Exception as error:
            self._cut(f"the source of a stream raised {type(error).__name__}: {safe_str(error)}", Failure())
        finally:
            self._running = False
            if self._is_over:
                self._close()

    def _go_on(self) -> None:
        self._outbox.feed()

    def _give_pieces(self) -> None:
        outbox, source = self._outbox, self._source
        while outbox.sends(self):
            if sent := source.send(outbox.transport):
                self._note_sent(sent)
            else:
                piece = source.read(self._piece, self._has_time)
                if not outbox.sends(self):  # the source has ended the connection
                    break
                if piece is None:
                    self._end()
                elif piece:
                    self._give(piece)
                elif source.waits:
                    break
            if source.is_whole:
                self._end()
            if not self._has_time():
                self._wait_for_turn()
                break

    def _has_time(self) -> bool:
        return self._deadlines.seconds() < self._ends

    def _wait_for_turn(self) -> None:
        if self._clock is not None and self._outbox.sends(self):
            self._fair_share.wait(self._go_on, self._clock)

    def _give(self, piece: bytes) -> None:
        outbox = self._outbox
        self._note_progress()
        if len(piece) <= self._piece:
            outbox.hand_over(piece, 0)
        else:  # it waits before the stream, and counts as unsent
            assert outbox._queue is not None
            outbox._queue.appendleft(WaitingBytes(piece, 0, None))
            outbox.unsent += len(piece)

    def _note_sent(self, size: int) -> None:
        """The kernel has sent these bytes: they count as written ones."""
        outbox, deadlines = self._outbox, self._deadlines
        self._note_progress()
        deadlines.last_sent = now = deadlines.seconds()
        if now >= outbox.until:
            outbox.begin_second(now)
        outbox.bytes += size

    def _note_progress(self) -> None:
        """
        The app's time for a reply begins again with each piece: a long stream is not a slow app.

        So does the time for a peer that has closed its side.
        """
        ending = self._connection._lifecycle._overdue_reason
        if ending is not None and ending.rule == "half-close-over" and self._deadlines.ends("ending") < inf:
            self._deadlines.start("ending", ending.limit or 0.0)
        if self._handler_seconds and self._deadlines.began("handler_timeout") < inf:
            self._deadlines.start("handler_timeout", self._handler_seconds)

    def _end(self) -> None:
        """The source has given all of its bytes."""
        queue = self._outbox._queue
        if queue and queue[0].stream is self:
            self._outbox._note_handed(queue.popleft())

    def cancel(self) -> None:
        """The caller no longer wants it to be sent."""
        self._cut("the sending of a stream was cancelled", Failure(CancelledError()))

    def _cut(self, detail: str, failure: Failure) -> None:
        """The bytes will never be whole: cut the connection, then fail the caller's Deferred."""
        waiter = self._leave()
        if waiter is not None:  # else all bytes are given, or the connection has ended
            cause = CloseReason(EndedBy.US, "stream-cut", line_of(detail), error=failure.value)
            self._connection.settle(STREAM_CUT, cause)
            waiter.errback(failure)

    def _leave(self) -> Deferred[None] | None:
        """Return the caller's Deferred, and leave the place in the outbox without it: nothing behind it is sent."""
        for waiting in self._outbox._queue or ():
            if waiting.stream is self and waiting.waiter is not None:
                waiter, waiting.waiter = waiting.waiter, None
                self._outbox._sends -= 1
                return waiter
        return None

    def over(self, result: Any) -> Any:
        """The caller's Deferred fires: close the source. Returns how many bytes were sent, or the failure."""
        self._fair_share.cancel(self._go_on)
        self._is_over = True
        if not self._running:  # else a generator runs, and is closed when it has given its piece
            self._close()
        return result if isinstance(result, Failure) else self._source.taken

    def _close(self) -> None:
        self._source.detach()  # the source and this refer to each other
        try:
            closing = self._source.close()
        except Exception:
            self._close_failed(Failure())
        else:
            if closing is not None:
                closing.addErrback(self._close_failed)

    def _close_failed(self, failure: Failure) -> None:
        self._connection.settle(APP_FAILED, failure)


def send_stream(connection: Parts, source: Source) -> Deferred[int]:
    """
    Send the bytes of `source` over an open connection, after all bytes that were written before.

    The Deferred fires with their number when the transport has them all and is below its write mark.
    """
    outbox: Any = connection._outbox if connection._recording is None else connection._recording.outbox
    stream = SentStream(connection, source, outbox)
    outbox._flush()
    waiter: Deferred[None] = Deferred(lambda _: stream.cancel())
    sent: Deferred[int] = waiter.addBoth(stream.over)  # first, so that the source is closed before the caller goes on
    if outbox._queue is None:
        outbox._queue = deque()
    before = outbox._queued
    outbox._queue.append(WaitingBytes(b"", 0, waiter, stream))
    outbox._sends += 1
    if before > outbox._limits.max_unsent:
        connection.settle(TOO_MUCH_UNSENT, before)
    if not outbox.blocked and outbox._queue[0].stream is stream:
        outbox._feed()
    if outbox._queue and connection._lifecycle.stage.sends:
        connection.settle(WRITE_BLOCKED | BUFFERED_CHANGED)
    return sent
