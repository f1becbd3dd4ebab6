"""The obstacles of a message boundary: the rule of each, whether it passes by itself, and that a dump is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Limits, MessageServerFactory, Telemetry, batch, conversation
from tcpapp.connection.boundary import OF_A_CONNECTION, Obstacle, obstacles_of
from tcpapp.connection.lifecycle import State
from tcpapp.errors import InvalidState
from tcpapp.framing import Lines, from_string
from tests.connection.moves import QUIET, shout
from tests.peers import NotedTransport, Peer, Switch, never, stalled


class Counting:
    """An app that counts the messages of its connection."""

    def received(self, message: bytes, connection: Any) -> None: ...


class Shared:
    """An app for all connections, which greets and has no `received`."""

    def opened(self, connection: Any) -> bytes:
        return b"welcome"


@conversation
async def talk(connection: Any) -> None:
    """Receive messages until the end."""
    async for _ in connection:
        pass


def rules_of(peer: Peer) -> list[str]:
    """
    Return the rules of all obstacles. Check that a dump is refused with the text of each, or works if there is none.
    """
    found: list[Obstacle] = peer.protocol.obstacles()
    if found:
        with pytest.raises(InvalidState, match=r"^the connection cannot be dumped: ") as raised:
            peer.protocol.dump()
        assert all(each.detail in str(raised.value) for each in found)
    else:
        assert peer.protocol.dump()
    return [each.rule for each in found]


@pytest.mark.parametrize(
    ("app", "rule"),
    [
        pytest.param(Counting, "app-class", id="class"),
        pytest.param(talk, "conversation", id="conversation"),
        pytest.param(None, "receive-only", id="none"),
        pytest.param(Shared(), "receive-only", id="without-received"),
    ],
)
def test_an_app_with_a_state_for_each_connection_is_not_moved(app: Any, rule: str) -> None:
    """A connection is not moved if its app is a class, a conversation, or code that calls `receive()`."""
    peer = Peer(app, timeouts=QUIET)
    [obstacle] = [each for each in peer.protocol.obstacles() if each.rule not in ("receive-pending", "reply-pending")]
    assert (obstacle.rule, obstacle.lasting) == (rule, True)
    assert rule in rules_of(peer)


def test_an_app_for_all_connections_can_be_moved() -> None:
    """A connection can be moved if its app is a function, or an instance with `received`."""
    assert rules_of(Peer(shout, timeouts=QUIET)) == []
    assert rules_of(Peer(Counting(), timeouts=QUIET)) == []


def test_a_pending_reply_is_an_obstacle_until_it_is_there() -> None:
    """While a reply is pending, the connection is not moved. With the reply the obstacle is gone."""
    app = Switch()
    peer = Peer(app, timeouts=QUIET)
    peer.says(b"a\n")
    assert rules_of(peer) == ["reply-pending"]
    app.pending[0].callback(None)
    assert rules_of(peer) == []


def test_an_app_is_not_moved_while_it_is_called() -> None:
    """While the app is called, the connection is not moved, even if the app itself asks."""
    seen: list[Any] = []
    peer = Peer(lambda message, connection: seen.append(rules_of(peer)), timeouts=QUIET)
    peer.says(b"a\n")
    assert (seen, rules_of(peer)) == ([["handling"]], [])


def test_an_app_is_not_moved_before_it_is_told_of_the_connection() -> None:
    """In a listener of `Opened`, the connection is not moved: the app's `opened` would be called in no process."""
    seen: list[Any] = []
    peer = Peer(shout, timeouts=QUIET)
    peer.factory.settings.telemetry.listen(lambda _: seen.append(rules_of(peer)))
    peer.protocol = peer.factory.buildProtocol(None)
    NotedTransport().connect(peer.protocol)
    assert (seen, rules_of(peer)) == ([["handling"]], [])


def test_a_connection_is_not_moved_while_it_fires_a_reply() -> None:
    """
    While the callback of a reply runs, the connection is not moved, because it still has the messages behind the reply.
    """
    seen: list[Any] = []
    peer = Peer(shout, timeouts=QUIET)
    peer.connection.request(b"?").addCallback(lambda _: seen.append(rules_of(peer)))
    peer.says(b"a\nb\n")
    assert (seen, rules_of(peer)) == ([["handling"]], [])


def test_data_of_the_app_is_an_obstacle() -> None:
    """A connection with something in `connection.data` is not moved, since it would be lost. Empty data is nothing."""
    peer = Peer(shout, timeouts=QUIET)
    assert vars(peer.connection.data) == {}
    assert rules_of(peer) == []
    peer.connection.data.user = b"ann"
    assert rules_of(peer) == ["data"]
    assert [each.lasting for each in peer.protocol.obstacles()] == [True]
    del peer.connection.data.user
    assert rules_of(peer) == []


