"""Iterators as replies of an app that works on several messages at once: sent in their place, or as they are ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Timeouts
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.reply_slot import SLOT_COST
from tcpapp.telemetry import AppFailed
from tests.connection.test_streamed_replies import Fed, Source
from tests.peers import NotedTransport, Peer, stalled

BOTH = pytest.mark.parametrize("replies", ["in-order", "as-ready"])
QUIET = Timeouts(first_message=0, idle=0, handler_timeout=10, send_progress=0)


class Streams:
    """
    An app that answers by the first letter of a message.

    ``s``: an iterator of three messages; ``l``: 100 large ones; ``f``: what the test feeds; ``c``: a coroutine that
    returns what the test feeds, when it says so; ``d``: a Deferred; all others: the message.
    """

    def __init__(self) -> None:
        self.source, self.large = Source(), Source(100, size=20_000)
        self.feds: list[Fed] = []
        self.pending: list[Deferred[Any]] = []

    def fed(self) -> AsyncIterator[Any]:
        """Return another async iterator that the test feeds."""
        self.feds.append(Fed())
        return self.feds[-1].messages()

    def wait(self) -> Deferred[Any]:
        """Return another Deferred that the test fires."""
        self.pending.append(Deferred())
        return self.pending[-1]

    async def fed_later(self) -> AsyncIterator[Any]:
        """Return another async iterator that the test feeds, when it has fired another Deferred."""
        await self.wait()
        return self.fed()

    def received(self, message: bytes, connection: Any) -> Any:
        kinds = {
            b"s": self.source.messages,
            b"l": self.large.messages,
            b"f": self.fed,
            b"c": self.fed_later,
            b"d": self.wait,
        }
        return kinds[message[:1]]() if message[:1] in kinds else message


def serving(replies: str = "in-order", concurrency: int = 9, **options: Any) -> tuple[Streams, Peer]:
    """Return an app that works on several messages at once, and the peer of its connection."""
    app = Streams()
    return app, Peer(app, concurrency=concurrency, replies=replies, **{"timeouts": QUIET, **options})


def held(peer: Peer) -> tuple[int, int, int]:
    """Return the messages in flight, and the bytes that the connection and the memory budget count."""
    info = peer.protocol.info()
    return info.in_flight, info.buffered, peer.factory.settings.memory_budget.total


@BOTH
def test_short_iterators_are_sent_in_the_write_of_the_chunk(replies: str) -> None:
    """Iterators that take no time are part of the one write of the chunk, in the order of the messages."""
    _, peer = serving(replies)
    peer.says(b"a\ns\nb\ns\n")
    assert (peer.transport.writes, held(peer)) == ([b"a\n0\n1\n2\nb\n0\n1\n2\n"], (0, 0, 0))


def test_an_iterator_begins_in_its_place() -> None:
    """In order, an iterator waits until the replies before it are sent, and replies behind it wait for its end."""
    app, peer = serving()
    peer.says(b"d\ns\nf\nb\nd\ns\n")
    assert (app.source.taken, app.feds[0].asked, peer.protocol.info().in_flight) == (0, [], 6)
    app.pending[0].callback(b"A")
    assert (peer.hears(), app.source.ended) == (b"A\n0\n1\n2\n", ["exhausted"])
    app.feds[0].asked[-1].callback(b"fed")
    assert peer.hears() == b"fed\n"
    app.pending[1].callback(b"B")
    app.feds[0].asked[-1].callback(None)
    assert (peer.hears(), held(peer)) == (b"b\nB\n0\n1\n2\n", (0, 0, 0))


def test_a_thousand_iterators_that_wait_are_sent_one_after_another() -> None:
    """A thousand iterators behind a slow reply are sent in one go when it comes, without a deep recursion."""
    app, peer = serving(concurrency=2000)
    peer.says(b"d\n")
    for _ in range(10):
        peer.says(b"s\n" * 100)
    app.pending[0].callback(b"A")
    peer.clock.advance(0)
    assert (peer.hears(), held(peer)) == (b"A\n" + b"0\n1\n2\n" * 1000, (0, 0, 0))


def test_iterators_as_ready_are_sent_side_by_side() -> None:
    """As they are ready, the messages of several iterators, and other replies, are sent as they come."""
    app, peer = serving("as-ready")
    peer.says(b"f\nf\nd\ns\n")
    assert peer.hears() == b"0\n1\n2\n"
    app.feds[1].asked[-1].callback(b"B1")
    app.feds[0].asked[-1].callback(b"A1")
    app.pending[0].callback(b"D")
    app.feds[1].asked[-1].callback(b"B2")
    assert peer.hears() == b"B1\nA1\nD\nB2\n"
    for each in app.feds:
        each.asked[-1].callback(None)
    assert held(peer) == (0, 0, 0)


@BOTH
def test_a_coroutine_can_return_an_iterator(replies: str) -> None:
    """An iterator that a coroutine returns is sent in the place of its message."""
    app, peer = serving(replies)
    peer.says(b"d\nc\nb\n")
    app.pending[1].callback(None)
    assert len(app.feds[0].asked) == (replies == "as-ready")
    app.pending[0].callback(b"A")
    app.feds[0].asked[-1].callback(b"C")
    app.feds[0].asked[-1].callback(None)
    assert (peer.hears(), held(peer)) == (b"A\nC\nb\n" if replies == "in-order" else b"b\nA\nC\n", (0, 0, 0))


@BOTH
def test_an_iterator_counts_as_one_message(replies: str) -> None:
    """An iterator takes one of the places of the concurrency, and its message counts as held, until it ends."""
    app, peer = serving(replies, concurrency=2)
    each = 1 + MESSAGE_COST + SLOT_COST
    peer.says(b"f\nf\n")
    assert held(peer) == (2, 2 * each, 2 * each)
    peer.says(b"f\n")
    assert (len(app.feds), peer.connection.unread) == (2, 1)
    app.feds[0].asked[-1].callback(None)
    assert (len(app.feds), peer.connection.unread) == (3, 0)


@BOTH
def test_a_peer_that_does_not_read_stops_the_iterators(replies: str) -> None:
    """While the peer does not read, no iterator is asked for its next message."""
    app = Streams()
    peer = stalled(app, concurrency=9, replies=replies, timeouts=QUIET)
    peer.says(b"l\nf\n")
    taken = app.large.taken
    assert taken <= 8
    peer.clock.advance(100)
    assert (app.large.taken, peer.closing) == (taken, False)
    peer.transport.go_on()
    peer.clock.advance(0)
    assert (app.large.taken, peer.hears().count(b"\n")) == (100, 100)
    app.feds[0].asked[-1].callback(b"x")
    assert peer.hears() == b"x\n"


def test_an_iterator_that_has_its_place_waits_for_the_peer() -> None:
    """An iterator whose place has come is asked for its first message when the peer has read what is before it."""
    app = Streams()
    peer = stalled(app, concurrency=9, timeouts=QUIET)
    peer.says(b"d\ns\n")
    app.pending[0].callback(b"x" * 200_000)
    assert app.source.taken == 0
    peer.transport.go_on()
    assert (peer.hears(), held(peer)) == (b"x" * 200_000 + b"\n0\n1\n2\n", (0, 0, 0))


@BOTH
def test_handler_timeout_is_counted_for_what_the_app_owes(replies: str) -> None:
    """A stream that makes progress has its time anew. A Deferred beside it has its time from its message on."""
    app, peer = serving(replies)
    peer.says(b"f\nd\n")
    peer.clock.advance(6)
    app.feds[0].asked[-1].callback(b"1")
    peer.clock.advance(3.5)
    assert (peer.closing, peer.protocol.info().deadline.seconds) == (False, 0.5)
    app.pending[0].callback(b"D")
    assert peer.protocol.info().deadline.seconds == 6.5
    peer.clock.advance(6.5)
    assert (peer.closing, app.feds[0].ended) == (True, ["cancelled"])
    peer.transport.turn()
    assert peer.reason.rule == "handler-timeout"


def test_an_iterator_that_waits_for_its_place_is_not_late() -> None:
    """A stream that waits for the replies before it has its time from the moment when it begins."""
    app, peer = serving()
    peer.says(b"d\nf\n")
    peer.clock.advance(9)
    app.pending[0].callback(b"A")
    peer.clock.advance(9)
    assert (peer.closing, peer.protocol.info().deadline.seconds) == (False, 1)
    app.feds[0].asked[-1].callback(b"1")
    assert peer.protocol.info().deadline.seconds == 10


@BOTH
def test_the_failure_of_another_message_closes_the_iterators_behind_it(replies: str) -> None:
    """When a message fails, the iterators of later messages are closed. An iterator before it is sent to its end."""
    app, peer = serving(replies)
    peer.says(b"f\nd\nf\nl\nd\n")
    app.pending[0].errback(ValueError())
    ended = [each.ended for each in app.feds]
    assert ended[0] == []
    assert replies == "in-order" or ended[1] == ["cancelled"]
    app.feds[0].asked[-1].callback(b"1")
    assert not peer.closing
    app.feds[0].asked[-1].callback(None)
    assert peer.closing
    peer.transport.turn()
    assert (peer.reason.rule, len(peer.told(AppFailed)), held(peer)) == ("app-failed", 1, (0, 0, 0))
    assert app.large.ended in ([], ["closed"], ["exhausted"])


@BOTH
def test_an_iterator_that_fails_fails_in_its_place(replies: str) -> None:
    """An iterator that raises ends the connection after what it sent. Later messages are cancelled."""
    app, peer = serving(replies)
    peer.says(b"f\nd\n")
    app.feds[0].asked[-1].callback(b"1")
    app.feds[0].asked[-1].errback(ValueError())
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, app.pending[0].called) == (b"1\n", "app-failed", True)


@BOTH
@pytest.mark.parametrize("how", ["close", "abort", "reset", "time"])
def test_every_iterator_is_closed_at_the_end(replies: str, how: str) -> None:
    """However the connection ends, each iterator is closed, whether it waits for its place, for the app or the peer."""
    app = Streams()
    peer = stalled(app, concurrency=9, replies=replies, timeouts=QUIET)
    peer.says(b"f\nl\nc\nf\nl\n")
    if how == "reset":
        peer.resets()
    elif how == "time":
        peer.clock.advance(10)
    else:
        getattr(peer.connection, how)()
    if not peer.transport.disconnected:
        peer.transport.go_on()
    peer.transport.turn()
    assert [each.ended for each in app.feds if each.asked] == [["cancelled"]] * sum(1 for e in app.feds if e.asked)
    assert len(app.large.ended) == app.large.begun
    assert (held(peer), peer.told(AppFailed), peer.timers) == ((0, 0, 0), [], [])


@BOTH
def test_an_iterator_that_comes_too_late_is_closed(replies: str) -> None:
    """An iterator that a coroutine returns after its message was cancelled is closed, and nothing of it is taken."""
    closed: list[bool] = []

    class Closable(Source):
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> bytes:
            raise AssertionError

        def close(self) -> None:
            closed.append(True)

    pending: list[Deferred[Any]] = []

    def app(message: bytes, connection: Any) -> Any:
        pending.append(Deferred(lambda each: each.callback(Closable())))
        return pending[-1]

    peer = Peer(app, concurrency=3, replies=replies)
    peer.says(b"A\nB\nC\n")
    pending[1].errback(ValueError())
    assert closed == [True]
    pending[0].callback(None)
    peer.transport.turn()
    assert (closed, len(peer.told(AppFailed))) == ([True], 1)
    ended = Peer(app, concurrency=3, replies=replies)
    ended.says(b"A\n")
    ended.resets()
    assert (closed, ended.told(AppFailed)) == ([True] * 2, [])


@BOTH
@pytest.mark.parametrize("how", ["drain", "half-close"])
def test_a_drain_waits_for_all_iterators(replies: str, how: str) -> None:
    """After a drain or a half-close, all iterators are sent to their end."""
    app, peer = serving(replies)
    peer.says(b"f\nd\ns\nf\n")
    if how == "drain":
        peer.connection.drain()
    else:
        peer.half_closes()
    app.pending[0].callback(b"D")
    for each in app.feds:
        each.asked[-1].callback(b"x")
        assert not peer.closing
        each.asked[-1].callback(None)
    assert peer.closing
    peer.transport.turn()
    assert sorted(peer.hears().split()) == [b"0", b"1", b"2", b"D", b"x", b"x"]
    assert peer.reason.clean


@BOTH
def test_a_greeting_of_many_messages_comes_first(replies: str) -> None:
    """The greeting can be an iterator. No message is handled before it has ended, and its time is bounded."""
    fed = Fed()

    class App(Streams):
        def opened(self, connection: Any) -> Any:
            return fed.messages()

    peer = Peer(App(), concurrency=3, replies=replies, timeouts=QUIET)
    peer.says(b"a\n")
    peer.clock.advance(9)
    fed.asked[-1].callback(b"welcome")
    peer.clock.advance(9)
    fed.asked[-1].callback(None)
    assert peer.hears() == b"welcome\na\n"


def test_a_greeting_waits_for_the_peer() -> None:
    """A greeting of many messages stops while the peer does not read."""
    source = Source(100, size=20_000)

    class App(Streams):
        def opened(self, connection: Any) -> Any:
            return source.messages()

    peer = Peer(App(), concurrency=3, timeouts=QUIET, transport=NotedTransport(peer_reads=False))
    peer.clock.advance(60)
    assert (source.taken < 9, peer.closing) == (True, False)
