"""The timer that the connections of a factory share: one delayed call, and a bound on what it keeps."""

from __future__ import annotations

from math import inf

import pytest
from twisted.internet.task import Clock

from tcpapp.connection.shared_timer import SPARE, SharedTimer
from tcpapp.server.factory import MessageServerFactory
from tests.peers import TurnClock, joined


class Sleeper:
    """A stand-in for the deadlines of one connection: it notes when it is called."""

    def __init__(self, name: str, rig: Rig) -> None:
        self.name = name
        self.timer_at = inf
        self.rig = rig

    def on_timer(self, at: float) -> None:
        self.rig.called.append((self.name, self.rig.clock.seconds()))
        self.rig.then(self)


class Rig:
    """A timer on a clock, and the calls that it made."""

    def __init__(self, now: float = 0.0) -> None:
        self.clock = TurnClock()
        self.clock.advance(now)
        self.timer = SharedTimer(self.clock)
        self.called: list[tuple[str, float]] = []
        self.then = lambda sleeper: None

    def sleeps(self, name: str, at: float) -> Sleeper:
        sleeper = Sleeper(name, self)
        self.timer.set(sleeper, at)
        return sleeper

    @property
    def calls(self) -> list[float]:
        return [each.getTime() for each in self.clock.getDelayedCalls()]


def test_many_times_are_one_delayed_call() -> None:
    """There is one delayed call, for the earliest time, whatever the order in which the times are set."""
    rig = Rig()
    for at in (7.5, 3.25, 9.0, 3.75, 120.5, 3.0):
        rig.sleeps(str(at), at)
    assert rig.calls == [3.0]
    rig.clock.pump([0.25] * 600)
    assert rig.called == [(str(at), at) for at in (3.0, 3.25, 3.75, 7.5, 9.0, 120.5)]
    assert (rig.calls, len(rig.timer)) == ([], 0)


@pytest.mark.parametrize("at", [0.0, 0.999, 1.0, 5.0000004, 1e9])
def test_each_time_is_kept_exactly(at: float) -> None:
    """A time is not rounded to a second: nothing is called before it."""
    rig = Rig()
    rig.sleeps("a", at)
    rig.sleeps("b", 1e10)
    rig.clock.advance(max(0.0, at - 0.001))
    assert rig.called == ([] if at else [("a", 0.0)])
    rig.clock.advance(0.001)
    assert [name for name, _ in rig.called] == ["a"]


def test_a_clock_before_0_is_kept() -> None:
    """Times before 0 by the clock are due at once, in their order."""
    rig = Rig()
    rig.sleeps("later", -0.25)
    rig.sleeps("first", -7.5)
    rig.clock.advance(0)
    assert [name for name, _ in rig.called] == ["first", "later"]


def test_a_time_is_moved() -> None:
    """The last time that was set counts, and the one before does nothing."""
    rig = Rig()
    sleeper = rig.sleeps("a", 30.5)
    rig.timer.set(sleeper, 10.5)
    rig.sleeps("b", 60)
    rig.clock.pump([0.5] * 200)
    assert rig.called == [("a", 10.5), ("b", 60)]


def test_an_unset_time_is_not_called_and_the_last_one_leaves_no_delayed_call() -> None:
    """A time that is unset stays until its second, but nothing is called. With the last one all is gone at once."""
    rig = Rig()
    first, second = rig.sleeps("a", 3), rig.sleeps("b", 8)
    rig.timer.unset(first)
    rig.timer.unset(first)
    assert rig.calls == [3]
    rig.clock.advance(5)
    assert (rig.called, rig.calls) == ([], [8])
    rig.timer.unset(second)
    assert (rig.calls, len(rig.timer)) == ([], 0)


def test_times_that_no_longer_count_are_bounded() -> None:
    """Connections that come and go do not fill the timer, while a few stay."""
    rig = Rig()
    stays = [rig.sleeps(f"stays {at}", at) for at in (1.5, 40, 100)]
    for count in range(5000):
        rig.timer.unset(rig.sleeps("gone", 10 + count % 50))
        assert len(rig.timer) <= 2 * len(stays) + SPARE
    for count in range(5000):
        rig.timer.set(stays[2], 100 - count / 100)
        assert len(rig.timer) <= 2 * len(stays) + SPARE
    rig.clock.pump([0.1] * 1100)
    assert [name for name, _ in rig.called] == ["stays 1.5", "stays 40", "stays 100"]


def test_a_time_that_is_set_while_others_are_called_has_another_turn() -> None:
    """A connection that looks again at once does so in another turn, so that sockets are read before that."""
    rig = Rig()
    counts = iter(range(3))
    rig.then = lambda sleeper: None if next(counts, None) is None else rig.timer.set(sleeper, rig.clock.seconds())
    rig.sleeps("a", 1)
    turns = 0
    rig.clock.rightNow = 1.0
    while rig.clock.getDelayedCalls():
        turns += 1
        rig.clock.turn()
    assert (turns, len(rig.called)) == (4, 4)


def test_a_connection_that_is_ended_by_another_is_not_called() -> None:
    """A connection that is ended by the call of another one is not called in the same turn either."""
    rig = Rig()
    sleepers = [rig.sleeps(name, 1) for name in "abc"]
    rig.then = lambda _: [rig.timer.unset(each) for each in sleepers]
    rig.clock.advance(1)
    assert (rig.called, rig.calls, len(rig.timer)) == ([("a", 1)], [], 0)


def test_an_error_of_one_does_not_concern_the_others() -> None:
    """If a connection raises an error, the others are called in the next turn."""
    rig = Rig()

    def fails(sleeper: Sleeper) -> None:
        if sleeper.name == "b":
            raise ZeroDivisionError

    rig.then = fails
    for name in "abcd":
        rig.sleeps(name, 1)
    with pytest.raises(ZeroDivisionError):
        rig.clock.advance(1)
    rig.clock.advance(0)
    assert [name for name, _ in rig.called] == ["a", "b", "c", "d"]
    assert rig.calls == []


def test_an_error_does_not_call_those_that_were_ended_before_it() -> None:
    """A connection that ends another one, and then raises an error, leaves no time of that other one."""
    rig = Rig()

    def fails(sleeper: Sleeper) -> None:
        if sleeper.name == "b":
            rig.timer.unset(sleepers["c"])
            raise ZeroDivisionError

    rig.then = fails
    sleepers = {name: rig.sleeps(name, 1) for name in "abcd"}
    with pytest.raises(ZeroDivisionError):
        rig.clock.advance(1)
    rig.clock.advance(0)
    assert [name for name, _ in rig.called] == ["a", "b", "d"]
    assert rig.calls == []


def test_the_connections_of_a_factory_share_one_delayed_call() -> None:
    """A hundred open connections have one delayed call, and none when they have ended."""
    clock = Clock()
    factory = MessageServerFactory(lambda message, connection: message, clock=clock)
    transports = [joined(factory) for _ in range(100)]
    assert len(clock.getDelayedCalls()) == 1
    for each in transports:
        each.lose()
    assert clock.getDelayedCalls() == []
