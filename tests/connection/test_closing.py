"""The end of a connection: close, abort, and the loss of the transport, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.app import batch
from tcpapp.connection.connection import State
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits, Timeouts
from tcpapp.telemetry import AppFailed, Closed
from tcpapp.telemetry.statistics import Wait
from tests.peers import NOTHING, Peer, Switch, outcome, result_of, stalled


def echo(message: bytes, connection: Any) -> bytes:
    return message


# close ----------------------------------------------------------------------------------------------------------------


def test_close_inside_received_sends_the_reply_and_hands_over_no_more() -> None:
    """After `close()` inside `received`, the reply is sent. The rest of the chunk is not handled, but counted."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        seen.append(message)
        if message == b"quit":
            connection.close()
        return message

    peer = Peer(app)
    peer.says(b"1\nquit\n2\n")
    peer.slips_in(b"3\n")
    assert peer.transport.writes == [b"1\nquit\n"]
    assert peer.closing
    peer.leaves()
    assert seen == [b"1", b"quit"]
    assert peer.told(Closed)[0].unhandled == 1
    assert peer.reason.rule == "closed"


def test_close_inside_an_async_received_sends_the_reply_that_it_returns() -> None:
    """After `close()` inside a coroutine that does not wait, the reply of the coroutine is sent."""

    async def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return message

    peer = Peer(app)
    peer.says(b"1\n2\n")
    assert peer.hears() == b"1\n"


def test_an_app_can_close_twice_and_all_calls_get_the_same_reason() -> None:
    """A second `close()` is no error, before and after the end, and all calls get the same reason."""
    closed: list[Any] = []

    def app(message: bytes, connection: Any) -> None:
        closed.extend([connection.close(), connection.close(), connection.when_closed()])

    peer = Peer(app)
    peer.says(b"1\n")
    closed.append(peer.connection.close())
    assert result_of(closed[0]) is NOTHING
    peer.leaves()
    closed.append(peer.connection.close())
    assert [result_of(each) for each in closed[1:]] == [peer.reason] * 4


def test_close_flushes_what_the_peer_takes_in_time() -> None:
    """`close()` sends all pending bytes as the peer reads. Then the transport is closed, and all sends fire."""
    peer = stalled()
    sends = [peer.connection.send(b"x" * 100_000) for _ in range(3)]
    closed = peer.connection.close()
    takes = 0
    while not peer.closing:
        assert peer.transport.unsent <= 2 * peer.factory.settings.limits.write_high
        peer.transport.take()
        takes += 1
    assert takes > 1
    assert peer.transport.producer is None
    peer.transport.take()
    peer.leaves()
    assert peer.hears() == (b"x" * 100_000 + b"\n") * 3
    assert [result_of(each) for each in sends] == [None] * 3
    assert result_of(closed).rule == "closed"


@pytest.mark.parametrize("grace", [None, 3.0, 0])
def test_close_cuts_what_the_peer_does_not_take_in_time(grace: float | None) -> None:
    """`close()` cuts a connection whose peer does not read, after the grace of the call, or of the factory."""
    peer = stalled(timeouts=Timeouts(grace=7.0))
    send = peer.connection.send(b"x" * 100_000)
    closed = peer.connection.close(grace)
    seconds = 7.0 if grace is None else grace
    if seconds:
        peer.clock.advance(seconds - 0.1)
        assert not peer.transport.aborted
    peer.clock.advance(0.1)
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, peer.reason.limit) == ("grace-over", seconds)
    assert result_of(closed) is peer.reason
    assert result_of(send).reason is peer.reason


def test_a_shorter_grace_holds_and_a_longer_one_does_not() -> None:
    """A later `close()` can make the deadline earlier, and cannot make it later."""
    peer = Peer()
    peer.connection.close(10.0)
    peer.connection.close(20.0)
    peer.connection.close(2.0)
    peer.connection.close()
    assert peer.protocol.info().deadline == Wait("ending", 2.0)


