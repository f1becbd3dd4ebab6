"""Several messages at once: the app gets up to `concurrency` of them, and their replies come in order, or as ready."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from tcpapp import Limits, Reply, Timeouts
from tcpapp.apps import echo
from tcpapp.connection.concurrent_dispatcher import ConcurrentDispatcher
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.reply_slot import SLOT_COST, Slot
from tcpapp.telemetry import AppFailed
from tests.peers import AbruptTransport, NotedTransport, Peer, Switch, never, stalled

BOTH = pytest.mark.parametrize("replies", ["in-order", "as-ready"])


class Broken(Exception):
    """An error of the app."""


class Mixed:
    """An app that answers lower-case messages at once, and others when the test says so; ``!`` raises."""

    def __init__(self) -> None:
        self.pending: dict[bytes, Deferred[Any]] = {}
        self.ended: list[Any] = []
        self.cancelled: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> Any:
        if message == b"!":
            raise Broken
        if message == b"-":
            return None
        if message.islower():
            return message
        self.pending[message] = Deferred(lambda _: self.cancelled.append(message))
        return self.pending[message]

    def answer(self, *messages: bytes) -> None:
        """Answer these messages with themselves."""
        for each in messages:
            self.pending.pop(each).callback(each)

    def closed(self, connection: Any, reason: Any) -> None:
        self.ended.append(reason)


def serving(app: Any = None, concurrency: int = 3, **options: Any) -> Peer:
    """Return the peer of a connection whose app works on several messages at once."""
    return Peer(Mixed() if app is None else app, concurrency=concurrency, **options)


def held(peer: Peer) -> tuple[int, int, int]:
    """Return the messages in flight, and the bytes that the connection and the memory budget count."""
    info = peer.protocol.info()
    return info.in_flight, info.buffered, peer.factory.settings.memory_budget.total


def reasons(peer: Peer) -> list[str]:
    """Return what holds the connection back."""
    return [each.reason for each in peer.protocol.info().holds]


# How many, and in which order -----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("chunks", [[b"A\nB\nC\nD\n"], [b"A\n", b"B\n", b"C\n", b"D\n"]], ids=["chunk", "chunks"])
def test_the_app_gets_no_more_messages_at_once_than_the_concurrency(replies: str, chunks: list[bytes]) -> None:
    """Up to `concurrency` messages are handed to the app. The next one waits in the inbox until one is answered."""
    app = Mixed()
    peer = serving(app, replies=replies)
    for each in chunks:
        peer.says(each)
    assert list(app.pending) == [b"A", b"B", b"C"]
    assert (peer.protocol.info().in_flight, peer.connection.unread, reasons(peer)) == (3, 1, ["awaiting-reply"])
    app.answer(b"A")
    assert list(app.pending) == [b"B", b"C", b"D"]
    app.answer(b"B", b"C", b"D")
    assert peer.hears() == b"A\nB\nC\nD\n"
    assert (held(peer), reasons(peer)) == ((0, 0, 0), [])


def test_replies_in_order_wait_for_earlier_ones() -> None:
    """A reply that comes early waits for the replies before it. Then all of them are one write."""
    app = Mixed()
    peer = serving(app)
    peer.says(b"A\nB\nC\n")
    app.answer(b"C", b"B")
    assert (peer.hears(), peer.protocol.info().in_flight) == (b"", 3)
    peer.transport.writes.clear()
    app.answer(b"A")
    assert peer.transport.writes == [b"A\nB\nC\n"]


def test_replies_as_ready_wait_for_nothing() -> None:
    """With replies as they are ready, each is sent when it is there, and makes room for another message."""
    app = Mixed()
    peer = serving(app, replies="as-ready")
    peer.says(b"A\nB\nC\nd\n-\nE\n")
    app.answer(b"C")
    assert (peer.hears(), list(app.pending)) == (b"C\nd\n", [b"A", b"B", b"E"])
    app.answer(b"E", b"A", b"B")
    assert peer.hears() == b"E\nA\nB\n"


def test_a_reply_that_is_there_at_once_waits_in_its_place() -> None:
    """An app that answers at once while an earlier reply is pending has its reply sent in order."""
    app = Mixed()
    peer = serving(app, concurrency=9)
    peer.says(b"a\nB\nc\n-\nD\ne\n")
    assert (peer.hears(), peer.protocol.info().in_flight) == (b"a\n", 4)
    peer.says(b"f\n")
    app.answer(b"B")
    assert (peer.hears(), peer.protocol.info().in_flight) == (b"B\nc\n", 3)
    app.answer(b"D")
    assert (peer.hears(), held(peer)) == (b"D\ne\nf\n", (0, 0, 0))


@BOTH
def test_an_app_that_answers_at_once_makes_no_slot(replies: str) -> None:
    """Replies at once, without a pending one before them, are sent as with one message at a time: in one write."""
    peer = serving(echo, concurrency=2, replies=replies)
    peer.says(b"a\nb\nc\nd\n")
    peer.says(b"e\n")
    assert peer.transport.writes == [b"a\nb\nc\nd\n", b"e\n"]


@BOTH
def test_a_deferred_that_has_fired_keeps_the_order(replies: str) -> None:
    """Deferreds and coroutines that have their results already are answered in the write of the chunk."""

    async def app(message: bytes, connection: Any) -> bytes:
        return message

    peer = serving(app, replies=replies)
    peer.says(b"a\nb\nc\nd\n")
    assert (peer.transport.writes, held(peer)) == ([b"a\nb\nc\nd\n"], (0, 0, 0))


class Releasing(Mixed):
    """An app whose lower-case messages answer the upper-case ones, and are answered themselves."""

    def received(self, message: bytes, connection: Any) -> Any:
        if message.islower():
            self.answer(*self.pending)
        return super().received(message, connection)


@BOTH
@pytest.mark.parametrize("chunks", [[b"A\n", b"b\n"], [b"x\nA\nb\n"], [b"A\nb\n", b"y\n"]], ids=repr)
def test_a_reply_that_comes_inside_a_call_is_sent_before_the_reply_of_the_call(replies: str, chunks: list[Any]) -> None:
    """A call of the app can answer earlier messages. Their replies leave before its own."""
    peer = serving(Releasing(), replies=replies)
    for each in chunks:
        peer.says(each)
    assert peer.hears() == b"".join(chunks)


@BOTH
def test_messages_that_come_while_replies_are_written_keep_the_order(replies: str) -> None:
    """A peer that sends its next message inside a write gets its reply after the replies that were there."""
    app = Mixed()
    peer = serving(app, concurrency=9, replies=replies)
    more = [b"d\n"]
    peer.transport.on_write = lambda _: peer.slips_in(more.pop()) if more else None
    peer.says(b"A\nB\nC\n")
    app.answer(b"A")
    app.answer(b"B", b"C")
    expected = b"A\nd\nB\nC\n" if replies == "as-ready" else b"A\nB\nC\nd\n"
    assert peer.hears() == expected


def test_a_reply_is_encoded_by_the_codec() -> None:
    """With a codec, replies are encoded: at once, later, and as a `Reply` whose value is None."""
    later: Deferred[Any] = Deferred()

    def app(message: Any, connection: Any) -> Any:
        return {1: later, 2: Reply(None), 3: [3], 4: succeed({"four": 4}), 5: succeed(Reply(None))}[message]

    peer = serving(app, concurrency=9, codec="json")
    peer.says(b"1\n2\n3\n4\n5\n")
    assert peer.hears() == b""
    later.callback(Reply(None))
    assert peer.hears() == b'null\nnull\n[3]\n{"four":4}\nnull\n'


def test_a_reply_object_needs_no_codec() -> None:
    """Without a codec, a `Reply` has the bytes of the message."""
    later: Deferred[Any] = Deferred()
    replies = {b"1": later, b"2": Reply(b"two"), b"3": succeed(Reply(b"three"))}
    peer = serving(lambda message, _: replies[message])
    peer.says(b"1\n2\n3\n")
    later.callback(None)
    assert peer.hears() == b"two\nthree\n"


def test_an_app_without_received_leaves_its_messages_to_receive() -> None:
    """An app that has only `opened` gets no messages, also with a concurrency."""

    class App:
        def opened(self, connection: Any) -> bytes:
            return b"welcome"

    peer = serving(App())
    peer.says(b"a\n")
    assert (peer.hears(), peer.connection.unread) == (b"welcome\n", 1)


@BOTH
def test_the_greeting_comes_before_all_replies(replies: str) -> None:
    """The app gets no message before its greeting is there."""
    greeting: Deferred[bytes] = Deferred()

    class App(Mixed):
        def opened(self, connection: Any) -> Deferred[bytes]:
            return greeting

    app = App()
    peer = serving(app, replies=replies)
    peer.says(b"a\nB\n")
    assert (peer.hears(), app.pending, peer.protocol.info().in_flight) == (b"", {}, 1)
    greeting.callback(b"welcome")
    assert (peer.hears(), peer.protocol.info().in_flight) == (b"welcome\na\n", 1)


class Batches:
    """A batch app that answers lower-case batches at once, and others when the test says so."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.pending: list[Deferred[Any]] = []

    def received_all(self, messages: list[Any], connection: Any) -> Any:
        if messages[0].islower():
            return [each for each in messages if each != b"-"]
        self.calls.append(messages)
        self.pending.append(Deferred())
        return self.pending[-1]


