"""Writes of many connections: in order, from the next turn on, for as long as a turn lasts."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tcpapp.connection.spread_writes import AT_ONCE, SpreadWrites


class Writer:
    """It notes its turns, each of which takes a millisecond."""

    def __init__(self, clock: Clock, turns: list[int], number: int) -> None:
        self.clock, self.turns, self.number = clock, turns, number

    def take_turn(self) -> None:
        self.turns.append(self.number)
        self.clock.rightNow += 0.001  # type: ignore[attr-defined]
        if self.number == 13:
            raise ZeroDivisionError


class Rig:
    """Spread writes, and a clock that makes single turns."""

    def __init__(self) -> None:
        self.clock, self.spread, self.turns = Clock(), SpreadWrites(), list[int]()

    def add(self, *numbers: int, microseconds: int = 1) -> None:
        self.spread.add([Writer(self.clock, self.turns, each) for each in numbers], self.clock, microseconds)

    def turn(self) -> list[int]:
        """Make one turn, and return the numbers of the writes in it."""
        self.turns.clear()
        call = self.clock.calls.pop(0)
        call.called = 1
        call.func(*call.args)
        return self.turns.copy()


def test_nothing_is_written_before_the_next_turn() -> None:
    """The writes wait for the event loop, in order, and one timer is set for all of them."""
    rig = Rig()
    rig.add(1, 2)
    rig.add(3)
    assert (rig.turns, len(rig.spread), len(rig.clock.calls)) == ([], 3, 1)
    assert rig.turn() == [1, 2, 3]
    assert (len(rig.spread), rig.clock.calls) == (0, [])


def test_many_writes_are_spread_over_turns() -> None:
    """Where the time of a turn is over, the rest waits for other turns, with the writes that come meanwhile behind."""
    rig = Rig()
    rig.add(*range(100, 100 + AT_ONCE + 1))
    assert rig.turn() == [*range(100, 100 + AT_ONCE)]
    rig.add(1)
    assert rig.turn() == [100 + AT_ONCE, 1]
    assert rig.clock.calls == []


def test_without_a_limit_one_turn_has_all_writes() -> None:
    """With 0 microseconds there is no limit."""
    rig = Rig()
    rig.add(*range(100, 200), microseconds=0)
    assert rig.turn() == [*range(100, 200)]


def test_a_write_that_raises_does_not_hold_up_the_others() -> None:
    """The writes behind it have the next turn."""
    rig = Rig()
    rig.add(1, 13, 2)
    with pytest.raises(ZeroDivisionError):
        rig.turn()
    assert rig.turn() == [2]
