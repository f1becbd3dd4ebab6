"""The messages and waiting calls of a busy connection, when other code calls it, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tcpapp import Limits, Timeouts, conversation
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected
from tcpapp.limits import Policies
from tcpapp.telemetry import AppFailed, Closed, MessagesSkipped
from tests.peers import AbruptTransport, NotedTransport, Peer, TurnClock, never, outcome, result_of

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, handler_timeout=0)


def busy(app: Any = None, kind: type[NotedTransport] = NotedTransport, reads: bool = True, **options: Any) -> Peer:
    """Return a peer of an app that can advance its clock. The test makes each turn."""
    transport = kind(clock=TurnClock(), peer_reads=reads)
    return Peer(app, transport=transport, **{"timeouts": QUIET, **options})


def work(connection: Any) -> None:
    """Take longer than a turn lasts."""
    protocol_of(connection).clock.rightNow += 1


def turns(peer: Peer, count: int = 10) -> None:
    for _ in range(count):
        peer.clock.give_turn()  # type: ignore[attr-defined]


# After a half-close ---------------------------------------------------------------------------------------------------


def test_messages_that_wait_for_their_turn_come_before_the_end() -> None:
    """TLS can report the peer's close together with messages. A conversation still gets all messages first."""

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        await connection.send(b"all")

    peer = busy(talk, limits=Limits(messages_per_turn=1))
    peer.says(b"1\n2\n3\n")
    peer.protocol.readConnectionLost()
    assert (peer.hears(), peer.closing) == (b"1\n", False)
    turns(peer)
    assert (peer.hears(), peer.closing) == (b"2\n3\nall\n", True)


def test_a_receive_waits_for_a_message_that_waits_for_its_turn() -> None:
    """
    After the peer's half-close, `receive()` waits for a message that waits for its turn.

    Only then `receive()` fails.
    """
    peer = busy(limits=Limits(messages_per_turn=1))
    peer.says(b"1\n2\n")
    peer.protocol.readConnectionLost()
    told = [outcome(peer.connection.receive()) for _ in range(3)]
    assert told == [[b"1"], [], []]
    turns(peer)
    assert (told[1], [type(each) for each in told[2]]) == ([b"2"], [NotConnected])


def test_a_reply_that_waits_for_its_turn_is_taken() -> None:
    """After the peer's half-close, `request()` still gets a reply that waits for its turn."""
    peer = busy(limits=Limits(messages_per_turn=1))
    told = [outcome(peer.connection.request(b"?")) for _ in range(3)]
    peer.says(b"1\n2\n")
    peer.protocol.readConnectionLost()
    turns(peer)
    assert told[:2] == [[b"1"], [b"2"]]
    assert [NotConnected] == [type(each) for each in told[2]]


def test_a_half_closed_connection_takes_turns_as_any_other() -> None:
    """After a half-close, waiting messages still take turns, and the replies of a turn are one write."""
    handled: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        protocol_of(connection).clock.rightNow += 100e-6
        handled.append(message)
        return message

    peer = busy(app)
    peer.connection.pause()
    peer.says(b"m\n" * 12)
    turns(peer)
    peer.half_closes()
    peer.connection.resume()
    counts = [len(handled)]
    for _ in range(4):
        turns(peer, 1)
        counts.append(len(handled))
    assert counts == [3, 6, 9, 12, 12]
    assert (len(peer.transport.writes), peer.closing) == (4, True)


# Receives that wait for their turn ------------------------------------------------------------------------------------


def receiving(count: int, then: Callable[[Any, list[Deferred[Any]]], Any]) -> tuple[Any, list[Any]]:
    """Return a conversation that works long and then receives `count` messages at once, and the list of results."""
    seen: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        await connection.receive()
        work(connection)
        receives = [connection.receive() for _ in range(count)]
        seen.extend(outcome(each) for each in receives)
        then(connection, receives)
        await Deferred()

    return talk, seen


def test_a_receive_that_is_cancelled_by_the_one_before_it_takes_nothing() -> None:
    """If the callback of one `receive()` cancels the second, the message goes to the third."""

    def cancel_the_next(connection: Any, receives: list[Deferred[Any]]) -> None:
        receives[0].addCallback(lambda _: receives[1].cancel())

    talk, seen = receiving(3, cancel_the_next)
    peer = busy(talk)
    peer.says(b"0\n1\n2\n3\n")
    turns(peer)
    [first], [cancelled], [third] = seen
    assert (first, type(cancelled), third) == (b"1", CancelledError, b"2")
    assert peer.connection.unread == 1