@BOTH
def test_several_batches_are_worked_on_at_once(replies: str) -> None:
    """Of a batch app, each call counts as one: it gets the messages of several chunks at once."""
    app = Batches()
    peer = serving(app, replies=replies)
    for chunk in (b"A\nB\n", b"c\n-\n", b"D\n", b"E\nF\n"):
        peer.says(chunk)
    assert app.calls == [[b"A", b"B"], [b"D"], [b"E", b"F"]][: 3 if replies == "as-ready" else 2]
    app.pending[1].callback(None)
    app.pending[0].callback([b"A", b"B"])
    app.pending[2].callback([b"E", b"F"])
    expected = b"A\nB\nc\nE\nF\n" if replies == "in-order" else b"c\nA\nB\nE\nF\n"
    assert (peer.hears(), held(peer)) == (expected, (0, 0, 0))


# What is held, and bounded --------------------------------------------------------------------------------------------


def test_each_message_in_flight_is_counted() -> None:
    """The memory budget counts each message that the app has, and each reply that waits, until it is sent."""
    app = Mixed()
    peer = serving(app, concurrency=9)
    each = 1 + MESSAGE_COST + SLOT_COST
    peer.says(b"A\n")
    assert held(peer) == (1, each, each)
    peer.says(b"B\nC\n")
    assert held(peer) == (3, 3 * each, 3 * each)
    app.pending.pop(b"C").callback(b"x" * 1000)
    assert held(peer) == (3, 2 * each + 1000 + SLOT_COST, 2 * each + 1000 + SLOT_COST)
    app.answer(b"A")
    assert held(peer)[0] == 2
    app.answer(b"B")
    assert held(peer) == (0, 0, 0)


