"""Taking turns: one after the other, one in each turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpapp.turns import Turns
from tests.peers import TurnClock


def test_those_who_wait_go_on_one_in_each_turn() -> None:
    """First come, first served; no timer is left when nobody waits."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    for number in range(3):
        turns.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    assert (done, len(turns), len(clock.getDelayedCalls())) == ([], 3, 1)
    for count in range(1, 4):
        clock.turn()
        assert done == list(range(count))
    assert (len(turns), clock.getDelayedCalls()) == (0, [])


def test_one_that_waits_again_is_behind_the_others() -> None:
    """However much it has to do."""
    turns, clock, done = Turns(), TurnClock(), list[str]()

    def greedy() -> None:
        done.append("greedy")
        turns.wait(greedy, clock)

    turns.wait(greedy, clock)
    turns.wait(lambda: done.append("modest"), clock)
    for _ in range(4):
        clock.turn()
    assert done == ["greedy", "modest", "greedy", "greedy"]


def test_one_that_leaves_is_not_called() -> None:
    """The others are; and when nobody is left there is no timer."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    calls: list[Callable[[], None]] = [lambda number=number: done.append(number) for number in range(3)]  # type: ignore[misc]
    for each in calls:
        turns.wait(each, clock)
    turns.leave(calls[0])
    turns.leave(calls[0])
    clock.turn()
    assert done == [1]
    turns.leave(calls[2])
    assert clock.getDelayedCalls() == []
    turns.leave(calls[2])


def test_one_that_raises_takes_no_turn_from_others() -> None:
    """It is the reactor's to log; the next one has its turn."""
    clock, told, turns = TurnClock(), list[str](), Turns()

    def raises() -> None:
        raise ZeroDivisionError

    turns.wait(raises, clock)
    turns.wait(lambda: told.append("next"), clock)
    with pytest.raises(ZeroDivisionError):
        clock.turn()
    clock.turn()
    assert (told, len(turns)) == (["next"], 0)


def test_one_that_waits_twice_has_one_turn() -> None:
    """At the place it had first; and once it has left, none."""
    turns, clock, done = Turns(), TurnClock(), list[str]()
    calls: list[Callable[[], None]] = [lambda name=name: done.append(name) for name in ("a", "b")]  # type: ignore[misc]
    for each in (*calls, calls[0]):
        turns.wait(each, clock)
    assert len(turns) == 2
    turns.leave(calls[1])
    clock.turn()
    clock.turn()
    assert (done, clock.getDelayedCalls()) == (["a"], [])