def test_a_grace_and_a_deadline_that_are_over_already_cut_at_once() -> None:
    """A caller that calculates seconds can get a value below 0: then `close()` and `drain()` cut at once."""
    for call in ("close", "drain"):
        peer = stalled(Switch())
        peer.says(b"1\n")
        peer.connection.send(b"unsent")
        getattr(peer.connection, call)(-1.0)
        peer.clock.advance(0)
        assert peer.transport.aborted


def test_a_closing_connection_sends_no_more_and_hears_no_more() -> None:
    """While the connection closes, send, request and receive fail with the reason."""
    peer = Peer(echo)
    waiting = peer.connection.receive()
    peer.connection.close()
    calls = [peer.connection.send(b"x"), peer.connection.request(b"x"), peer.connection.receive(), waiting]
    peer.slips_in(b"1\n")
    peer.protocol.readConnectionLost()
    assert peer.hears() == b""
    peer.leaves()
    assert [result_of(each).reason for each in calls] == [peer.reason] * 4


def test_a_pause_does_not_keep_a_connection_from_closing() -> None:
    """A paused connection closes, even if `resume()` and `pause()` are called while it closes."""
    peer = Peer(echo)
    peer.connection.pause()
    peer.says(b"1\n")
    peer.connection.close()
    peer.connection.resume()
    peer.connection.pause()
    assert peer.closing
    peer.leaves()
    assert peer.hears() == b""


# abort ----------------------------------------------------------------------------------------------------------------


def test_abort_cuts_at_once() -> None:
    """`abort()` cuts the transport at once, and all waiting calls get the reason."""
    peer = Peer()
    waiting = [peer.connection.receive(), peer.connection.request(b"x")]
    peer.connection.abort()
    assert peer.transport.aborted
    assert peer.connection.state is State.CLOSING
    peer.resets()
    assert peer.reason.rule == "aborted"
    assert [result_of(each).reason for each in waiting] == [peer.reason] * 2


def test_abort_inside_received_lets_no_further_message_through() -> None:
    """After `close()` and `abort()` inside `received`, no message is handled, and the reason is the abort."""
    seen: list[bytes] = []

    def app(message: bytes, connection: Any) -> None:
        seen.append(message)
        connection.close()
        connection.abort()

    peer = Peer(app)
    peer.says(b"1\n2\n")
    assert seen == [b"1"]
    peer.resets()
    assert peer.reason.rule == "aborted"


@pytest.mark.parametrize("call", ["close", "abort"])
def test_an_unhandled_chunk_over_the_mark_does_not_pause_reading(call: str) -> None:
    """If `received` ends the connection, the rest of the chunk is counted, and does not pause reading."""
    peer = Peer(lambda _, connection: getattr(connection, call)() and None, limits=Limits(inbox_high=100, inbox_low=0))
    peer.says(b"1\n" * 1000)
    assert not peer.paused
    peer.leaves()
    assert peer.told(Closed)[0].unhandled == 999


def test_abort_cuts_a_closing_short() -> None:
    """`abort()` cuts a connection that is closing, and leaves no timer."""
    peer = Peer()
    peer.connection.close()
    peer.connection.abort()
    assert peer.transport.aborted
    assert peer.timers == []
    peer.resets()
    assert peer.clock.getDelayedCalls() == []


# The single end -------------------------------------------------------------------------------------------------------


def test_the_end_comes_once() -> None:
    """After the end, a second `connectionLost` and more data do nothing."""
    log: list[Any] = []

    class App:
        def received(self, message: bytes, connection: Any) -> None:
            log.append(message)

        def closed(self, connection: Any, reason: Any) -> None:
            log.append(reason)

    peer = Peer(App())
    peer.resets()
    peer.protocol.connectionLost(Failure(ConnectionDone()))
    peer.slips_in(b"1\n")
    peer.protocol.readConnectionLost()
    assert log == [peer.reason]
    assert (peer.reason.rule, str(peer.reason.by)) == ("lost", "network")
    assert isinstance(peer.reason.error, ConnectionLost)