def test_replies_that_wait_hold_back_the_app() -> None:
    """Over `write_high` bytes of replies behind a slow one, the app gets no further message."""
    app = Mixed()
    peer = serving(app, concurrency=9, limits=Limits(write_high=1000))
    peer.says(b"A\nB\nC\n")
    app.pending.pop(b"C").callback(b"c" * 600)
    peer.says(b"D\n")
    app.pending.pop(b"D").callback(b"d" * 600)
    peer.says(b"E\n")
    assert (list(app.pending), reasons(peer)) == ([b"A", b"B"], ["awaiting-reply"])
    app.answer(b"A")
    assert (list(app.pending), reasons(peer)) == ([b"B"], ["awaiting-reply"])
    app.answer(b"B")
    assert (list(app.pending), reasons(peer)) == ([b"E"], [])
    assert max(map(len, peer.transport.writes)) <= 1000 + len(b"B\n")


@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
def test_replies_that_wait_are_bounded(transport: type[NotedTransport]) -> None:
    """A connection ends when more than `max_unsent` bytes wait behind a slow reply, and more come."""
    app = Mixed()
    peer = serving(app, concurrency=9, transport=transport(), limits=Limits(write_high=1000, max_unsent=1000))
    peer.says(b"A\nB\nC\nD\n")
    app.pending.pop(b"C").callback(b"c" * 1001)
    app.pending.pop(b"D").callback(b"")
    assert not peer.closing
    app.pending.pop(b"B").callback(b"b")
    peer.transport.turn()
    assert (peer.reason.rule, peer.reason.value, peer.reason.limit) == ("too-much-unsent", 1001, 1000)
    assert held(peer) == (0, 0, 0)


