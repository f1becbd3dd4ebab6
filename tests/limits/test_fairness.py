"""Fair shares: waiting connections and long steps get one turn of the reactor each, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tcpapp.limits.fairness import READERS_PER_TURN, FairShare, StepScheduler
from tests.peers import TurnClock


def test_waiting_connections_go_on_one_in_each_turn() -> None:
    """Connections get their turns in the order in which they began to wait; no timer is left when none waits."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    for number in range(3):
        share.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    assert (done, len(share), len(clock.getDelayedCalls())) == ([], 3, 1)
    for count in range(1, 4):
        clock.give_turn()
        assert done == list(range(count))
    assert (len(share), clock.getDelayedCalls()) == (0, [])


def test_a_connection_that_waits_again_is_behind_the_others() -> None:
    """A busy connection that waits again after its turn gets the next turn after the connection that waits already."""
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
    """A cancelled call is not made, and the others are; cancelling the last one cancels the timer."""
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
    """When a call raises, the reactor gets the exception, and the next call has its turn."""
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
    """A connection that waits twice has one turn, at its first place; after `cancel`, it has none."""
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
    """A turn makes as many calls as fit into its time; a connection that waits again gets a later turn."""
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


def test_the_sockets_are_polled_twice_between_turns() -> None:
    """The first poll reads and answers the messages of other connections, and the second poll sends the answers."""
    share, clock, done = FairShare(), TurnClock(), list[int]()
    for number in range(2):
        share.wait(lambda number=number: done.append(number), clock)  # type: ignore[misc]
    counts = []
    for _ in range(4):
        clock.turn()
        counts.append(len(done))
    assert counts == [0, 1, 1, 2]


def test_after_an_overrun_there_is_one_more_poll_before_the_next_turn() -> None:
    """After a connection took longer than a turn, the sockets are polled once more; then no timer is left."""
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


def test_an_overrun_counts_until_the_next_turn() -> None:
    """`contention` counts overruns until the next turn, and is 1 while a connection waits, until it is cancelled."""
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


def test_quick_connections_share_every_other_turn() -> None:
    """Quick connections share every other turn; the turns between them go to new and busy connections alternately."""
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


def test_a_few_connections_are_read_from_in_a_turn() -> None:
    """A turn reads from `READERS_PER_TURN` connections, besides the connection whose turn it is."""
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
    """Return a step that appends its name to `done`, and takes this many seconds."""

    def step() -> None:
        done.append(name)
        if clock is not None:
            clock.rightNow += seconds

    return step


def test_one_step_is_done_in_a_turn() -> None:
    """The first step is done at once, each other in a turn of its own; one turn after the last, no timer is left."""
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
    """When a turn has passed since the last step, the next step is done at once."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.run(step_of(done, "first"), clock)
    clock.give_turn()
    steps.run(step_of(done, "second"), clock)
    assert done == ["first", "second"]


def test_no_step_is_done_in_a_turn_with_noted_work() -> None:
    """After `note_step`, a new step waits for the next turn."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.note_step(clock)
    steps.note_step(clock)
    steps.run(step_of(done, "step"), clock)
    assert (done, len(clock.getDelayedCalls())) == ([], 1)
    clock.give_turn()
    assert done == ["step"]


def test_steps_take_as_long_as_other_work_in_a_turn() -> None:
    """After 5 ms of other work, the next turn does five steps of 1 ms: a busy loop does not starve them."""
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
    """A step that is run again while it waits is done once, at its first place."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    steps.note_step(clock)
    again, other = step_of(done, "again"), step_of(done, "other")
    for each in (again, other, again):
        steps.run(each, clock)
    for _ in range(3):
        clock.give_turn()
    assert done == ["again", "other"]


def test_a_cancelled_step_is_not_done() -> None:
    """A cancelled step takes no turn from the next step; cancelling it again does nothing."""
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
    """A step that raises at once raises in `run`, a later one in the reactor; the next step has its turn."""
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


def test_the_sockets_are_polled_twice_between_steps() -> None:
    """The sockets are polled twice between two steps, so that an answer is sent before the next step."""
    steps, clock, done = StepScheduler(), TurnClock(), list[str]()
    for name in "ab":
        steps.run(step_of(done, name), clock)
    clock.turn()
    assert done == ["a"]
    clock.turn()
    assert done == ["a", "b"]
