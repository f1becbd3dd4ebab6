"""Taking turns: one after the other, one in each turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpapp.limits.fairness import READERS, Steps, Turns
from tests.peers import TurnClock


def test_those_who_wait_go_on_one_in_each_turn() -> None:
    """First come, first served; no timer is left when nobody waits."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    for number in range(3):
        turns.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    assert (done, len(turns), len(clock.getDelayedCalls())) == ([], 3, 1)
    for count in range(1, 4):
        clock.give_turn()
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
        clock.give_turn()
    assert done == ["greedy", "modest", "greedy", "greedy"]


def test_one_that_leaves_is_not_called() -> None:
    """The others are; and when nobody is left there is no timer."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    calls: list[Callable[[], None]] = [lambda number=number: done.append(number) for number in range(3)]  # type: ignore[misc]
    for each in calls:
        turns.wait(each, clock)
    turns.leave(calls[0])
    turns.leave(calls[0])
    clock.give_turn()
    assert done == [1]
    turns.leave(calls[2])
    assert clock.getDelayedCalls() == []
    turns.leave(calls[2])


def test_one_that_raises_takes_no_turn_from_others() -> None:
    """The reactor logs it; the next one has its turn."""
    clock, told, turns = TurnClock(), list[str](), Turns()

    def raises() -> None:
        raise ZeroDivisionError

    turns.wait(raises, clock)
    turns.wait(lambda: told.append("next"), clock)
    with pytest.raises(ZeroDivisionError):
        clock.give_turn()
    clock.give_turn()
    assert (told, len(turns)) == (["next"], 0)


def test_one_that_waits_twice_has_one_turn() -> None:
    """At the place it had first; and once it has left, none."""
    turns, clock, done = Turns(), TurnClock(), list[str]()
    calls: list[Callable[[], None]] = [lambda name=name: done.append(name) for name in ("a", "b")]  # type: ignore[misc]
    for each in (*calls, calls[0]):
        turns.wait(each, clock)
    assert len(turns) == 2
    turns.leave(calls[1])
    clock.give_turn()
    clock.give_turn()
    assert (done, clock.getDelayedCalls()) == (["a"], [])


def test_those_that_last_little_share_a_turn() -> None:
    """As many as fit into the turn; connections that wait again meanwhile have the next one."""
    turns, clock, done = Turns(), TurnClock(), list[int]()

    def step(number: int) -> Callable[[], None]:
        def go_on() -> None:
            done.append(number)
            clock.rightNow += 0.4
            if number == 0:
                turns.wait(go_on, clock, 1.0)

        return go_on

    for number in range(5):
        turns.wait(step(number), clock, 1.0)
    clock.give_turn()
    assert done == [0, 1, 2]
    clock.give_turn()
    assert done == [0, 1, 2, 3, 4, 0]


def test_the_sockets_are_looked_at_twice_between_turns() -> None:
    """The first poll reads and answers the messages of others, and the second one sends the answers."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    for number in range(2):
        turns.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    counts = []
    for _ in range(4):
        clock.turn()
        counts.append(len(done))
    assert counts == [0, 1, 1, 2]


def test_after_work_that_took_long_there_is_one_look_more_before_the_next_turn() -> None:
    """The first one is not over yet. Nothing is left after it."""
    turns, clock, done = Turns(), TurnClock(), list[int]()
    turns.use(clock)
    turns.use(clock)
    assert (turns.used, len(clock.getDelayedCalls())) == (2, 1)
    turns.wait(lambda: done.append(0), clock)
    counts = []
    for _ in range(3):
        clock.turn()
        counts.append(len(done))
    assert counts == [0, 0, 1]
    assert (turns.used, clock.getDelayedCalls()) == (0, [])


def test_what_took_long_counts_also_when_nobody_waits_any_more() -> None:
    """Until the next turn; and a waiting connection counts as one that took long."""
    turns, clock = Turns(), TurnClock()

    def go_on() -> None:
        raise AssertionError

    turns.wait(go_on, clock)
    assert turns.used == 1
    turns.leave(go_on)
    assert (turns.used, clock.getDelayedCalls()) == (0, [])
    turns.use(clock)
    turns.wait(go_on, clock)
    turns.leave(go_on)
    assert turns.used == 1
    clock.give_turn()
    assert (turns.used, clock.getDelayedCalls()) == (0, [])


