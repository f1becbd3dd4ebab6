"""An outbox with its transport, its sender and its clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import FLUSH, Event, Lifecycle
from tcpapp.connection.outbox import Outbox
from tcpapp.connection.outcomes import (
    BUFFERED_CHANGED,
    HANDED_OVER,
    OVERDUE,
    TOO_MUCH_UNSENT,
    WRITE_BLOCKED,
    WRITE_RESUMED,
)
from tcpapp.connection.unhandled import unlogged
from tcpapp.connection.waiters import fire_all
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits
from tcpapp.telemetry.counters import Throughput
from tests.peers import outcome

CLOSED = NotConnected("the connection is not open", CloseReason(EndedBy.PEER, "end-of-stream", "the peer went"))
HIGH = 10
PROGRESS = 30.0


class Transport(StringTransport):
    """
    A transport whose peer reads when the test says so.

    It pauses its producer as Twisted's does: at every write that leaves it with more than `bufferSize` bytes, until all
    are gone.
    """

    bufferSize = HIGH

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.kept = 0
        self.paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        self.kept += len(data)
        if self.producer is not None and self.kept > self.bufferSize:
            self.paused = True
            self.producer.pauseProducing()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self.paused = False

    def flush(self) -> None:
        """Let the peer read everything."""
        self.kept = 0
        if self.paused:
            self.paused = False
            self.producer.resumeProducing()


class EagerTransport(StringTransport):
    """A transport that pauses and resumes its producer inside every write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()
            self.producer.resumeProducing()


class Sender:
    """A connection that notes the reports of its outbox."""

    is_handling = False

    def __init__(self) -> None:
        self.ending: Any = None
        self.events: list[Any] = []
        self.buffered_changes = 0

    def settle(self, outcome: int, detail: Any = None) -> None:
        if outcome == BUFFERED_CHANGED:
            self.buffered_changes += 1
        elif outcome == TOO_MUCH_UNSENT:
            self.events.append(detail)
        elif outcome == OVERDUE:
            assert detail == ("send_progress", PROGRESS)
            self.events.append("stalled")
        elif outcome:
            self.events.append(
                {WRITE_BLOCKED: "blocked", WRITE_RESUMED: "resumed", HANDED_OVER: "all handed over"}[outcome]
            )
        if outcome == HANDED_OVER:
            self.ending.happen(Event.HANDED_OVER)


class Rig:
    """An outbox with its transport, its sender and its clock."""

    def __init__(self, *, max_unsent: int = 1000, progress: float = PROGRESS, transport: Any = None) -> None:
        self.transport = Transport() if transport is None else transport
        self.sender = Sender()
        self.clock = Clock()
        limits = Limits(write_high=HIGH, max_unsent=max_unsent)
        self.deadlines = Deadlines(self.sender)
        self.deadlines.run_on(self.clock)
        self.ending = self.sender.ending = Lifecycle(self.deadlines)
        self.ending.happen(Event.CONNECTED)
        self.ending.happen(Event.READY)
        self.throughput = Throughput()
        self.outbox = Outbox(
            self.transport, self.sender, self.ending, limits, progress, self.deadlines, self.throughput
        )

    @property
    def counts(self) -> tuple[int, int]:
        """Messages and bytes that count as sent."""
        return self.outbox.messages, self.outbox.bytes

    def block(self) -> None:
        """Fill the transport over its high-water mark, and forget those bytes."""
        self.outbox.write(b"." * HIGH)
        self.outbox.write(b".")
        assert self.outbox.blocked
        self.transport.clear()
        self.transport.writes.clear()
        self.sender.events.clear()

    def finish(self) -> None:
        """Close, as a connection does."""
        self.ending.happen(Event.CLOSE, CLOSED.reason)
        if self.ending.happen(Event.APP_IDLE) & FLUSH:
            self.sender.settle(self.outbox.finish())

    def drop(self) -> None:
        """Drop the unsent bytes, as an aborted connection does."""
        self.ending.happen(Event.ABORT, CLOSED.reason)
        self.outbox.drop()

    def end(self, error: NotConnected, flushed: bool) -> None:
        """Lose the transport."""
        self.ending.happen(Event.LOST, error.reason)
        sent, unsent = self.outbox.end(flushed)
        fire_all(sent, None)
        for each in unsent:
            if not each.called:
                unlogged(each).errback(error)

    def send(self, data: bytes, then: Callable[[Any], Any] = lambda result: None) -> list[Any]:
        """Return a list that gets the result of the `send` when it fires. `then` is called with the result."""
        return outcome(self.outbox.send(data), then)
