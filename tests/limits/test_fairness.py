"""Taking turns: one after the other, one in each turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpapp.limits.fairness import READERS_PER_TURN, FairShare, StepScheduler
from tests.peers import TurnClock


def test_waiting_connections_go_on_one_in_each_turn() -> None:
    """First come, first served; no timer is left when nobody waits."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    for number in range(3):
        share.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    assert (done, len(share), len(clock.getDelayedCalls())) == ([], 3, 1)
    for count in range(1, 4):
        clock.give_turn()
        assert done == list(range(count))
    assert (len(share), clock.getDelayedCalls()) == (0, [])


def test_a_connection_that_waits_again_is_behind_the_others() -> None:
    """However much it has to do."""
    share, clock, done = FairShare(), TurnClock(), list[str]()

    def large() -> None:
        done.append("greedy")
        share.wait(large, clock)

    share.wait(large, clock)
    share.wait(lambda: done.append("modest"), clock)
    for _ in range(4):
        clock.give_turn()
    assert done == ["greedy", "modest", "greedy", "greedy"]


def test_a_cancelled_call_is_not_made() -> None:
    """The others are; and when nobody is left there is no timer."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    calls: list[Callable[[], None]] = [lambda number=number: done.append(number) for number in range(3)]  # type: ignore[misc]
    for each in calls:
        share.wait(each, clock)
    share.cancel(calls[0])
    share.cancel(calls[0])
    clock.give_turn()
    assert done == [1]
    share.cancel(calls[2])
    assert clock.getDelayedCalls() == []
    share.cancel(calls[2])


def test_a_call_that_raises_takes_no_turn_from_others() -> None:
    """The reactor logs it; the next one has its turn."""
    clock, told, share = TurnClock(), list[str](), FairShare()

    def raises() -> None:
        raise ZeroDivisionError

    share.wait(raises, clock)
    share.wait(lambda: told.append("next"), clock)
    with pytest.raises(ZeroDivisionError):
        clock.give_turn()
    clock.give_turn()
    assert (told, len(share)) == (["next"], 0)


def test_a_connection_that_waits_twice_has_one_turn() -> None:
    """At the place it had first; and once it has left, none."""
    share, clock, done = FairShare(), TurnClock(), list[str]()
    calls: list[Callable[[], None]] = [lambda name=name: done.append(name) for name in ("a", "b")]  # type: ignore[misc]
    for each in (*calls, calls[0]):
        share.wait(each, clock)
    assert len(share) == 2
    share.cancel(calls[1])
    clock.give_turn()
    clock.give_turn()
    assert (done, clock.getDelayedCalls()) == (["a"], [])


def test_short_calls_share_a_turn() -> None:
    """As many as fit into the turn; connections that wait again meanwhile have the next one."""
    share, clock, done = FairShare(), TurnClock(), list[int]()

    def step(number: int) -> Callable[[], None]:
        def go_on() -> None:
            done.append(number)
            clock.rightNow += 0.4
            if number == 0:
                share.wait(go_on, clock, 1.0)

        return go_on

    for number in range(5):
        share.wait(step(number), clock, 1.0)
    clock.give_turn()
    assert done == [0, 1, 2]
    clock.give_turn()
    assert done == [0, 1, 2, 3, 4, 0]


def test_the_sockets_are_looked_at_twice_between_turns() -> None:
    """The first poll reads and answers the messages of others, and the second one sends the answers."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    for number in range(2):
        share.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    counts = []
    for _ in range(4):
        clock.turn()
        counts.append(len(done))
    assert counts == [0, 1, 1, 2]