def test_quick_ones_share_every_other_turn() -> None:
    """Busy and new connections have the others, alternately; none waits for all of another kind."""
    turns, clock, done = Turns(), TurnClock(), list[str]()

    def waits(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    for number in range(3):
        turns.wait(waits(f"busy {number}"), clock)
        turns.wait_as_new(waits(f"new {number}"), clock, 0)
        turns.wait_as_quick(waits(f"quick {number}"), clock, 1.0)
    assert len(turns) == 9
    told = []
    while turns:
        clock.give_turn()
        told.append(done[:])
        done.clear()
        if len(told) == 2:
            turns.wait_as_quick(waits("late"), clock, 1.0)
    assert told == [
        ["quick 0", "quick 1", "quick 2"],
        ["new 0"],
        ["late"],
        ["busy 0"],
        ["new 1"],
        ["busy 1"],
        ["new 2"],
        ["busy 2"],
    ]


def test_a_few_are_read_from_in_a_turn() -> None:
    """Besides the one whose turn it is."""
    turns, clock, done = Turns(), TurnClock(), list[object]()
    for number in range(READERS + 1):
        turns.wait_to_read(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    turns.wait(lambda: done.append("busy"), clock)
    clock.give_turn()
    assert done == [*range(READERS), "busy"]
    clock.give_turn()
    assert done[-1] == READERS
    assert clock.getDelayedCalls() == []


# Steps ----------------------------------------------------------------------------------------------------------------


def step_of(done: list[str], name: str, clock: TurnClock | None = None, seconds: float = 0.0) -> Callable[[], None]:
    """A step that notes its name, and takes this many seconds."""

    def step() -> None:
        done.append(name)
        if clock is not None:
            clock.rightNow += seconds

    return step


def test_one_step_is_done_in_a_turn() -> None:
    """The first one at once, the others in their order; a turn after the last one there is no timer."""
    steps, clock, done = Steps(), TurnClock(), list[str]()
    for name in "abc":
        steps.take(step_of(done, name), clock)
    assert (done, len(steps)) == (["a"], 2)
    for count in (2, 3):
        clock.give_turn()
        assert done == list("abc"[:count])
    clock.give_turn()
    assert (len(steps), clock.getDelayedCalls()) == (0, [])


def test_a_step_in_a_later_turn_is_done_at_once() -> None:
    steps, clock, done = Steps(), TurnClock(), list[str]()
    steps.take(step_of(done, "first"), clock)
    clock.give_turn()
    steps.take(step_of(done, "second"), clock)
    assert done == ["first", "second"]


def test_no_step_is_done_in_a_turn_with_something_as_long() -> None:
    steps, clock, done = Steps(), TurnClock(), list[str]()
    steps.count(clock)
    steps.count(clock)
    steps.take(step_of(done, "step"), clock)
    assert (done, len(clock.getDelayedCalls())) == ([], 1)
    clock.give_turn()
    assert done == ["step"]


def test_steps_take_as_long_as_all_else_in_a_turn() -> None:
    """If a turn takes 5 ms, the next one has five steps of 1 ms: a busy loop does not starve them."""
    steps, clock, done = Steps(), TurnClock(), list[str]()
    for number in range(20):
        steps.take(step_of(done, str(number), clock, 0.001), clock)
    assert len(done) == 1
    clock.rightNow += 0.0049  # other connections' work in this turn
    clock.give_turn()
    assert len(done) == 1 + 5
    clock.give_turn()
    assert len(done) == 1 + 5 + 1


def test_a_step_that_waits_already_keeps_its_place() -> None:
    steps, clock, done = Steps(), TurnClock(), list[str]()
    steps.count(clock)
    again, other = step_of(done, "again"), step_of(done, "other")
    for each in (again, other, again):
        steps.take(each, clock)
    for _ in range(3):
        clock.give_turn()
    assert done == ["again", "other"]


def test_a_step_that_leaves_is_not_done() -> None:
    """Nor does it take a turn from the others; it may leave when it does not wait."""
    steps, clock, done = Steps(), TurnClock(), list[str]()
    steps.count(clock)
    gone, stays = step_of(done, "gone"), step_of(done, "stays")
    steps.take(gone, clock)
    steps.take(stays, clock)
    steps.leave(gone)
    steps.leave(gone)
    clock.give_turn()
    assert done == ["stays"]


def test_a_step_that_raises_takes_no_turn_from_others() -> None:
    """At once or later: the caller handles it, or the reactor."""
    steps, clock, done = Steps(), TurnClock(), list[str]()

    def raises() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steps.take(raises, clock)
    steps.take(raises, clock)
    steps.take(step_of(done, "next"), clock)
    with pytest.raises(ZeroDivisionError):
        clock.give_turn()
    clock.give_turn()
    assert done == ["next"]


def test_the_sockets_are_looked_at_twice_between_steps() -> None:
    """As between turns: an answer is sent before the next step."""
    steps, clock, done = Steps(), TurnClock(), list[str]()
    for name in "ab":
        steps.take(step_of(done, name), clock)
    clock.turn()
    assert done == ["a"]
    clock.turn()
    assert done == ["a", "b"]