@BOTH
def test_a_peer_that_does_not_read_holds_back_the_app(replies: str) -> None:
    """While the peer takes no replies, the app gets no further message. Replies that come are sent later."""
    app = Mixed()
    peer = stalled(app, concurrency=3, replies=replies)
    peer.says(b"A\nB\nC\nD\n")
    app.pending.pop(b"A").callback(b"x" * 200_000)
    app.answer(b"B")
    assert (list(app.pending), sorted(reasons(peer))) == ([b"C"], ["write-blocked"])
    peer.transport.go_on()
    assert list(app.pending) == [b"C", b"D"]
    app.answer(b"C", b"D")
    assert peer.hears() == b"x" * 200_000 + b"\nB\nC\nD\n"


def test_reading_stops_when_the_inbox_is_full() -> None:
    """At the concurrency, messages wait in the inbox, and over its mark nothing is read."""
    peer = serving(never, concurrency=2)
    peer.says(b"A\nB\n" + b"x" * 70_000 + b"\n")
    assert (peer.paused, peer.protocol.info().in_flight) == (True, 2)


def test_a_pause_holds_back_further_messages_only() -> None:
    """`pause()` keeps the app from further messages. Messages in flight are answered."""
    app = Mixed()
    peer = serving(app)
    peer.says(b"A\n")
    peer.connection.pause()
    peer.says(b"B\n")
    app.answer(b"A")
    assert (peer.hears(), app.pending) == (b"A\n", {})
    peer.connection.resume()
    assert list(app.pending) == [b"B"]


def test_our_requests_find_their_replies_beside_it() -> None:
    """Replies to requests of ours are matched while the app works on as many messages as it can."""
    app = Switch()
    peer = serving(app, concurrency=1 + 1, codec="json", key=lambda message: message.get("id"))
    peer.says(b'{"a":1}\n{"a":2}\n{"a":3}\n')
    reply = peer.connection.request({"id": 7})
    assert peer.hears() == b'{"id":7}\n'
    peer.says(b'{"id":7,"b":4}\n')
    assert (peer.connection.unread, len(app.seen)) == (1, 2)
    found: list[Any] = []
    reply.addCallback(found.append)
    assert found == [{"id": 7, "b": 4}]


# Time -----------------------------------------------------------------------------------------------------------------


@BOTH
def test_handler_timeout_is_counted_for_the_message_that_waits_longest(replies: str) -> None:
    """Each message has `handler_timeout` seconds. The first one that is late ends the connection, and all others."""
    app = Mixed()
    peer = serving(app, replies=replies, timeouts=Timeouts(first_message=0, idle=0, handler_timeout=10))
    peer.says(b"A\n")
    peer.clock.advance(4)
    peer.says(b"B\n")
    peer.clock.advance(4)
    assert peer.protocol.info().deadline.seconds == 2
    app.answer(b"A")
    assert (peer.protocol.info().deadline.name, peer.protocol.info().deadline.seconds) == ("handler_timeout", 6)
    peer.says(b"C\n")
    peer.clock.advance(5)
    assert not peer.closing
    peer.clock.advance(1)
    assert (peer.closing, app.cancelled) == (True, [b"B", b"C"])
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (b"A\n", "handler-timeout")


