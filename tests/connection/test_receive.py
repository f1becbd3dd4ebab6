"""Messages fetched from a connection with `receive` and ``async for``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tcpapp.connection.app import conversation
from tcpapp.errors import NotConnected, UndecodableMessage
from tcpapp.limits import Limits
from tcpapp.telemetry import AppFailed, Closed
from tests.peers import NOTHING, Outcomes, Peer, result_of

# receive --------------------------------------------------------------------------------------------------------------


@given(order=st.lists(st.sampled_from(["ask", "say", "cancel"]), max_size=20))
def test_messages_and_receives_meet_in_order_whichever_come_first(order: list[str]) -> None:
    """Each message is received once, in order, and a cancelled receive takes none."""
    peer = Peer()
    waiting: list[Deferred[Any]] = []
    got: list[bytes] = []
    for number, step in enumerate([*order, *["ask"] * order.count("say")]):
        if step == "ask":
            waiting.append(peer.connection.receive().addCallbacks(got.append, lambda failure: None))
        elif step == "say":
            peer.says(b"%d\n" % number)
        elif waiting:
            waiting.pop().cancel()
    assert got == [b"%d" % number for number, step in enumerate(order) if step == "say"]


def test_a_receive_fails_at_the_end_with_its_reason() -> None:
    """Waiting receives fail at the end, with its reason, and never hang."""
    peer = Peer()
    waiting = [peer.connection.receive() for _ in range(3)]
    peer.resets()
    errors = [result_of(each) for each in waiting]
    assert [error.reason for error in errors] == [peer.reason] * 3
    assert all(isinstance(error, NotConnected) for error in errors)


def test_messages_that_came_before_the_end_can_be_received_after_it() -> None:
    """After the end, `receive()` fails only when all messages are taken, and these are not counted as unhandled."""
    peer = Peer()
    peer.says(b"1\n2\n")
    peer.resets()
    assert [result_of(peer.connection.receive()) for _ in range(2)] == [b"1", b"2"]
    assert result_of(peer.connection.receive()).reason is peer.reason
    assert peer.told(Closed)[0].unhandled == 0


def test_receiving_in_a_receives_callback_goes_on_through_the_chunk() -> None:
    """A callback that receives again each time gets message after message, and its sends are one write."""
    peer = Peer()

    def on(message: bytes) -> None:
        peer.connection.send(message)
        peer.connection.receive().addCallback(on)

    peer.connection.receive().addCallback(on)
    peer.says(b"1\n2\n3\n")
    assert peer.transport.writes == [b"1\n2\n3\n"]


@pytest.mark.parametrize("call", ["close", "abort", "drain"])
def test_a_connection_can_be_ended_in_a_receives_callback(call: str) -> None:
    """If the callback of a `receive()` ends the connection, the messages behind can still be received."""
    peer = Peer()

    def on(message: bytes) -> None:
        peer.connection.send(b"goodbye")
        getattr(peer.connection, call)()

    peer.connection.receive().addCallback(on)
    peer.says(b"1\n2\n")
    assert peer.closing
    assert peer.hears() == b"goodbye\n" or call == "abort"
    assert result_of(peer.connection.receive()) == b"2"
    peer.leaves()
    assert peer.reason.rule == {"close": "closed", "abort": "aborted", "drain": "drained"}[call]


def test_an_undecodable_message_that_is_delivered_fails_one_receive() -> None:
    """With `invalid=deliver`, each undecodable message fails one receive, and the next message is received."""
    peer = Peer(codec="text:invalid=deliver")
    first = peer.connection.receive()
    peer.says(b"\xff\n\xfe\nfine\n")
    errors = [result_of(first), result_of(peer.connection.receive())]
    assert [error.message for error in errors] == [b"\xff", b"\xfe"]
    assert result_of(peer.connection.receive()) == "fine"


def test_an_undecodable_message_that_is_delivered_is_handed_to_the_app() -> None:
    """With `invalid=deliver`, the app gets the error in place of the value, and the connection stays open."""

    def app(value: Any, connection: Any) -> str:
        return "bad" if isinstance(value, UndecodableMessage) else value

    peer = Peer(app, codec="text:invalid=deliver")
    peer.says(b"1\n\xff\n2\n")
    assert peer.hears() == b"1\nbad\n2\n"


@pytest.mark.parametrize("invalid", ["close", "deliver"])
def test_an_undecodable_message_ends_an_async_for(invalid: str) -> None:
    """If a conversation does not handle an undecodable message, it ends by the peer's fault, and not the app's."""
    seen: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            seen.append(message)  # noqa: PERF401 - what came before the error counts

    peer = Peer(talk, codec=f"text:invalid={invalid}")
    peer.says(b"1\n\xff\n2\n")
    assert peer.closing
    peer.leaves()
    assert seen == ["1"]
    assert peer.reason.rule == "undecodable-message"
    assert peer.told(AppFailed) == []


def test_reading_pauses_without_a_receive_and_resumes_with_one() -> None:
    """The inbox's high-water mark bounds the messages that are not received."""
    peer = Peer(limits=Limits(inbox_high=1000, inbox_low=500))
    peer.says(b"x" * 100 + b"\n")
    assert not peer.paused
    peer.says((b"x" * 100 + b"\n") * 10)
    assert peer.paused
    while peer.paused:
        assert result_of(peer.connection.receive()) is not NOTHING
    assert peer.protocol._inbox.size <= 500


def test_every_receive_fires_once_though_their_callbacks_cancel_each_other() -> None:
    """If the callback of one receive cancels the others, each receive still fires once."""
    peer = Peer()
    outcomes = Outcomes()
    waiting: list[Deferred[Any]] = []

    def cancel_all(result: Any) -> Any:
        for each in waiting:
            each.cancel()
        return result

    for number in range(3):
        waiting.append(peer.connection.receive())
        outcomes.of(str(number), waiting[-1].addBoth(cancel_all))
    peer.resets()
    assert len(outcomes.all) == 3


def test_two_connections_joined_in_memory_keep_the_order_of_both_directions() -> None:
    """If each write calls the other connection before it returns, the messages of both directions stay in order."""
    seen: list[bytes] = []

    async def serve(message: bytes, connection: Any) -> bytes:
        return message + b" by " + await connection.request(b"who")

    def answer(message: bytes, connection: Any) -> bytes | None:
        return b"me" if message == b"who" else seen.append(message)

    server, client = Peer(serve), Peer(answer)
    server.transport.on_write, client.transport.on_write = client.says, server.says
    for number in range(3):
        client.connection.send(b"%d" % number)
    server.says(b"3\n4\n5\n")
    assert seen == [b"%d by me" % number for number in range(6)]