def test_after_work_that_took_long_there_is_one_look_more_before_the_next_turn() -> None:
    """The first one is not over yet. Nothing is left after it."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    share.note_overrun(clock)
    share.note_overrun(clock)
    assert (share.contention, len(clock.getDelayedCalls())) == (2, 1)
    share.wait(lambda: done.append(0), clock)
    counts = []
    for _ in range(3):
        clock.turn()
        counts.append(len(done))
    assert counts == [0, 0, 1]
    assert (share.contention, clock.getDelayedCalls()) == (0, [])


def test_what_took_long_counts_also_when_nobody_waits_any_more() -> None:
    """Until the next turn; and a waiting connection counts as one that took long."""
    share, clock = FairShare(), TurnClock()

    def go_on() -> None:
        raise AssertionError

    share.wait(go_on, clock)
    assert share.contention == 1
    share.cancel(go_on)
    assert (share.contention, clock.getDelayedCalls()) == (0, [])
    share.note_overrun(clock)
    share.wait(go_on, clock)
    share.cancel(go_on)
    assert share.contention == 1
    clock.give_turn()
    assert (share.contention, clock.getDelayedCalls()) == (0, [])


def test_quick_ones_share_every_other_turn() -> None:
    """Busy and new connections have the others, alternately; none waits for all of another kind."""
    share, clock, done = FairShare(), TurnClock(), list[str]()

    def waits(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    for number in range(3):
        share.wait(waits(f"busy {number}"), clock)
        share.wait_as_new(waits(f"new {number}"), clock, 0)
        share.wait_as_quick(waits(f"quick {number}"), clock, 1.0)
    assert len(share) == 9
    told = []
    while share:
        clock.give_turn()
        told.append(done[:])
        done.clear()
        if len(told) == 2:
            share.wait_as_quick(waits("late"), clock, 1.0)
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
    share, clock, done = FairShare(), TurnClock(), list[object]()
    for number in range(READERS_PER_TURN + 1):
        share.wait_to_read(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    share.wait(lambda: done.append("busy"), clock)
    clock.give_turn()
    assert done == [*range(READERS_PER_TURN), "busy"]
    clock.give_turn()
    assert done[-1] == READERS_PER_TURN
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
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    for name in "abc":
        steps.run(step_of(done, name), clock)
    assert (done, len(steps)) == (["a"], 2)
    for count in (2, 3):
        clock.give_turn()
        assert done == list("abc"[:count])
    clock.give_turn()
    assert (len(steps), clock.getDelayedCalls()) == (0, [])


def test_a_step_in_a_later_turn_is_done_at_once() -> None:
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.run(step_of(done, "first"), clock)
    clock.give_turn()
    steps.run(step_of(done, "second"), clock)
    assert done == ["first", "second"]


def test_no_step_is_done_in_a_turn_with_something_as_long() -> None:
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.note_step(clock)
    steps.note_step(clock)
    steps.run(step_of(done, "step"), clock)
    assert (done, len(clock.getDelayedCalls())) == ([], 1)
    clock.give_turn()
    assert done == ["step"]


def test_steps_take_as_long_as_all_else_in_a_turn() -> None:
    """If a turn takes 5 ms, the next one has five steps of 1 ms: a busy loop does not starve them."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    for number in range(20):
        steps.run(step_of(done, str(number), clock, 0.001), clock)
    assert len(done) == 1
    clock.rightNow += 0.0049  # other connections' work in this turn
    clock.give_turn()
    assert len(done) == 1 + 5
    clock.give_turn()
    assert len(done) == 1 + 5 + 1


def test_a_step_that_waits_already_keeps_its_place() -> None:
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.note_step(clock)
    again, other = step_of(done, "again"), step_of(done, "other")
    for each in (again, other, again):
        steps.run(each, clock)
    for _ in range(3):
        clock.give_turn()
    assert done == ["again", "other"]


def test_a_step_that_leaves_is_not_done() -> None:
    """Nor does it take a turn from the others; it may leave when it does not wait."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.note_step(clock)
    gone, stays = step_of(done, "gone"), step_of(done, "stays")
    steps.run(gone, clock)
    steps.run(stays, clock)
    steps.cancel(gone)
    steps.cancel(gone)
    clock.give_turn()
    assert done == ["stays"]


def test_a_step_that_raises_takes_no_turn_from_others() -> None:
    """At once or later: the caller handles it, or the reactor."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()

    def raises() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        steps.run(raises, clock)
    steps.run(raises, clock)
    steps.run(step_of(done, "next"), clock)
    with pytest.raises(ZeroDivisionError):
        clock.give_turn()
    clock.give_turn()
    assert done == ["next"]


def test_the_sockets_are_looked_at_twice_between_steps() -> None:
    """As between turns: an answer is sent before the next step."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    for name in "ab":
        steps.run(step_of(done, name), clock)
    clock.turn()
    assert done == ["a"]
    clock.turn()
    assert done == ["a", "b"]