def test_no_time_runs_while_nothing_is_in_flight() -> None:
    """When all messages are answered, the time for a reply ends, and the time of an idle peer begins."""
    app = Mixed()
    peer = serving(app, timeouts=Timeouts(first_message=0, idle=20, handler_timeout=10))
    peer.says(b"A\nB\n")
    assert peer.waits == ["handler_timeout"]
    peer.clock.advance(5)
    app.answer(b"B", b"A")
    assert (peer.waits, peer.protocol.info().deadline.seconds) == ([], 20)


@pytest.mark.exhaustive
def test_a_thousand_messages_of_10_ms_take_10_ms() -> None:
    """1,000 messages of 10 ms each, on one connection that works on 1,000 at once, are all answered after 10 ms."""
    peer = Peer(lambda message, _: later(message), concurrency=1000)

    def later(message: bytes) -> Deferred[bytes]:
        reply: Deferred[bytes] = Deferred()
        peer.clock.callLater(0.010, reply.callback, message)
        return reply

    messages = b"".join(b"%d\n" % number for number in range(1000))
    peer.says(messages)
    peer.clock.advance(0)
    assert (peer.hears(), peer.protocol.info().in_flight) == (b"", 1000)
    peer.clock.advance(0.010)
    assert (peer.hears(), held(peer)) == (messages, (0, 0, 0))


# Failures -------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["raises", "fails"])
def test_messages_before_a_failed_one_are_answered(replies: str, how: str) -> None:
    """A failure closes the connection once the messages before it are answered. Later messages are cancelled."""
    app = Mixed()
    peer = serving(app, concurrency=9, replies=replies)
    peer.says(b"A\n!\nC\n" if how == "raises" else b"A\nB\nC\n")
    if how == "fails":
        app.pending.pop(b"B").errback(Broken())
    peer.says(b"D\n")
    assert (peer.closing, app.cancelled, b"D" in app.pending) == (False, [] if how == "raises" else [b"C"], False)
    app.answer(b"A")
    assert peer.closing
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, len(peer.told(AppFailed))) == (b"A\n", "app-failed", 1)
    assert held(peer) == (0, 0, 0)


@pytest.mark.parametrize(
    "last", [["B", None], ["B", object()], ["B", Reply(object())]], ids=["none", "object", "reply"]
)
def test_replies_before_one_that_cannot_be_sent_are_sent(last: list[Any]) -> None:
    """A reply that the codec refuses is the app's failure, in its place. In a batch, the replies before it are sent."""
    app = Batches()
    peer = serving(app, codec="text")
    for chunk in (b"A\n", b"B\n", b"C\n"):
        peer.says(chunk)
    app.pending[1].callback(last)
    assert (peer.hears(), peer.closing, app.pending[2].called) == (b"", False, True)
    app.pending[0].callback(["A"])
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, len(peer.told(AppFailed))) == (b"A\nB\n", "app-failed", 1)


@pytest.mark.parametrize(
    ("replies", "wrong", "heard"),
    [
        ("in-order", "no bytes", b"A\n"),
        ("in-order", Reply(None), b"A\n"),
        ("as-ready", "no bytes", b""),
        ("as-ready", Reply(None), b"A\n"),
    ],
)
def test_a_reply_at_once_that_cannot_be_sent_is_a_failure(replies: str, wrong: Any, heard: bytes) -> None:
    """A reply at once that is no message is the app's failure, when it is noticed: in order, that is in its place."""
    app = Switch()
    first: list[Any] = [app.received(b"A", None), wrong]
    peer = serving(lambda message, _: first.pop(0), replies=replies)
    peer.says(b"A\nB\n")
    if not peer.closing:
        app.pending[0].callback(b"A")
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule) == (heard, "app-failed")