def test_a_receive_that_had_its_turn_and_found_nothing_can_be_cancelled() -> None:
    """A `receive()` that found no message in its turn can be cancelled, and then takes no later message."""
    asked: list[Deferred[Any]] = []
    talk, seen = receiving(2, lambda connection, receives: asked.extend(receives))
    peer = busy(talk)
    peer.says(b"0\n1\n")
    turns(peer)
    asked[1].cancel()
    peer.says(b"2\n")
    turns(peer)
    assert seen[0] == [b"1"]
    assert peer.connection.unread == 1


def test_receives_that_wait_for_their_turn_come_before_later_ones() -> None:
    """Receives that wait for their turn come before a `receive()` that the callback of one of them calls."""
    order: list[tuple[str, bytes]] = []

    def ask_again(connection: Any, receives: list[Deferred[Any]]) -> None:
        def again(_: Any) -> None:
            connection.receive().addCallback(lambda message: order.append(("later", message)))

        receives[0].addCallback(again)

    talk, seen = receiving(2, ask_again)
    peer = busy(talk)
    peer.says(b"0\n1\n2\n3\n")
    turns(peer)
    assert (seen, order) == ([[b"1"], [b"2"]], [("later", b"3")])


def test_receives_that_take_long_wait_for_a_turn_each() -> None:
    """Receives with long callbacks take one turn each, however many of them wait."""

    def take_long(connection: Any, receives: list[Deferred[Any]]) -> None:
        for each in receives:
            each.addCallback(lambda _: work(connection))

    talk, seen = receiving(3, take_long)
    peer = busy(talk)
    peer.says(b"0\n1\n2\n3\n")
    counts = []
    for _ in range(4):
        counts.append(sum(map(len, seen)))
        turns(peer, 1)
    assert counts == [0, 1, 2, 3]


def test_the_buffered_bytes_are_exact_after_a_receive_in_its_turn() -> None:
    """The count of buffered bytes is exact after a `receive()` in its turn, even if nothing else happens."""
    talk, seen = receiving(1, lambda connection, receives: None)
    peer = busy(talk)
    peer.says(b"0\n" + b"x" * 1000 + b"\n1\n")
    turns(peer)
    assert seen == [[b"x" * 1000]]
    assert peer.factory.info().buffered == peer.protocol.info().buffered > 1000


def test_receives_that_wait_for_their_turn_fail_at_an_undecodable_message() -> None:
    """At an undecodable message all waiting receives fail, and the messages behind it are counted as unhandled."""
    talk, seen = receiving(2, lambda connection, receives: None)
    peer = busy(talk, codec="json")
    peer.says(b"0\n{\n2\n3\n")
    turns(peer)
    peer.leaves()
    assert [each[0].reason.rule for each in seen] == ["undecodable-message"] * 2
    assert [each.unhandled for each in peer.told(Closed)] == [2]


def test_receives_that_wait_at_the_end_fail_at_an_undecodable_message() -> None:
    """When the connection is lost, the receives at and behind an undecodable message fail at once."""
    talk, seen = receiving(3, lambda connection, receives: None)
    peer = busy(talk, codec="json")
    peer.says(b"0\n1\n{\n3\n")
    peer.transport.lose()
    assert [len(each) for each in seen] == [1, 1, 1]
    assert seen[0] == [1]
    assert isinstance(seen[1][0], NotConnected)
    assert isinstance(seen[2][0], NotConnected)


# An end inside a call of the connection -------------------------------------------------------------------------------


def test_a_connection_that_ends_in_the_callback_of_a_reply_keeps_the_messages_behind_it() -> None:
    """If the callback of a reply aborts the connection, the messages behind the reply can still be received."""
    peer = busy(kind=AbruptTransport)
    first, second = peer.connection.request(b"a"), peer.connection.request(b"b")
    first.addCallback(lambda _: peer.connection.abort())
    failed = outcome(second)
    peer.says(b"1\n2\n3\n")
    assert isinstance(failed[0], NotConnected)
    assert (peer.told(AppFailed), peer.connection.unread) == ([], 2)
    assert [result_of(peer.connection.receive()) for _ in range(2)] == [b"2", b"3"]


