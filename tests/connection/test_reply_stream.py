"""The stream of one reply: when it takes the next message of its source, and how it ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tcpapp.connection.pause_flags import CONNECTION_CLOSED, CONNECTION_CLOSING
from tcpapp.connection.reply_stream import ReplyStream
from tcpapp.limits.fairness import FairShare
from tests.peers import outcome


class Rig:
    """A stream, its sender and its outbox, which note what they are told."""

    behind = False

    def __init__(self, source: Any, write_high: int = 65_536) -> None:
        self.pauses = 0
        self.clock = Clock()
        self.fair_share = FairShare()
        self.replies: list[Any] = []
        self.written: list[list[Any]] = []
        self.told: list[str] = []
        outbox: Any = self
        self.stream = ReplyStream(
            source, self, outbox, self.fair_share, self.clock, self.clock.seconds, 250e-6, write_high
        )

    def add_reply(self, reply: Any) -> int:
        self.replies.append(reply)
        return len(reply)

    def flush(self) -> None:
        if self.replies:
            self.written.append(self.replies)
            self.replies = []

    def go_on(self, stream: ReplyStream) -> None:
        stream.open()

    def stream_waits(self, stream: ReplyStream) -> None:
        self.told.append("waits")

    def stream_runs(self, stream: ReplyStream) -> None:
        self.told.append("runs")


def test_all_messages_are_written_together() -> None:
    """The messages of an iterator that takes no time are one write."""
    rig = Rig(iter([b"a", b"b"]))
    assert outcome(rig.stream.start()) == [None]
    assert (rig.written, rig.told) == ([[b"a", b"b"]], ["runs"])


def test_more_than_the_write_mark_is_written_in_parts() -> None:
    """When the messages exceed the write mark, they are written, and the next ones are gathered anew."""
    rig = Rig(iter([b"aa", b"bb", b"cc"]), write_high=3)
    rig.stream.start()
    assert rig.written == [[b"aa", b"bb"], [b"cc"]]


def test_it_takes_nothing_before_it_has_its_place() -> None:
    """A stream that waits for replies before it does not touch its source."""
    taken: list[int] = []

    def source() -> Iterator[bytes]:
        taken.append(1)
        yield b"a"

    rig = Rig(source())
    rig.stream.in_place = False
    rig.stream.start()
    assert (taken, rig.stream.waits, rig.stream.can_go_on, rig.told) == ([], True, False, ["waits"])
    rig.stream.in_place = True
    assert rig.stream.can_go_on
    rig.stream.open()
    rig.stream.open()
    assert (taken, rig.written, rig.stream.waits, rig.told) == ([1], [[b"a"]], False, ["waits", "runs"])


def test_it_waits_for_its_turn_and_for_the_peer() -> None:
    """A turn that comes while the peer does not read lets it go on only when the peer reads again."""
    rig = Rig(None)

    def source() -> Iterator[bytes]:
        yield b"a"
        rig.clock.rightNow += 1
        yield b"b"
        yield b"c"

    rig.stream._source = source()
    rig.stream.start()
    rig.behind = True
    rig.clock.advance(0)
    assert (rig.written, rig.stream.waits) == ([[b"a", b"b"]], True)
    rig.behind = False
    rig.stream.open()
    assert rig.written == [[b"a", b"b"], [b"c"]]


def test_the_time_that_a_source_waits_is_no_work() -> None:
    """An async iterator that waits for a long time needs no turn for its next message."""
    asked: list[Deferred[None]] = []

    async def source() -> AsyncIterator[bytes]:
        for each in (b"a", b"b"):
            asked.append(Deferred())
            await asked[-1]
            yield each

    rig = Rig(source())
    ended = outcome(rig.stream.start())
    for number in range(2):
        rig.clock.advance(60)
        asked[number].callback(None)
    assert (rig.written, ended, len(rig.fair_share), rig.told) == ([[b"a"], [b"b"]], [None], 0, ["runs"] * 3)


def test_an_async_iterator_of_any_kind_is_sent() -> None:
    """An async iterator need not be a generator: its ``__anext__`` can return any awaitable."""

    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def __aiter__(self) -> Counter:
            return self

        def __anext__(self) -> Deferred[bytes]:
            self.count += 1
            reply: Deferred[bytes] = Deferred()
            if self.count > 2:
                reply.errback(StopAsyncIteration())
            else:
                reply.callback(b"x")
            return reply

    rig = Rig(Counter())
    assert outcome(rig.stream.start()) == [None]
    assert rig.written == [[b"x"], [b"x"]]


@pytest.mark.parametrize("pauses", [CONNECTION_CLOSING, CONNECTION_CLOSING | CONNECTION_CLOSED])
def test_it_ends_when_the_connection_closes(pauses: int) -> None:
    """Once the connection closes no message is taken. Messages before that are written, unless it is closed."""
    rig = Rig(None)

    def source() -> Iterator[bytes]:
        yield b"a"
        rig.pauses = pauses
        yield b"b"

    rig.stream._source = source()
    [error] = outcome(rig.stream.start())
    assert isinstance(error, CancelledError)
    assert rig.written == ([] if pauses & CONNECTION_CLOSED else [[b"a"]])


def test_it_takes_nothing_of_a_connection_that_closes() -> None:
    """A stream that begins while the connection closes is only closed."""
    closed: list[bool] = []

    class Source(Iterator[bytes]):
        def __next__(self) -> bytes:
            raise AssertionError

        def close(self) -> None:
            closed.append(True)

    rig = Rig(Source())
    rig.pauses = CONNECTION_CLOSING
    [error] = outcome(rig.stream.start())
    assert (isinstance(error, CancelledError), closed) == (True, [True])


@pytest.mark.parametrize("waits", ["source", "place"])
def test_a_stream_that_is_freed_says_nothing(waits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is never ended, and freed with its connection, raises nothing that Python would print."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def source() -> AsyncIterator[bytes]:
        await Deferred()
        yield b"a"

    rig = Rig(source())
    rig.stream.in_place = waits == "source"
    rig.stream.start()
    del rig
    gc.collect()
    assert unraisable == []