@BOTH
def test_an_undecodable_message_ends_the_connection_in_its_place(replies: str) -> None:
    """The messages before an undecodable one are answered. Then the connection closes, for the fault of the peer."""
    app = Switch()
    peer = serving(app, codec="json", replies=replies)
    peer.says(b"1\n2\n")
    peer.says(b"{\n3\n")
    app.pending[1].callback(2)
    assert not peer.closing
    app.pending[0].callback(1)
    peer.transport.turn()
    assert (sorted(peer.hears()), peer.reason.rule, len(app.seen)) == (sorted(b"1\n2\n"), "undecodable-message", 2)


def test_the_first_failure_by_order_counts() -> None:
    """When several messages fail, the connection ends for the first of them by order, and each failure is reported."""
    app = Mixed()
    peer = serving(app, concurrency=9)
    peer.says(b"A\nB\nC\nD\n")
    app.pending[b"C"].errback(Broken("later"))
    app.pending[b"B"].errback(Broken("earlier"))
    app.answer(b"A")
    peer.transport.turn()
    assert (peer.hears(), peer.reason.detail) == (b"A\n", "the app raised Broken: earlier")
    assert [str(each.failure.value) for each in peer.told(AppFailed)] == ["earlier", "later"]


@BOTH
def test_a_failure_of_the_only_message_closes_at_once(replies: str) -> None:
    """Without other messages in flight, a failure closes the connection as with one message at a time."""
    peer = serving(replies=replies)
    peer.says(b"a\n!\nc\n")
    assert peer.closing
    peer.transport.turn()
    assert (peer.hears(), peer.reason.rule, len(peer.told(AppFailed))) == (b"a\n", "app-failed", 1)


def test_a_failure_that_comes_first_by_order_closes_at_once() -> None:
    """The failure of the first message in flight closes the connection, and cancels all others."""
    app = Mixed()
    peer = serving(app)
    peer.says(b"A\nB\nC\n")
    app.answer(b"C")
    app.pending[b"A"].errback(Broken())
    assert (peer.closing, app.cancelled) == (True, [b"B"])
    peer.transport.turn()
    assert (peer.hears(), held(peer)) == (b"", (0, 0, 0))


class Stubborn(Switch):
    """An app whose Deferreds do something else than to be cancelled."""

    def __init__(self, canceller: Any) -> None:
        super().__init__()
        self.canceller = canceller

    def received(self, message: bytes, connection: Any) -> Any:
        self.seen.append(message)
        self.pending.append(Deferred(self.canceller))
        return self.pending[-1]


def raises(deferred: Deferred[Any]) -> None:
    """Raise inside a canceller."""
    raise Broken("canceller")


@pytest.mark.parametrize(
    ("canceller", "told"),
    [
        pytest.param(raises, ["first", "canceller"], id="raises"),
        pytest.param(lambda each: each.errback(Broken("clean-up")), ["first", "clean-up"], id="fails"),
        pytest.param(lambda each: each.callback(b"late"), ["first"], id="answers"),
    ],
)
def test_what_a_cancelled_message_still_does_is_not_sent(canceller: Any, told: list[str]) -> None:
    """A message that is cancelled for the failure of another is not answered. Its own failure is reported."""
    app = Stubborn(canceller)
    peer = serving(app)
    peer.says(b"A\nB\nC\n")
    app.pending[1].errback(Broken("first"))
    app.pending[0].callback(b"A")
    peer.transport.turn()
    assert peer.hears() == b"A\n"
    assert [str(each.failure.value) for each in peer.told(AppFailed)] == told


