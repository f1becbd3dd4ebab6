"""The actions of a connection at each stage of its life: each is done once, and in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tcpapp.connection.connection import State
from tcpapp.connection.settings import Settings
from tcpapp.connection.stages import Stages
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits, Timeouts
from tests.peers import Peer, Switch, outcome, result_of, stalled


def closes(peer: Peer) -> None:
    peer.connection.close()


def aborts(peer: Peer) -> None:
    peer.connection.abort()


@pytest.mark.parametrize(
    ("end", "state"),
    [
        pytest.param(Peer.half_closes, State.INPUT_CLOSED, id="input-closed"),
        pytest.param(closes, State.CLOSING, id="closing"),
        pytest.param(aborts, State.CLOSING, id="aborting"),
        pytest.param(Peer.resets, State.CLOSED, id="closed"),
    ],
)
def test_waiters_fire_when_the_new_state_holds(end: Any, state: State) -> None:
    """The callback of a waiting call already sees the new state of the connection."""
    peer = Peer(None)
    seen: list[State] = []
    told = outcome(peer.connection.receive(), lambda _: seen.append(peer.connection.state))
    end(peer)
    assert ([type(each) for each in told], seen) == ([NotConnected], [state])


def test_an_abort_drops_the_bytes_before_waiters_fire() -> None:
    """When the callback of a waiting call runs, the unsent bytes are dropped and the transport is aborted."""
    peer: Any = stalled(None)
    peer.connection.send(b"x" * 100_000).addErrback(lambda _: None)
    peer.connection.send(b"x" * 100_000).addErrback(lambda _: None)
    seen: list[Any] = []
    outcome(
        peer.connection.receive(),
        lambda _: seen.append((peer.protocol.info().unsent, peer.transport.aborted)),
    )
    peer.connection.abort()
    assert seen == [(0, True)]


def test_messages_can_be_sent_while_no_more_come() -> None:
    """After the peer's half-close, messages can be sent by `send()`, and as the pending reply of the app."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"hello\n")
    peer.half_closes()
    assert (peer.connection.state, peer.connection.is_open) == (State.INPUT_CLOSED, False)
    assert outcome(peer.connection.send(b"one")) == [None]
    app.pending[0].callback(b"two")
    assert (peer.hears(), peer.connection.state) == (b"one\ntwo\n", State.CLOSING)


def test_messages_that_wait_for_their_turn_are_received_before_the_end() -> None:
    """Messages that came before the peer's end and wait for their turn are received first."""
    peer = Peer(None, limits=Limits(messages_per_turn=1))
    peer.protocol.dataReceived(b"1\n2\n3\n")
    waiting = [outcome(peer.connection.receive()) for _ in range(4)]
    peer.protocol.readConnectionLost()
    assert (peer.connection.state, waiting[2:]) == (State.INPUT_CLOSED, [[], []])
    for _ in range(4):
        peer.clock.advance(0)
    assert waiting[:3] == [[b"1"], [b"2"], [b"3"]]
    assert isinstance(result_of(peer.connection.receive()), NotConnected)


def test_a_connection_without_a_state_has_nothing_to_go_on_from() -> None:
    """The base class cannot go on from a state; its subclass, which loads states, can."""
    with pytest.raises(NotImplementedError):
        Stages(Settings())._continue_app()


def test_a_connection_that_cannot_switch_neither_reads_on_nor_passes_its_transport_on() -> None:
    """The base class has no other framing and no other protocol; its subclass, which switches, has."""
    stages = Stages(Settings())
    with pytest.raises(NotImplementedError):
        stages._read_on()
    with pytest.raises(NotImplementedError):
        stages._pass_on()


def test_waiters_fire_when_the_state_is_settled() -> None:
    """When the first waiter of a lost connection fires, its sends are counted, and the factory has forgotten it."""
    peer: Any = stalled(timeouts=Timeouts(request=0))
    connection, factory = peer.connection, peer.factory
    seen: list[tuple[str, int, int, set[Any]]] = []

    def note(name: str) -> Callable[[Any], None]:
        return lambda _: seen.append(
            (name, factory.info().failed_sends, factory.info().buffered, {*factory.connections})
        )

    connection.receive().addErrback(note("receive"))
    connection.request(b"x").addErrback(note("request"))
    connection.send(b"x" * 1_000_000).addErrback(note("send"))
    connection.when_closed().addCallback(note("closed"))
    peer.resets()
    assert seen == [(name, 1, 0, set()) for name in ("receive", "request", "send", "closed")]


def test_a_waiter_that_is_cancelled_by_an_earlier_one_is_not_fired() -> None:
    """At the end of a connection a callback can cancel each other waiter, which then fires once."""
    peer: Any = stalled(timeouts=Timeouts(request=0))
    connection = peer.connection
    waiting: list[Deferred[Any]] = []
    connection.receive().addErrback(lambda _: [each.cancel() for each in waiting] and None)
    waiting += [
        connection.receive(),
        connection.request(b"x"),
        connection.send(b"x" * 1_000_000),
        connection.send(b"y"),
    ]
    results = [outcome(each) for each in waiting]
    peer.resets()
    assert [[type(each) for each in seen] for seen in results] == [[CancelledError]] * 4
