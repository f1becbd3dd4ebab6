"""
Deferreds that wait for the same event, and all calls that wait on a connection.

However a connection ends, every waiter fires once with the same reason, and nothing is left running.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.app import conversation
from tcpapp.connection.connection import State
from tcpapp.connection.waiters import Waiters
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits, Timeouts
from tcpapp.telemetry import Closed
from tests.peers import AbruptTransport, NotedTransport, Outcomes, Peer, outcome, result_of

# Deferreds that wait for the same event -------------------------------------------------------------------------------

WENT = CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")


def waiting(count: int) -> tuple[Waiters[int], list[Deferred[int]], list[list[Any]]]:
    """Return waiters, this many waiting Deferreds of them, and the results of each."""
    waiters: Waiters[int] = Waiters()
    each = [waiters.wait() for _ in range(count)]
    return waiters, each, [outcome(one) for one in each]


def test_all_waiters_fire_once() -> None:
    """`fire()` fires all waiters in the order of their calls, and then none of them waits."""
    waiters, each, told = waiting(3)
    order: list[int] = []
    for number, one in enumerate(each):
        one.addCallback(lambda _, number=number: order.append(number))
    assert len(waiters) == 3
    waiters.fire(7)
    waiters.fire(8)
    assert (told, order, len(waiters)) == ([[7]] * 3, [0, 1, 2], 0)


def test_fire_first_fires_the_first_waiter_alone() -> None:
    """`fire_first()` returns whether there was a waiter."""
    waiters, _, told = waiting(2)
    assert [waiters.fire_first(number) for number in range(3)] == [True, True, False]
    assert told == [[0], [1]]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_waiter_that_is_cancelled_waits_no_longer(cancelled: int) -> None:
    """A cancelled waiter gets only the cancellation, and the others fire as before."""
    waiters, each, told = waiting(3)
    each[cancelled].cancel()
    assert len(waiters) == 2
    waiters.fire(7)
    assert [CancelledError] == [type(one) for one in told.pop(cancelled)]
    assert told == [[7], [7]]


@pytest.mark.parametrize("tell", ["fire", "fail", "fail_unlogged"])
def test_a_waiter_can_cancel_another_waiter(tell: str) -> None:
    """If the first callback cancels the second waiter, that one gets only the cancellation, and the third fires."""
    waiters: Waiters[int] = Waiters()
    each = [waiters.wait() for _ in range(3)]
    told = [outcome(one, lambda _: each[1].cancel()) for one in each]
    getattr(waiters, tell)(7 if tell == "fire" else ValueError())
    kind = int if tell == "fire" else ValueError
    assert [[kind], [CancelledError], [kind]] == [[type(one) for one in seen] for seen in told]


def test_a_fired_waiter_can_wait_again() -> None:
    """A callback that waits again fires at the next `fire()`."""
    waiters: Waiters[int] = Waiters()
    again: list[list[Any]] = []
    waiters.wait().addCallback(lambda _: again.append(outcome(waiters.wait())))
    waiters.fire(1)
    assert (again, len(waiters)) == ([[]], 1)
    waiters.fire(2)
    assert again == [[2]]


def test_each_waiter_gets_an_error_of_its_own_at_the_end_of_a_connection() -> None:
    """Each waiter gets a `NotConnected` of its own, because each can raise it. Other errors are given as they are."""
    waiters, _, told = waiting(2)
    error = NotConnected("it ended", WENT)
    waiters.fail_unlogged(error)
    [[one], [other]] = told
    assert one is not other
    assert (str(one), one.reason) == (str(error), WENT)
    waiters, _, told = waiting(2)
    waiters.fail_unlogged(cause := ValueError("bad"))
    assert told == [[cause], [cause]]


@pytest.mark.parametrize(
    ("fail", "logged"),
    [
        (lambda waiters: waiters.fail(ValueError()), [ValueError]),
        (lambda waiters: waiters.fail_unlogged(ValueError()), [ValueError]),
        (lambda waiters: waiters.fail_unlogged(error := ValueError(), error), []),
        (lambda waiters: waiters.fail_unlogged(NotConnected("it ended", WENT)), []),
    ],
)
def test_errors_that_are_reported_elsewhere_are_not_logged(fail: Any, logged: list[type], logged_errors: Any) -> None:
    """`fail_unlogged()` does not log the end of a connection, nor the error that is named. Other errors are logged."""
    waiters: Waiters[int] = Waiters()
    waiters.wait()
    fail(waiters)
    assert logged == [each.type for each in logged_errors.take()]


# Every way to end -----------------------------------------------------------------------------------------------------


def drains_and_lets_the_deadline_pass(peer: Peer) -> None:
    peer.connection.drain(3.0)
    peer.clock.advance(3.0)


def closes_and_lets_the_grace_pass(peer: Peer) -> None:
    peer.connection.close(3.0)
    peer.clock.advance(3.0)


def half_closes_and_waits(peer: Peer) -> None:
    peer.half_closes()
    peer.clock.advance(60.0)


def half_closes_and_resets(peer: Peer) -> None:
    peer.half_closes()
    peer.resets()


ENDINGS: dict[str, Callable[[Peer], Any]] = {
    "the peer leaves": Peer.leaves,
    "the peer resets": Peer.resets,
    "the peer half-closes": Peer.half_closes,
    "the peer half-closes and resets": half_closes_and_resets,
    "half-close over": half_closes_and_waits,
    "unreadable": lambda peer: peer.says(b"x" * 200),
    "truncated": lambda peer: (peer.says(b"half"), peer.half_closes()),
    "close": lambda peer: peer.connection.close(),
    "close at once": lambda peer: (peer.connection.close(0), peer.clock.advance(0)),
    "grace over": closes_and_lets_the_grace_pass,
    "abort": lambda peer: peer.connection.abort(),
    "drain": lambda peer: peer.connection.drain(),
    "drain over": drains_and_lets_the_deadline_pass,
    "send stalled": lambda peer: (quietly(peer.connection.send(b"x" * 90)), peer.clock.advance(30.0)),
    "too much unsent": lambda peer: [quietly(peer.connection.send(b"x" * 90)) for _ in range(100)],
}

WAITERS: dict[str, Callable[[Any], Deferred[Any]]] = {
    "send": lambda connection: connection.send(b"y" * 90),
    "receive": lambda connection: connection.receive(),
    "request": lambda connection: connection.request(b"question"),
    "when_closed": lambda connection: connection.when_closed(),
}


def quietly(deferred: Deferred[Any]) -> Deferred[Any]:
    """Let `deferred` fail silently."""
    return deferred.addErrback(lambda _: None)


class Noting:
    """An app that notes the reasons that `closed` gets, and never replies."""

    def __init__(self) -> None:
        self.reasons: list[CloseReason] = []

    def received(self, message: bytes, connection: Any) -> Deferred[None]:
        return Deferred()

    def closed(self, connection: Any, reason: CloseReason) -> None:
        self.reasons.append(reason)


def stalled(app: Any, transport: type[NotedTransport] = NotedTransport) -> Peer:
    """Return a peer that reads nothing, on a connection near every bound."""
    limits = Limits(write_high=50, max_unsent=2000)
    timeouts = Timeouts(send_progress=30.0)
    return Peer(app, "line:max=99", transport=transport(peer_reads=False), limits=limits, timeouts=timeouts)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("in_hand", [False, True])
def test_every_waiter_fires_once_at_every_end(ending: str, in_hand: bool) -> None:
    """
    However the connection ends, each Deferred fires once, with the one reason, and no timer is left.

    A call that got a clean reason before a failure keeps that reason. Later calls get the failure.
    """
    app = Noting()
    peer = stalled(app)
    outcomes = Outcomes()
    if in_hand:
        peer.says(b"1\n2\n")
    quietly(peer.connection.send(b"y" * 60))
    for name, wait in WAITERS.items():
        outcomes.of(name, wait(peer.connection))
        outcomes.of(f"second {name}", wait(peer.connection))
    ENDINGS[ending](peer)
    for name, wait in WAITERS.items():
        outcomes.of(f"late {name}", wait(peer.connection))
    if peer.connection.state is not State.CLOSED:
        peer.resets()
    for name in WAITERS:
        for when in ("", "second ", "late "):
            [result] = outcomes[when + name]
            if isinstance(result, NotConnected):
                result = result.reason
            early = isinstance(result, CloseReason) and result.clean
            assert result is peer.reason or early or (result in {None, b"2"} and name in {"send", "receive"})
    assert app.reasons == [peer.reason]
    assert peer.clock.getDelayedCalls() == []
    assert peer.factory.connections == set()


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_conversation_outlives_its_connection(ending: str) -> None:
    """Whatever a conversation waits for, it fails or is cancelled at the end of its connection."""
    for wait in [*WAITERS.values(), lambda _: Deferred()]:
        ended: list[bool] = []

        @conversation
        async def talk(connection: Any, wait: Any = wait, ended: list[bool] = ended) -> None:
            try:
                await connection.send(b"y" * 90)
                await wait(connection)
            finally:
                ended.append(True)

        peer = stalled(talk)
        peer.transport.go_on()
        peer.transport.stall()
        ENDINGS[ending](peer)
        if peer.connection.state is not State.CLOSED:
            peer.resets()
        assert ended == [True]
        assert peer.clock.getDelayedCalls() == []


# Any sequence of calls ------------------------------------------------------------------------------------------------


CALLS = ["pause", "resume", "drain", "close", "abort"]
THEN = ["nothing", "cancel", "answer", *WAITERS, *CALLS]


class AnyConnection(RuleBasedStateMachine):
    """A connection whose app, user and peer do everything possible, in any order."""

    transport = NotedTransport

    def __init__(self) -> None:
        super().__init__()
        self.app = Noting()
        self.pending: list[Deferred[Any]] = []
        self.app.received = self.received  # type: ignore[method-assign]
        self.peer = stalled(self.app, self.transport)
        self.outcomes = Outcomes()
        self.handed_out: list[Deferred[Any]] = []
        self.number = 0
        self.seen: list[bytes] = []
        self.said: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> Deferred[Any]:
        assert all(each.called for each in self.pending), "the app got a message before it replied to the last"
        self.seen.append(message)
        self.pending.append(Deferred())
        return self.pending[-1]

    @property
    def lost(self) -> bool:
        return self.peer.connection.state is State.CLOSED

    @rule(name=st.sampled_from(sorted(WAITERS)), then=st.sampled_from(THEN))
    def wait(self, name: str, then: str) -> None:
        self.number += 1
        number = str(self.number)
        deferred = WAITERS[name](self.peer.connection)
        self.handed_out.append(deferred)
        self.outcomes.of(number, deferred).addCallback(lambda _: self.then(then))

    def then(self, call: str) -> None:
        """Make one more call, in the callback that runs now."""
        if call in WAITERS:
            self.wait(call, "nothing")
        elif call == "cancel":
            for each in self.handed_out:
                each.cancel()
        elif call == "answer" and self.pending and not self.pending[-1].called:
            self.pending[-1].callback(b"reply")
        elif call in CALLS:
            self.call(call)

    @precondition(lambda self: self.handed_out)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.handed_out)).cancel()

    @rule(call=st.sampled_from(CALLS))
    def call(self, call: str) -> None:
        result = getattr(self.peer.connection, call)()
        if call == "close":
            self.number += 1
            self.outcomes.of(str(self.number), result)
            self.handed_out.append(result)

    @precondition(lambda self: self.pending and not self.pending[-1].called)
    @rule(reply=st.sampled_from([None, b"reply", "unsendable", ZeroDivisionError()]))
    def answer(self, reply: Any) -> None:
        if isinstance(reply, Exception):
            self.pending[-1].errback(reply)
        else:
            self.pending[-1].callback(reply)

    @precondition(lambda self: not self.lost and not self.peer.paused)
    @rule(count=st.integers(1, 3), fault=st.sampled_from([b"", b"", b"half", b"x" * 200]))
    def say(self, count: int, fault: bytes) -> None:
        say = self.peer.says if self.peer.transport.wants_to_read else self.peer.slips_in
        say(b"".join(b"%d\n" % each for each in range(count)) + fault)

    @precondition(lambda self: not self.lost)
    @rule(count=st.one_of(st.none(), st.integers(1, 100)))
    def take(self, count: int | None) -> None:
        self.peer.transport.take(count)

    @rule(seconds=st.sampled_from([0.0, 1.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.peer.clock.advance(seconds)

    @precondition(lambda self: not self.lost)
    @rule(how=st.sampled_from([Peer.half_closes, Peer.leaves, Peer.resets]))
    def end(self, how: Callable[[Peer], None]) -> None:
        how(self.peer)

    @invariant()
    def nobody_is_told_twice(self) -> None:
        names = [name for name, _ in self.outcomes.all]
        assert len(names) == len(set(names))

    def teardown(self) -> None:
        if not self.lost:
            self.peer.leaves()
        assert len(self.outcomes.all) == self.number
        assert self.app.reasons == [event.reason for event in self.peer.told(Closed)]
        assert result_of(self.peer.connection.when_closed()) is self.peer.reason
        assert self.peer.clock.getDelayedCalls() == []
        assert self.peer.factory.connections == set()


class AnyAbruptConnection(AnyConnection):
    """A connection over a transport that is lost before `close()` and `abort()` return."""

    transport = AbruptTransport


TestAnyConnection = AnyConnection.TestCase
TestAnyConnection.settings = settings(max_examples=100, stateful_step_count=25)
TestAnyAbruptConnection = AnyAbruptConnection.TestCase
TestAnyAbruptConnection.settings = settings(max_examples=100, stateful_step_count=25)
