"""How a connection ends: the table of its states, the first cause, the deadline, and calls that wait for the end."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection import lifecycle, pause_flags
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import END, NOTHING, TRANSITIONS, Event, Lifecycle, Stage, State
from tcpapp.connection.outcomes import OVERDUE
from tcpapp.connection.pause_flags import CONNECTION_CLOSED, CONNECTION_CLOSING, NO_MORE_INPUT
from tcpapp.errors import NotConnected
from tests.peers import outcome

CLEAN = CloseReason(EndedBy.US, "closed", "close() was called")
DRAINED = CloseReason(EndedBy.US, "drained", "we are stopping")
PEER_ENDED = CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")
BAD = CloseReason(EndedBy.US, "message-too-long", "10 bytes, over 5")
HALF = CloseReason(EndedBy.PEER, "truncated-message", "4 bytes of a message had arrived")
WORSE = CloseReason(EndedBy.NETWORK, "lost", "reset")


class Rig:
    """A lifecycle on a clock, and the reasons of the cuts by its deadline."""

    is_handling = False

    def __init__(self) -> None:
        self.cuts: list[CloseReason] = []
        self.clock = Clock()
        self.deadlines = Deadlines(self)
        self.deadlines.run_on(self.clock)
        self.lifecycle = Lifecycle(self.deadlines)

    def settle(self, outcome: int, detail: Any = None) -> None:
        assert (outcome, detail) == (OVERDUE, ("ending", self.lifecycle.overdue_reason.limit))
        self.cuts.append(self.lifecycle.overdue_reason)

    def within(self, seconds: float, rule: str) -> None:
        self.lifecycle.end_within(seconds, rule, f"the timer of {rule}")

    @property
    def rules(self) -> list[str]:
        return [each.rule for each in self.cuts]


READY: list[tuple[Event, CloseReason | None]] = [(Event.CONNECTED, None), (Event.READY, None)]
INPUT_OVER = (Event.INPUT_OVER, PEER_ENDED)
CLOSING = (Event.CLOSE, CLEAN)

WAYS: dict[Stage, list[list[tuple[Event, CloseReason | None]]]] = {
    Stage.UNOPENED: [[]],
    Stage.OPENING: [[(Event.CONNECTED, None)]],
    Stage.OPEN: [READY],
    Stage.INPUT_ENDING: [[*READY, INPUT_OVER]],
    Stage.INPUT_CLOSED: [[*READY, INPUT_OVER, (Event.RELEASED, None)]],
    Stage.CLOSING: [[*READY, CLOSING], [*READY, INPUT_OVER, CLOSING]],
    Stage.FLUSHING: [[*READY, CLOSING, (Event.APP_IDLE, None)]],
    Stage.TAKEN_OVER: [[*READY, CLOSING, (Event.APP_IDLE, None), (Event.PASSED_ON, None)]],
    Stage.DISCONNECTING: [[*READY, CLOSING, (Event.APP_IDLE, None), (Event.HANDED_OVER, None)]],
    Stage.ABORTING: [[*READY, (Event.ABORT, BAD)], [(Event.CONNECTED, None), (Event.CLOSE, BAD)]],
    Stage.CLOSED: [[*READY, (Event.LOST, WORSE)], [(Event.LOST, WORSE)]],
}
"""The events that lead to each stage."""


def begun(stage: Stage, way: int = 0) -> Rig:
    """Return a rig that came to `stage`."""
    rig = Rig()
    for event, cause in WAYS[stage][way]:
        rig.lifecycle.happen(event, cause)
    assert stage is rig.lifecycle.stage
    return rig


def open_(rig: Rig) -> None:
    """Let the events happen that are left on the way to `Stage.OPEN`."""
    for event, _ in READY:
        rig.lifecycle.happen(event)


# The table -----------------------------------------------------------------------------------------------------------

ACTIONS = {
    name: value
    for name, value in vars(lifecycle).items()
    if name.isupper() and isinstance(value, int) and name not in ("NOTHING", *pause_flags.__all__)
}
"""The actions of the table, with their bits."""


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("stage", Stage)
def test_each_event_does_in_each_stage_what_the_table_says(stage: Stage, event: Event) -> None:
    """Each event has the next stage and the actions of its row. Without a row nothing changes and nothing is done."""
    after, actions = TRANSITIONS.get((stage, event), (stage, NOTHING))
    for way in range(len(WAYS[stage])):
        rig = begun(stage, way)
        before = rig.lifecycle.cause
        assert (actions, after) == (rig.lifecycle.happen(event, WORSE), rig.lifecycle.stage)
        if (stage, event) not in TRANSITIONS:
            assert before is rig.lifecycle.cause


def test_a_stage_is_only_left_for_a_later_one() -> None:
    """
    No connection opens twice, and the loss of the transport ends a connection in every stage. Only a switch of the
    framing undoes the end of the input.
    """
    order = list(Stage)
    for (before, event), (after, _) in TRANSITIONS.items():
        if event is Event.SWITCHED:
            assert (before.state, after) == (State.INPUT_CLOSED, Stage.OPEN)
            continue
        assert order.index(before) < order.index(after) or before is after is Stage.ABORTING
    for stage in order[:-1]:
        assert TRANSITIONS[stage, Event.LOST] == (Stage.CLOSED, END)


def test_each_action_is_a_bit_of_its_own_and_is_asked_for() -> None:
    """Each action has its own bit, so that a row can combine actions, and some row asks for it."""
    assert sorted(ACTIONS.values()) == [1 << place for place in range(len(ACTIONS))]
    asked = 0
    for _, actions in TRANSITIONS.values():
        asked |= actions
    assert sum(ACTIONS.values()) == asked


def test_the_waiters_fail_after_all_else_is_settled() -> None:
    """The bits that fail the waiters, and that lead to the next event, are the last ones."""
    assert sorted(ACTIONS, key=lambda name: ACTIONS[name])[-2:] == ["FAIL_WAITERS", "ASK_APP"]


@pytest.mark.parametrize(
    ("state", "sends", "reads", "brings", "hold"),
    [
        (State.UNOPENED, False, False, True, 0),
        (State.OPENING, False, True, True, 0),
        (State.OPEN, True, True, True, 0),
        (State.INPUT_CLOSED, True, False, None, NO_MORE_INPUT),
        (State.CLOSING, False, False, False, CONNECTION_CLOSING),
        (State.CLOSED, False, False, False, CONNECTION_CLOSING | CONNECTION_CLOSED),
    ],
)
def test_what_can_be_done_in_each_state(state: State, sends: bool, reads: bool, brings: Any, hold: int) -> None:
    """Each state has its own permissions. A read message can still come while the input ends, and not after it."""
    stages = [each for each in Stage if each.state is state]
    assert stages
    for stage in stages:
        assert (sends, reads, hold) == (stage.sends, stage.reads, stage.pauses)
        assert stage.brings == (stage is Stage.INPUT_ENDING if brings is None else brings)
        assert (stage.is_open, stage.flushes) == (stage is Stage.OPEN, stage is Stage.FLUSHING)
        assert stage.drops == (stage in (Stage.ABORTING, Stage.CLOSED))


def rendered() -> str:
    """Return the table as in the docstring. An event that the table leaves out does nothing."""
    rows = [("stage", "event", "next stage", "what is done")]
    for (before, event), (after, actions) in TRANSITIONS.items():
        done = [f"`{name}`" for name, value in ACTIONS.items() if actions & value]
        rows.append((before.name, f"`{event.name}`", after.name, " ".join(done)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = " ".join("=" * width for width in widths)
    lines = [" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([line, lines[0], line, *lines[1:], line])


def test_the_table_of_the_docstring_is_the_one_that_is_executed() -> None:
    """The table in the docstring has the same rows as the table that is executed."""
    assert f"\n\n{rendered()}\n\n" in (lifecycle.__doc__ or "")


# The cause -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        pytest.param([], lifecycle.UNOPENED_REASON, id="unopened"),
        pytest.param([*READY], lifecycle.UNOPENED_REASON, id="open"),
        pytest.param([(Event.LOST, WORSE)], WORSE, id="lost-before-it-was-open"),
        pytest.param([*READY, (Event.LOST, WORSE)], WORSE, id="lost"),
        pytest.param([*READY, (Event.CLOSE, CLEAN), (Event.CLOSE, BAD)], CLEAN, id="closed-twice"),
        pytest.param([*READY, (Event.CLOSE, CLEAN), (Event.LOST, WORSE)], WORSE, id="closed-then-lost"),
        pytest.param([*READY, (Event.CLOSE, CLEAN), (Event.LOST, HALF)], CLEAN, id="closed-inside-a-message"),
        pytest.param([*READY, (Event.LOST, HALF)], HALF, id="ended-inside-a-message"),
        pytest.param([*READY, (Event.INPUT_OVER, PEER_ENDED), (Event.LOST, WORSE)], PEER_ENDED, id="ended-then-lost"),
        pytest.param([*READY, (Event.CLOSE, CLEAN), (Event.ABORT, BAD)], BAD, id="closed-then-spoilt"),
        pytest.param([*READY, (Event.CLOSE, BAD), (Event.ABORT, WORSE)], BAD, id="failed-then-cut"),
        pytest.param([*READY, (Event.CLOSE, CLEAN), (Event.ABORT, DRAINED)], CLEAN, id="closed-then-cut-well"),
        pytest.param(
            [*READY, (Event.INPUT_OVER, PEER_ENDED), (Event.CLOSE, CLEAN)], PEER_ENDED, id="ended-then-closed"
        ),
        pytest.param([*READY, (Event.INPUT_OVER, PEER_ENDED), (Event.CLOSE, BAD)], BAD, id="ended-then-failed"),
        pytest.param([*READY, (Event.INPUT_OVER, BAD), (Event.CLOSE, CLEAN)], BAD, id="unreadable-then-closed"),
        pytest.param([*READY, (Event.INPUT_OVER, PEER_ENDED), (Event.INPUT_OVER, BAD)], PEER_ENDED, id="ended-twice"),
        pytest.param([*READY, (Event.ABORT, BAD), (Event.ABORT, WORSE)], BAD, id="cut-twice"),
        pytest.param([*READY, (Event.LOST, WORSE), (Event.LOST, BAD)], WORSE, id="lost-twice"),
    ],
)
def test_the_first_cause_stands_unless_a_failure_follows_a_clean_end(
    events: list[tuple[Event, CloseReason | None]], cause: CloseReason
) -> None:
    """
    The first cause stays, because later ones can be its effects.

    Only a clean cause can be replaced, by a failure.
    """
    rig = Rig()
    for event, reason in events:
        rig.lifecycle.happen(event, reason)
    assert cause == rig.lifecycle.cause


@pytest.mark.parametrize(
    ("stage", "reason"),
    [(Stage.UNOPENED, lifecycle.UNOPENED_REASON), (Stage.ABORTING, BAD), (Stage.CLOSED, WORSE)],
)
def test_calls_after_the_end_fail_with_the_cause(stage: Stage, reason: CloseReason) -> None:
    """Calls fail with `NotConnected`, whose reason is the cause, and whose text contains it."""
    error = begun(stage).lifecycle.error
    assert (NotConnected, reason) == (type(error), error.reason)
    assert f"the connection is not open: {reason}" == str(error)


# The deadline --------------------------------------------------------------------------------------------------------


def test_a_deadline_cuts_by_its_rule() -> None:
    """A deadline cuts once, when its time has come, and the reason has its rule and its seconds."""
    rig = begun(Stage.OPEN)
    rig.lifecycle.end_within(2.5, "grace-over", "grace")
    rig.clock.advance(2.4)
    assert rig.cuts == []
    rig.clock.advance(0.1)
    rig.clock.advance(100)
    reason = CloseReason(EndedBy.US, "grace-over", "it was not finished in 2.5 s (grace)", 2.5, 2.5)
    assert [reason] == rig.cuts


@pytest.mark.parametrize(
    ("first", "passed", "second", "at", "rule"),
    [
        pytest.param(10, 0, 5, 5, "second", id="sooner"),
        pytest.param(5, 0, 10, 5, "first", id="later"),
        pytest.param(5, 0, 5, 5, "first", id="the-same"),
        pytest.param(10, 6, 5, 10, "first", id="later-by-now"),
        pytest.param(10, 4, 5, 9, "second", id="still-sooner"),
        pytest.param(10, 0, 0, 0, "second", id="at-once"),
    ],
)
def test_a_deadline_only_comes_nearer(first: float, passed: float, second: float, at: float, rule: str) -> None:
    """Of two deadlines the earlier one holds, whichever was set last."""
    rig = begun(Stage.OPEN)
    rig.within(first, "first")
    rig.clock.advance(passed)
    rig.within(second, "second")
    assert at == rig.deadlines.ends("ending")
    rig.clock.advance(at - passed)
    assert [rule] == rig.rules


def test_a_deadline_can_follow_a_deadline_that_is_over() -> None:
    """After a deadline has passed, a second one can be set, and cuts as well."""
    rig = begun(Stage.OPEN)
    rig.within(1, "first")
    rig.clock.advance(1)
    rig.within(2, "second")
    rig.clock.advance(2)
    assert rig.rules == ["first", "second"]


@pytest.mark.parametrize("event", [Event.INPUT_OVER, Event.CLOSE])
def test_a_deadline_holds_while_it_closes(event: Event) -> None:
    """The end of the input and the closing do not remove a deadline."""
    rig = begun(Stage.OPEN)
    rig.within(1, "first")
    rig.lifecycle.happen(event, PEER_ENDED)
    rig.clock.advance(1)
    assert rig.rules == ["first"]


@pytest.mark.parametrize("event", [Event.ABORT, Event.LOST])
def test_no_deadline_is_left_when_there_is_nothing_to_wait_for(event: Event) -> None:
    """An abort, or the loss of the transport, removes the deadline."""
    rig = begun(Stage.OPEN)
    rig.within(1, "first")
    rig.lifecycle.happen(event, PEER_ENDED)
    assert rig.deadlines.started == ()


@pytest.mark.parametrize(("stage", "way"), [(Stage.UNOPENED, 0), (Stage.CLOSED, 0), (Stage.CLOSED, 1)])
def test_a_connection_that_is_not_open_has_no_deadline(stage: Stage, way: int) -> None:
    """Before the opening and after the end, setting a deadline starts no timer."""
    rig = begun(stage, way)
    rig.within(1, "first")
    assert rig.deadlines.started == ()


def test_without_a_clock_there_is_no_deadline() -> None:
    """Without a clock, as over a transport without a reactor, setting a deadline starts no timer."""
    rig = Rig()
    rig.deadlines.run_on(None)
    open_(rig)
    rig.within(1, "first")
    assert (rig.lifecycle.stage, rig.deadlines.ends("ending")) == (Stage.OPEN, inf)


# Calls that wait for the end -----------------------------------------------------------------------------------------


def test_waiters_are_notified_after_the_end() -> None:
    """Waiters for the end fire with the cause, once and in order, when `tell()` is called, and not before."""
    rig = begun(Stage.OPEN)
    order: list[int] = []
    seen = [outcome(rig.lifecycle.when_over(), lambda _, number=number: order.append(number)) for number in range(3)]
    rig.lifecycle.happen(Event.LOST, WORSE)
    assert seen == [[], [], []]
    rig.lifecycle.fire_closed()
    rig.lifecycle.fire_closed()
    assert (seen, order) == ([[WORSE]] * 3, [0, 1, 2])


@pytest.mark.parametrize("way", [0, 1])
def test_a_waiter_after_the_end_fires_at_once(way: int) -> None:
    """After the end, `when_over()` fires at once with the reason."""
    assert outcome(begun(Stage.CLOSED, way).lifecycle.when_over()) == [WORSE]


def test_a_waiter_before_the_opening_fires_at_the_end() -> None:
    """`when_over()` can be called before the opening, and fires with the end of the connection."""
    rig = begun(Stage.UNOPENED)
    seen = outcome(rig.lifecycle.when_over())
    open_(rig)
    rig.lifecycle.happen(Event.LOST, PEER_ENDED)
    rig.lifecycle.fire_closed()
    assert seen == [PEER_ENDED]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_waiter_can_be_cancelled(cancelled: int) -> None:
    """A cancelled waiter gets only the cancellation, and the other waiters fire with the cause."""
    rig = begun(Stage.OPEN)
    waiters = [rig.lifecycle.when_over() for _ in range(3)]
    seen = [outcome(each) for each in waiters]
    waiters[cancelled].cancel()
    rig.lifecycle.happen(Event.LOST, PEER_ENDED)
    rig.lifecycle.fire_closed()
    assert [CancelledError] == [type(each) for each in seen.pop(cancelled)]
    assert seen == [[PEER_ENDED], [PEER_ENDED]]


@pytest.mark.parametrize("cancelled", [1, 2, 3])
def test_a_notified_waiter_can_cancel_another(cancelled: int) -> None:
    """If a callback cancels another waiter, that one gets only the cancellation, and all others get the cause."""
    rig = begun(Stage.OPEN)
    waiters = [rig.lifecycle.when_over() for _ in range(4)]
    seen = [outcome(each, lambda _: waiters[cancelled].cancel()) for each in waiters]
    rig.lifecycle.happen(Event.LOST, PEER_ENDED)
    rig.lifecycle.fire_closed()
    assert [CancelledError] == [type(each) for each in seen.pop(cancelled)]
    assert seen == [[PEER_ENDED]] * 3


def test_a_notified_waiter_can_wait_again() -> None:
    """A callback that calls `when_over()` again gets the cause at once."""
    rig = begun(Stage.OPEN)
    again: list[list[Any]] = []
    outcome(rig.lifecycle.when_over(), lambda _: again.append(outcome(rig.lifecycle.when_over())))
    rig.lifecycle.happen(Event.LOST, PEER_ENDED)
    rig.lifecycle.fire_closed()
    assert again == [[PEER_ENDED]]


# Calls that wait for the opening --------------------------------------------------------------------------------------


def test_waiters_for_the_opening_fire_with_it() -> None:
    """Waiters for the opening fire after it, once and in order. A later waiter fires at once."""
    rig = begun(Stage.OPENING)
    seen = [outcome(rig.lifecycle.when_open()) for _ in range(2)]
    open_(rig)
    assert seen == [[], []]
    rig.lifecycle.fire_open()
    rig.lifecycle.fire_open()
    assert (seen, outcome(rig.lifecycle.when_open())) == ([[None], [None]], [None])


@pytest.mark.parametrize("error", [None, OSError("the network failed")])
def test_a_connection_that_never_opens_fails_its_waiters(error: OSError | None) -> None:
    """Waiters for the opening fail with the error behind the end, or with an error that has the end's reason."""
    reason = CloseReason(EndedBy.NETWORK, "lost", "reset", error=error)
    rig = begun(Stage.OPENING)
    early = outcome(rig.lifecycle.when_open())
    rig.lifecycle.happen(Event.LOST, reason)
    rig.lifecycle.fire_closed()
    for seen in (early, outcome(rig.lifecycle.when_open())):
        assert [error or f"the connection is not open: {reason}"] == [(error and seen[0]) or str(seen[0])]
    assert not rig.lifecycle.opened


def test_a_waiter_for_the_opening_can_be_cancelled() -> None:
    """A cancelled waiter for the opening gets only the cancellation."""
    rig = begun(Stage.OPENING)
    waiter = rig.lifecycle.when_open()
    seen = outcome(waiter)
    waiter.cancel()
    open_(rig)
    rig.lifecycle.fire_open()
    assert [CancelledError] == [type(each) for each in seen]