def test_the_answer_of_an_app_that_ended_its_connection_is_cancelled() -> None:
    """If an app aborts its connection and returns a Deferred, the Deferred is cancelled."""
    for kind in (NotedTransport, AbruptTransport):
        cancelled: list[Any] = []

        def app(message: bytes, connection: Any, cancelled: list[Any] = cancelled) -> Deferred[bytes]:
            connection.abort()
            return Deferred(cancelled.append)

        peer = busy(app, kind=kind)
        peer.says(b"a\n")
        turns(peer)
        assert (len(cancelled), peer.told(AppFailed)) == (1, [])


def test_an_abort_in_the_callback_of_a_send_fails_the_other_sends() -> None:
    """If the callback of a `send()` aborts the connection, the other sends fail, and none of their bytes is sent."""
    peer = busy(reads=False, limits=Limits(write_high=100))
    peer.connection.send(b"x" * 300)
    first = peer.connection.send(b"y" * 150).addCallback(lambda _: peer.connection.abort())
    others = [outcome(peer.connection.send(b"z" * 150)) for _ in range(3)]
    peer.transport.go_on()
    turns(peer)
    assert result_of(first) is None
    assert [type(each) for [each] in others] == [NotConnected] * 3
    assert b"z" not in peer.hears()


def test_an_abort_in_the_callback_of_the_last_send_replaces_the_close() -> None:
    """If a closing connection waits for its last `send()`, and the callback aborts, the reason is the abort."""
    peer = busy(reads=False, limits=Limits(write_high=100))
    told = outcome(peer.connection.send(b"x" * 150), lambda _: peer.connection.abort())
    closed = outcome(peer.connection.close(60))
    peer.transport.take()
    turns(peer)
    assert told == [None]
    assert (closed[0].rule, peer.transport.aborted, peer.factory.info().buffered) == ("aborted", True, 0)


def test_a_reply_after_an_abort_is_not_held() -> None:
    """If an app aborts the connection and then replies, the reply is dropped, and no memory is held for it."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.send(b"x" * 300).addErrback(lambda _: None)
        connection.abort()
        return b"y" * 10_000

    peer = busy(app, reads=False, limits=Limits(write_high=100))
    peer.says(b"a\n")
    assert peer.protocol.info().unsent == 0
    assert peer.factory.info().buffered < 1000
    turns(peer)
    assert peer.factory.info().buffered == 0


def test_skipped_messages_are_reported_if_the_same_chunk_ends_the_connection() -> None:
    """A skipped message is reported, even if its chunk exceeds a rate limit that cuts the connection."""
    peer = busy(framing="line:max=9:oversize=skip", limits=Limits(byte_rate=100), policies=Policies(over_rate="reset"))
    peer.says(b"x" * 150 + b"\n")
    assert [each.count for each in peer.told(MessagesSkipped)] == [1]


# Messages behind an undecodable message -------------------------------------------------------------------------------


@pytest.mark.parametrize("with_request", [False, True])
def test_messages_behind_an_undecodable_one_are_counted(with_request: bool) -> None:
    """Messages behind an undecodable one are unhandled, if `receive()` or `request()` took the message before them."""
    peer = busy(codec="json")
    waits = peer.connection.request(1) if with_request else peer.connection.receive()
    failed = outcome(waits)
    peer.says(b"{\n2\n3\n")
    peer.leaves()
    assert failed[0].reason.rule == "undecodable-message"
    assert [each.unhandled for each in peer.told(Closed)] == [2]


# Memory ---------------------------------------------------------------------------------------------------------------


def test_a_connection_that_ends_as_another_is_shed_is_not_shed_itself() -> None:
    """If a callback of a shed connection aborts a second one, the second ends as aborted, and is not shed."""
    first = busy(never, kind=AbruptTransport, limits=Limits(max_buffered=100_000))
    others = [AbruptTransport(clock=first.clock) for _ in range(20)]
    for number, each in enumerate(others):
        each.connect(first.factory.buildProtocol(None))
        each.receive(b"x" * (4_900 if number == 0 else 4_850))
    first.connection.when_closed().addCallback(lambda _: others[0].connection.abort())
    first.slips_in(b"x" * 150_000)
    assert [each.reason.rule for each in first.told(Closed)][:2] == ["memory-short", "aborted"]
    assert first.factory.info().buffered <= 90_000
    assert first.factory.settings.memory_budget.shed == len(first.told(Closed)) - 1