def test_tasks_are_obstacles_until_they_end() -> None:
    """A task is an obstacle until it ends; a background task has no end to wait for. So is code that awaits a tick."""
    peer, wait, later = Peer(shout, timeouts=QUIET), Deferred[None](), Deferred[None]()

    async def waits(for_what: Any) -> None:
        await for_what

    peer.connection.spawn(waits(wait))
    assert rules_of(peer) == ["tasks"]
    peer.connection.spawn(waits(later), background=True)
    assert rules_of(peer) == ["tasks", "background-tasks"]
    assert [each.lasting for each in peer.protocol.obstacles()] == [False, True]
    wait.callback(None)
    later.callback(None)
    assert rules_of(peer) == []
    tick = peer.connection.every(1).tick()
    assert rules_of(peer) == ["ticks"]
    tick.addErrback(lambda _: None).cancel()
    assert rules_of(peer) == []


def test_requests_are_obstacles_until_their_replies_come() -> None:
    """A request is an obstacle until its reply comes, also if the request was cancelled."""
    peer = Peer(shout, timeouts=QUIET)
    peer.connection.request(b"1?")
    peer.connection.request(b"2?").addErrback(lambda _: None).cancel()
    assert rules_of(peer) == ["requests-pending"]
    peer.says(b"1\n")
    assert rules_of(peer) == ["requests-pending"]
    peer.says(b"2\n")
    assert rules_of(peer) == []


def test_a_receive_is_an_obstacle_until_its_message_comes() -> None:
    """A waiting `receive()` is an obstacle, because its caller is in this process."""
    peer = Peer(shout, timeouts=QUIET)
    peer.connection.receive()
    assert rules_of(peer) == ["receive-pending"]
    peer.says(b"a\n")
    assert rules_of(peer) == []


def test_a_send_is_an_obstacle_until_the_peer_takes_its_bytes() -> None:
    """
    A waiting `send()` is an obstacle until the peer takes its bytes. Unsent replies are no obstacle, and are moved.
    """
    peer = stalled(shout, timeouts=QUIET)
    for _ in range(2):
        peer.connection.send(b"x" * 70_000)
    assert rules_of(peer) == ["send-pending"]
    peer.transport.go_on()
    peer.transport.turn()
    assert rules_of(peer) == []
    peer = stalled(lambda message, connection: b"x" * 70_000, timeouts=QUIET)
    for _ in range(2):
        peer.says(b"a\n")
    assert rules_of(peer) == []


def test_a_stream_is_an_obstacle_until_all_of_it_is_sent() -> None:
    """A connection does not move in the middle of a stream, because its source cannot."""
    peer = stalled(shout, timeouts=QUIET)
    peer.connection.send_stream([bytes(70_000), bytes(70_000)])
    assert rules_of(peer) == ["stream-pending"]
    assert not peer.protocol.obstacles()[0].lasting
    peer.transport.go_on()
    peer.transport.turn()
    assert rules_of(peer) == []


@pytest.mark.parametrize(("surplus", "rules"), [(0, []), (1, ["unsent"])])
def test_more_unsent_bytes_than_a_state_can_have_are_an_obstacle(surplus: int, rules: list[str]) -> None:
    """The replies to one batch can exceed the unsent bytes of a state. The obstacle passes when the peer takes them."""
    limits = Limits(max_unsent=100_000)
    app = batch(lambda messages, connection: [b"x" * 99_999] * 10)
    peer = stalled(app, "line:max=100000", limits=limits, timeouts=QUIET)
    peer.says(b"a\n")
    unsent = peer.protocol.info().unsent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcpapp.connection.boundary.most_unsent", lambda settings: unsent - surplus)
        assert rules_of(peer) == rules
        assert not any(each.lasting for each in peer.protocol.obstacles())
    assert rules_of(peer) == ["unsent"]
    peer.transport.go_on()
    peer.transport.turn()
    assert rules_of(peer) == []


def test_a_connection_that_starts_tls_is_not_moved() -> None:
    """From the call of `start_tls()` on, the connection is not moved, and the obstacle does not pass."""
    peer = Peer(shout, transport=NotedTransport(tls=True), timeouts=QUIET)
    peer.connection.start_tls("context").addErrback(lambda _: None)
    assert rules_of(peer) == ["tls"]
    [obstacle] = peer.protocol.obstacles()
    assert obstacle.lasting