@BOTH
def test_the_failure_of_a_canceller_at_the_end_is_reported(replies: str) -> None:
    """At the end of the connection each message in flight is cancelled, and what a canceller raises is reported."""
    app = Stubborn(raises)
    peer = serving(app, replies=replies)
    peer.says(b"A\nB\n")
    peer.resets()
    assert [str(each.failure.value) for each in peer.told(AppFailed)] == ["canceller"] * 2


def test_a_failure_that_waits_is_reported_at_the_end() -> None:
    """A failure that waits for the messages before it is reported when the connection ends first."""
    app = Mixed()
    peer = serving(app)
    peer.says(b"A\nB\n")
    app.pending[b"B"].errback(Broken())
    peer.resets()
    assert (app.cancelled, len(peer.told(AppFailed)), peer.reason.rule) == ([b"A"], 1, "lost")


def test_a_message_that_fails_after_the_close_is_reported() -> None:
    """A message that is cancelled by the close of the connection, and fails in another way, is reported."""
    app = Stubborn(lambda each: each.errback(Broken("clean-up")))
    peer = stalled(app, concurrency=3, timeouts=Timeouts(handler_timeout=10))
    peer.says(b"A\nB\n")
    peer.clock.advance(10)
    assert [str(each.failure.value) for each in peer.told(AppFailed)] == ["clean-up"] * 2


# Ends -----------------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["drain", "half-close"])
def test_all_messages_in_flight_are_answered_before_the_end(replies: str, how: str) -> None:
    """After a drain or a half-close, messages in flight, and messages that wait, are answered. Then it closes."""
    app = Mixed()
    peer = serving(app, replies=replies)
    peer.says(b"A\nB\nC\nD\n")
    if how == "drain":
        peer.connection.drain()
    else:
        peer.half_closes()
    app.answer(b"B", b"A")
    assert (peer.closing, sorted(app.pending)) == (False, [b"C", b"D"])
    app.answer(b"C", b"D")
    assert peer.closing
    peer.transport.turn()
    assert sorted(peer.hears()) == sorted(b"A\nB\nC\nD\n")
    assert (peer.reason.clean, held(peer)) == (True, (0, 0, 0))


@BOTH
def test_close_sends_the_replies_that_were_there(replies: str) -> None:
    """`close()` flushes what was sent. Replies that come later are dropped, and all others are cancelled at the end."""
    app = Mixed()
    peer = stalled(app, concurrency=9, replies=replies)
    peer.says(b"A\nB\nC\nD\n")
    app.pending.pop(b"A").callback(b"x" * 100_000)
    app.answer(b"C")
    peer.connection.close()
    before = peer.protocol.info().buffered
    app.answer(b"B")
    assert peer.protocol.info().buffered < before
    peer.transport.go_on()
    peer.transport.turn()
    expected = b"x" * 100_000 + b"\n" + b"C\n" * (replies == "as-ready")
    assert (peer.hears(), app.cancelled, held(peer)) == (expected, [b"D"], (0, 0, 0))


@BOTH
def test_a_reply_to_the_call_that_closes_is_sent(replies: str) -> None:
    """The reply of a call that closes the connection is sent, where no earlier message is in flight."""

    async def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return message

    peer = serving(app, replies=replies)
    peer.says(b"A\nB\n")
    peer.transport.turn()
    assert peer.hears() == b"A\n"


@BOTH
@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
def test_each_message_in_flight_is_cancelled_at_the_end(replies: str, transport: type[NotedTransport]) -> None:
    """The end of the connection cancels all replies that are pending. Nothing of them is kept."""
    app = Mixed()
    peer = serving(app, replies=replies, transport=transport())
    peer.says(b"A\nB\nC\n")
    app.answer(b"C")
    peer.connection.abort()
    peer.transport.turn()
    assert (app.cancelled, peer.told(AppFailed), held(peer)) == ([b"A", b"B"], [], (0, 0, 0))
    app.pending[b"B"].addErrback(lambda failure: failure.trap(CancelledError))


