"""Draining: no further message is taken, current work is finished, then the connection closes, or is cut."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp.connection.app import conversation
from tcpapp.connection.connection import State
from tcpapp.limits import Timeouts
from tcpapp.telemetry import AppFailed, Closed
from tcpapp.telemetry.statistics import Wait
from tests.peers import NOTHING, Peer, Switch, result_of


def test_an_idle_connection_is_drained_at_once() -> None:
    """The drain of an idle connection closes it at once, because there is nothing to wait for."""
    peer = Peer(lambda message, _: message)
    peer.connection.drain()
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.clean) == ("drained", "us", True)
    assert peer.clock.getDelayedCalls() == []


def test_messages_from_before_the_drain_are_answered() -> None:
    """Every message from before the drain is handled, and no later one. Reading pauses."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    peer.connection.drain()
    assert peer.paused
    peer.slips_in(b"3\n")
    app.pending[0].callback(b"one")
    assert not peer.closing
    app.pending[1].callback(b"two")
    assert peer.hears() == b"one\ntwo\n"
    assert app.seen == [b"1", b"2"]
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "drained"
    assert peer.told(Closed)[0].unhandled == 0


def test_a_drain_cuts_the_connection_at_its_deadline() -> None:
    """A drain cuts after the seconds of the call, or of the factory. A second call does not extend them."""
    for deadline, seconds in [(3.0, 3.0), (None, 7.0)]:
        peer = Peer(Switch(), timeouts=Timeouts(drain=7.0))
        peer.says(b"1\n2\n")
        peer.connection.drain(deadline)
        peer.connection.drain(60.0)
        peer.clock.advance(seconds - 0.1)
        assert not peer.closing
        peer.clock.advance(0.1)
        assert peer.transport.aborted
        peer.resets()
        assert (peer.reason.rule, peer.reason.limit, peer.reason.clean) == ("drain-over", seconds, False)
        assert peer.told(Closed)[0].unhandled == 1


def test_a_drain_brings_the_end_of_a_half_closed_connection_nearer() -> None:
    """On a half-closed connection, the pending answers have until the deadline of the drain."""
    peer = Peer(Switch(), timeouts=Timeouts(half_close=30.0))
    peer.says(b"1\n")
    peer.half_closes()
    peer.connection.drain(3.0)
    peer.clock.advance(3.0)
    assert peer.transport.aborted
    peer.resets()
    assert peer.reason.rule == "drain-over"


def test_drain_inside_received_finishes_the_chunk() -> None:
    """After `drain()` inside `received`, the replies to all messages of the chunk are sent."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.drain()
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n3\n")
    assert peer.hears() == b"1\n2\n3\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "drained"


def test_a_drain_ends_the_loop_of_a_conversation_which_can_say_goodbye() -> None:
    """
    A drain ends the `async for` of a conversation. The conversation can still send, and its return closes the
    connection.
    """
    going: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)
        await going
        await connection.send(b"goodbye")

    peer = Peer(talk)
    peer.says(b"1\n")
    peer.connection.drain()
    assert peer.connection.state is State.INPUT_CLOSED
    assert not peer.closing
    going.callback(None)
    assert peer.hears() == b"1\ngoodbye\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "drained"
    assert peer.told(AppFailed) == []


@pytest.mark.parametrize("received", [False, True])
def test_a_conversation_that_does_not_end_is_cut_at_the_deadline(received: bool) -> None:
    """A conversation that does not end is cancelled at the deadline of the drain, where it waits."""
    log: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        async for _ in connection if received else never():
            pass
        try:
            await Deferred()
        finally:
            log.append("cancelled")

    async def never() -> Any:
        for nothing in ():
            yield nothing

    peer = Peer(talk)
    peer.connection.drain(3.0)
    peer.clock.advance(3.0)
    assert peer.transport.aborted
    peer.resets()
    assert log == ["cancelled"]
    assert peer.reason.rule == "drain-over"
    assert peer.told(AppFailed) == []


def test_a_connection_without_an_app_is_drained_at_once_and_its_messages_can_be_received() -> None:
    """Without an app, a drain fails all waiting calls at once. Messages that came can still be received."""
    peer = Peer()
    request = peer.connection.request(b"question")
    peer.says(b"answer\nmessage\n")
    waiting = peer.connection.request(b"another")
    peer.connection.drain()
    assert peer.closing
    assert result_of(request) == b"answer"
    assert result_of(waiting).reason.rule == "drained"
    assert result_of(peer.connection.receive()) == b"message"
    peer.leaves()
    assert result_of(peer.connection.receive()).reason is peer.reason


def test_a_paused_app_is_drained_when_it_resumes() -> None:
    """While the app is paused, a drain waits. After `resume()` the waiting messages are answered."""
    peer = Peer(lambda message, _: message)
    peer.connection.pause()
    peer.says(b"1\n")
    peer.connection.drain()
    assert not peer.closing
    peer.connection.resume()
    assert peer.hears() == b"1\n"
    assert peer.closing


def test_close_ends_a_drain_at_once() -> None:
    """`close()` ends a drain at once: the current work is given up, and the reason is still the drain."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n")
    peer.connection.drain()
    closed = peer.connection.close()
    assert peer.closing
    app.pending[0].callback(b"one")
    assert peer.hears() == b""
    assert result_of(closed) is NOTHING
    peer.leaves()
    assert peer.reason.rule == "drained"


def test_draining_a_connection_that_closes_changes_nothing() -> None:
    """`drain()` on a closing connection changes nothing: the grace of `close()` stays."""
    peer = Peer()
    peer.connection.close(10.0)
    peer.connection.drain(1.0)
    assert peer.protocol.info().deadline == Wait("ending", 10.0)
    peer.leaves()
    assert peer.reason.rule == "closed"