def test_a_transport_with_tls_is_not_moved() -> None:
    """A connection over a transport with TLS is not moved."""
    peer = Peer(shout, timeouts=QUIET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcpapp.connection.boundary.tls_layer", lambda transport: transport)
        assert rules_of(peer) == ["tls"]


def test_a_stream_that_has_failed_is_not_moved() -> None:
    """A connection with an unreadable stream is not moved, and the obstacle names the fault."""
    peer = Peer(shout, "netstring", timeouts=QUIET)
    peer.connection.pause()
    peer.protocol._framing.receive(b"1:a,x")
    [obstacle] = peer.protocol.obstacles()
    assert (obstacle.rule, obstacle.lasting) == ("framing", True)
    assert "cannot be moved: a stream that has failed" in obstacle.detail
    assert rules_of(peer) == ["framing"]


def test_a_framing_that_does_not_write_all_its_state_is_not_moved() -> None:
    """
    If a user's framing has an attribute that its state does not have, the connection is not moved once the attribute
    has changed.
    """

    class Numbered(Lines):
        def _start(self) -> None:
            super()._start()
            self.chunks = 0

        def receive(self, chunk: bytes) -> list[bytes]:
            self.chunks += 1
            return super().receive(chunk)

    peer = Peer(shout, Numbered(), timeouts=QUIET)
    assert rules_of(peer) == []
    peer.says(b"unfinished")
    assert rules_of(peer) == ["framing"]
    assert "would lose chunks" in peer.protocol.obstacles()[0].detail


def closes(peer: Peer) -> None:
    """Close the connection."""
    peer.connection.close()


def drains(peer: Peer) -> None:
    """Drain the connection."""
    peer.connection.drain()


@pytest.mark.parametrize(
    ("end", "state"),
    [
        pytest.param(drains, State.INPUT_CLOSED, id="draining"),
        pytest.param(Peer.half_closes, State.INPUT_CLOSED, id="half-closed"),
        pytest.param(closes, State.CLOSING, id="closing"),
        pytest.param(Peer.resets, State.CLOSED, id="closed"),
    ],
)
def test_a_connection_that_ends_is_not_moved(end: Callable[[Peer], object], state: State) -> None:
    """A connection that drains, closes, is half-closed or has ended is not moved, and the obstacle does not pass."""
    peer = Peer(never, timeouts=QUIET)
    peer.says(b"a\n")
    end(peer)
    assert peer.connection.state is state
    assert rules_of(peer) == ["not-open"]
    assert [each.lasting for each in peer.protocol.obstacles()] == [True]


def test_a_connection_that_is_not_open_yet_is_not_moved() -> None:
    """Before the connection opens, and in its TLS handshake, the connection is not moved. This obstacle passes."""
    protocol: Any = MessageServerFactory(shout, telemetry=Telemetry()).buildProtocol(None)
    assert [(each.rule, each.lasting) for each in obstacles_of(protocol)] == [("not-open", False)]
    assert "its state is unopened" in protocol.obstacles()[0].detail
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tcpapp.connection.protocol.sets_up_tls", lambda transport: True)
        patch.setattr("tcpapp.connection.parts.close_by_halves", lambda layer: None)
        NotedTransport().connect(protocol)
    assert [(each.rule, each.lasting) for each in obstacles_of(protocol)] == [("not-open", False)]


def test_all_obstacles_are_named() -> None:
    """`obstacles()` names all obstacles, and not only the first."""
    peer = stalled(lambda message, connection: Deferred(), timeouts=QUIET)
    peer.says(b"a\n")
    peer.connection.receive()
    for _ in range(2):
        peer.connection.send(b"x" * 70_000)
    peer.connection.request(b"?")
    assert rules_of(peer) == ["reply-pending", "requests-pending", "receive-pending", "send-pending"]
    assert not any(each.lasting for each in peer.protocol.obstacles())


def test_a_rule_is_a_label() -> None:
    """Each rule of an obstacle is different, and has only small letters and hyphens."""
    rules = [each.rule for each in OF_A_CONNECTION]
    assert sorted(set(rules)) == sorted(rules)
    assert all(set(rule) <= set("abcdefghijklmnopqrstuvwxyz-") for rule in rules)


def test_undigested_bytes_are_no_obstacle() -> None:
    """An unfinished message is no obstacle: it is moved."""
    for spec in ("line", "int32", "slip"):
        peer = Peer(shout, from_string(spec), timeouts=QUIET)
        peer.says(b"\x00\x00\x00\x09un")
        assert rules_of(peer) == []
