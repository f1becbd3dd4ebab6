"""What a connection does as it comes to each stage of its life: in which order, and that it is done once."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.connection import State
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits
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
    """A callback is the user's code: it sees the connection as it is from then on."""
    peer = Peer(None)
    seen: list[State] = []
    told = outcome(peer.connection.receive(), lambda _: seen.append(peer.connection.state))
    end(peer)
    assert ([type(each) for each in told], seen) == ([NotConnected], [state])


def test_what_a_cut_connection_held_is_gone_before_anyone_is_told() -> None:
    """Its transport is aborted by then as well."""
    peer: Any = stalled(None)
    peer.connection.send(b"x" * 100_000).addErrback(lambda _: None)
    peer.connection.send(b"x" * 100_000).addErrback(lambda _: None)
    seen: list[Any] = []
    outcome(
        peer.connection.receive(),
        lambda _: seen.append((peer.protocol._outbox.unsent, peer.transport.aborted)),
    )
    peer.connection.abort()
    assert seen == [(0, True)]


def test_messages_can_be_sent_while_no_more_come() -> None:
    """By the app that still has a message in hand, and by anyone else."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"hello\n")
    peer.half_closes()
    assert (peer.connection.state, peer.connection.is_open) == (State.INPUT_CLOSED, False)
    assert outcome(peer.connection.send(b"one")) == [None]
    app.pending[0].callback(b"two")
    assert (peer.hears(), peer.connection.state) == (b"one\ntwo\n", State.CLOSING)


def test_messages_that_wait_for_their_turn_are_received_before_the_end() -> None:
    """The peer's end of stream has come, and these came before it."""
    peer = Peer(None, limits=Limits(messages_per_turn=1))
    peer.protocol.dataReceived(b"1\n2\n3\n")
    waiting = [outcome(peer.connection.receive()) for _ in range(4)]
    peer.protocol.readConnectionLost()
    assert (peer.connection.state, waiting[2:]) == (State.INPUT_CLOSED, [[], []])
    for _ in range(4):
        peer.clock.advance(0)
    assert waiting[:3] == [[b"1"], [b"2"], [b"3"]]
    assert isinstance(result_of(peer.connection.receive()), NotConnected)