@pytest.mark.parametrize(("end", "rule"), [("close", "closed"), ("drain", "drained")])
def test_closing_while_a_message_is_coming_is_no_fault_of_the_peers(end: str, rule: str) -> None:
    """After our `close()` or `drain()`, a half message of the peer does not matter: the end is clean, and ours."""
    peer = Peer(Switch())
    peer.says(b"hal")
    getattr(peer.connection, end)()
    peer.transport.turn()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.clean) == (rule, "us", True)


def test_a_failure_of_the_app_after_the_half_close_is_the_reason() -> None:
    """If the app fails after the peer's half-close, the failure replaces the clean reason."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n")
    peer.half_closes()
    app.pending[0].errback(ZeroDivisionError())
    peer.leaves()
    assert peer.reason.rule == "app-failed"


def test_an_app_that_is_cancelled_while_the_connection_is_open_has_failed() -> None:
    """An answer that is cancelled while the connection is open is a failure, because only the app can cancel it."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n")
    app.pending[0].addErrback(lambda failure: failure).cancel()
    peer.leaves()
    [failed] = peer.told(AppFailed)
    assert failed.failure.check(CancelledError)


class Sleeper:
    """An app whose replies wait, and which notes cancelled replies."""

    def __init__(self) -> None:
        self.cancelled: list[bytes] = []

    async def received(self, message: bytes, connection: Any) -> bytes:
        return await self.answers(message, connection)

    def answers(self, message: bytes, connection: Any) -> Deferred[bytes]:
        return Deferred(lambda _: self.cancelled.append(message))


@pytest.mark.parametrize("form", ["function", "coroutine", "object", "batch"])
@pytest.mark.parametrize("end", ["resets", "leaves", "abort", "close"])
def test_an_answer_that_is_awaited_at_the_end_is_cancelled(form: str, end: str) -> None:
    """At the end, the pending answer of each form of app is cancelled once, and that is no failure."""
    sleeper = Sleeper()
    apps = {
        "function": sleeper.answers,
        "coroutine": sleeper.received,
        "object": sleeper,
        "batch": batch(lambda messages, connection: sleeper.answers(messages[0], connection)),
    }
    peer: Any = Peer(apps[form])
    peer.says(b"1\n2\n")
    getattr(peer.connection if end in ("abort", "close") else peer, end)()
    peer.clock.advance(10)
    peer.leaves()
    assert (sleeper.cancelled, peer.told(AppFailed)) == ([b"1"], [])


def test_an_app_that_learns_of_the_end_by_an_error_has_not_failed() -> None:
    """A handler that waits on its connection gets an error at the end, and the app has not failed."""

    async def app(message: bytes, connection: Any) -> bytes:
        return await connection.receive()

    for end in (Peer.half_closes, Peer.leaves, Peer.resets):
        peer = Peer(app)
        peer.says(b"1\n")
        end(peer)
        peer.leaves()
        assert peer.reason.rule in {"end-of-stream", "lost"}
        assert peer.told(AppFailed) == []


def test_a_not_connected_of_the_apps_own_is_its_failure() -> None:
    """A `NotConnected` that the app raises while its connection is open is a failure, as any other error."""

    def app(message: bytes, connection: Any) -> None:
        raise NotConnected("another's", Peer().protocol._lifecycle.cause)

    peer = Peer(app)
    peer.says(b"1\n")
    peer.leaves()
    assert peer.reason.rule == "app-failed"


def test_a_close_can_have_a_reason_of_its_own() -> None:
    """`close(reason=…)` flushes as any `close()`, and ends the connection by that reason, unless it had one before."""
    mine = CloseReason(EndedBy.US, "closed", "the game is over")
    peer = Peer()
    peer.connection.send(b"bye")
    told = outcome(peer.connection.close(reason=mine))
    peer.connection.close(reason=CloseReason(EndedBy.US, "closed", "again"))
    assert peer.hears() == b"bye\n"
    peer.leaves()
    assert told == [mine]