@BOTH
def test_a_message_in_flight_at_an_end_inside_a_call_is_cancelled(replies: str) -> None:
    """A call that cuts the connection, and returns a Deferred, has its Deferred cancelled."""
    cancelled: list[Any] = []

    def app(message: bytes, connection: Any) -> Deferred[Any]:
        if message == b"B":
            connection.abort()
        return Deferred(cancelled.append)

    peer = serving(app, replies=replies, transport=AbruptTransport())
    peer.says(b"A\nB\nC\n")
    assert len(cancelled) == 2
    assert held(peer) == (0, 0, 0)


@BOTH
def test_a_reply_after_the_end_is_ignored(replies: str) -> None:
    """A coroutine that is not ended by its cancellation can answer after the end. Nothing comes of that."""
    pending: list[Deferred[Any]] = []

    async def app(message: bytes, connection: Any) -> bytes:
        for _ in range(2):
            pending.append(Deferred())
            with suppress(CancelledError):
                await pending[-1]
        return message

    peer = serving(app, replies=replies)
    peer.says(b"A\nB\n")
    peer.resets()
    for each in pending[2:]:
        each.callback(None)
    assert (len(pending), peer.hears(), peer.told(AppFailed), held(peer)) == (4, b"", [], (0, 0, 0))


@BOTH
def test_a_connection_is_shed_with_all_its_messages(replies: str) -> None:
    """When memory is short, the messages in flight of the largest connection are cancelled at once."""
    app = Mixed()
    peer = serving(app, replies=replies, limits=Limits(max_buffered=3000))
    peer.says(b"A\nB\n")
    peer.says(b"C" * 2000 + b"\n")
    assert app.cancelled == [b"A", b"B", b"C" * 2000]
    peer.transport.turn()
    assert (peer.reason.rule, held(peer)) == ("memory-short", (0, 0, 0))


@BOTH
def test_a_message_in_flight_stands_against_a_move(replies: str) -> None:
    """A connection with messages in flight is at no boundary. It is once all of them are answered."""
    app = Mixed()
    peer = serving(app, replies=replies)
    peer.says(b"A\nB\n")
    peer.protocol.pause_at_boundary()
    peer.says(b"C\n")
    app.answer(b"B")
    assert [each.rule for each in peer.protocol.obstacles()] == ["reply-pending"]
    app.answer(b"A")
    assert (peer.protocol.obstacles(), app.pending) == ([], {})
    peer.protocol.resume_from_boundary()
    peer.transport.turn()
    assert list(app.pending) == [b"C"]


@pytest.mark.source
@pytest.mark.usefixtures("no_collector")
@BOTH
@pytest.mark.parametrize("transport", [NotedTransport, AbruptTransport])
def test_the_parts_of_an_ended_connection_are_freed(replies: str, transport: type[NotedTransport]) -> None:
    """At its end a connection with messages in flight lets go of its dispatcher, which no collector has to find."""
    app = Mixed()
    peer = serving(app, replies=replies, transport=transport())
    peer.says(b"A\nB\nc\n")
    app.answer(b"B")
    assert len(dispatchers()) == 1
    peer.resets()
    assert dispatchers() == []


@pytest.mark.source
@pytest.mark.usefixtures("no_collector")
def test_a_reply_that_cannot_be_sent_is_freed_with_its_connection() -> None:
    """The error of a reply that waited for its place has frames that hold this place. It does not hold the error."""
    app: Any = Mixed()
    peer = serving(app, replies="in-order", codec="json")
    peer.says(b'"A"\n"B"\n')
    app.pending.pop("B").callback(object())
    peer.resets()
    assert (peer.reason.rule, len(peer.told(AppFailed))) == ("lost", 1)
    peer.events.clear()
    assert [each for each in gc.get_objects() if type(each) in (ConcurrentDispatcher, Slot)] == []


def dispatchers() -> list[Any]:
    """Return the dispatchers that are still there."""
    return [each for each in gc.get_objects() if type(each) is ConcurrentDispatcher]
