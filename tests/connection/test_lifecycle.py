"""How a connection ends: the table of its states, the first cause, the deadline, and those who wait for the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection import lifecycle
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Ending, State
from tcpapp.errors import NotConnected
from tests.peers import outcome

CLEAN = CloseReason(EndedBy.US, "closed", "close() was called")
DRAINED = CloseReason(EndedBy.US, "drained", "we are stopping")
GONE = CloseReason(EndedBy.PEER, "end-of-stream", "the peer closed its side")
BAD = CloseReason(EndedBy.US, "message-too-long", "10 bytes, over 5")
HALF = CloseReason(EndedBy.PEER, "truncated-message", "4 bytes of a message had arrived")
WORSE = CloseReason(EndedBy.NETWORK, "lost", "reset")


class Rig:
    """An ending on a clock, and what it would have cut."""

    has_the_turn = False

    def __init__(self) -> None:
        self.cuts: list[CloseReason] = []
        self.clock = Clock()
        self.deadlines = Deadlines(self)
        self.deadlines.run_on(self.clock)
        self.ending = Ending(self.deadlines)

    def overdue(self, wait: str, seconds: float) -> None:
        assert wait == "ending"
        assert seconds == self.ending.late.limit
        self.cuts.append(self.ending.late)

    def beat(self, missed: int) -> None:
        raise AssertionError

    def within(self, seconds: float, rule: str) -> None:
        self.ending.within(seconds, rule, f"the timer of {rule}")

    @property
    def rules(self) -> list[str]:
        return [each.rule for each in self.cuts]


STARTS: dict[str, list[tuple[str, CloseReason]]] = {
    "unopened": [],
    "opening": [("begin", CLEAN)],
    "opened": [("begin", CLEAN), ("open", CLEAN)],
    "never-opened-cut": [("begin", CLEAN), ("cut", BAD)],
    "open": [("open", CLEAN)],
    "no-more-input": [("open", CLEAN), ("no_more", GONE)],
    "closing": [("open", CLEAN), ("close", CLEAN)],
    "closing-after-input": [("open", CLEAN), ("no_more", GONE), ("close", GONE)],
    "cut": [("open", CLEAN), ("cut", BAD)],
    "closed": [("open", CLEAN), ("over", WORSE)],
    "never-opened": [("over", WORSE)],
}
"""How to come to each standing."""


def begun(start: str) -> Rig:
    """A rig that came to `start`."""
    rig = Rig()
    for event, cause in STARTS[start]:
        happen(rig, event, cause)
    return rig


def happen(rig: Rig, event: str, cause: CloseReason) -> Any:
    return getattr(rig.ending, event)(*[] if event in ("begin", "open") else [cause])


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "event", "news", "state"),
    [
        ("unopened", "open", None, State.OPEN),
        ("unopened", "no_more", False, State.UNOPENED),
        ("unopened", "close", False, State.UNOPENED),
        ("unopened", "cut", False, State.UNOPENED),
        ("unopened", "over", GONE, State.CLOSED),
        ("unopened", "begin", None, State.OPENING),
        ("opening", "open", None, State.OPEN),
        ("opening", "no_more", False, State.OPENING),
        ("opening", "close", False, State.OPENING),
        ("opening", "cut", True, State.CLOSING),
        ("opening", "over", GONE, State.CLOSED),
        ("opened", "close", True, State.CLOSING),
        ("never-opened-cut", "over", BAD, State.CLOSED),
        ("open", "no_more", True, State.OPEN),
        ("open", "close", True, State.CLOSING),
        ("open", "cut", True, State.CLOSING),
        ("open", "over", GONE, State.CLOSED),
        ("no-more-input", "no_more", False, State.OPEN),
        ("no-more-input", "close", True, State.CLOSING),
        ("no-more-input", "cut", True, State.CLOSING),
        ("no-more-input", "over", GONE, State.CLOSED),
        ("closing", "no_more", False, State.CLOSING),
        ("closing", "close", False, State.CLOSING),
        ("closing", "cut", True, State.CLOSING),
        ("closing", "over", CLEAN, State.CLOSED),
        ("closing-after-input", "no_more", False, State.CLOSING),
        ("closing-after-input", "close", False, State.CLOSING),
        ("closing-after-input", "cut", True, State.CLOSING),
        ("closing-after-input", "over", GONE, State.CLOSED),
        ("cut", "no_more", False, State.CLOSING),
        ("cut", "close", False, State.CLOSING),
        ("cut", "cut", True, State.CLOSING),
        ("cut", "over", BAD, State.CLOSED),
        ("closed", "no_more", False, State.CLOSED),
        ("closed", "close", False, State.CLOSED),
        ("closed", "cut", False, State.CLOSED),
        ("closed", "over", WORSE, State.CLOSED),
        ("never-opened", "over", WORSE, State.CLOSED),
    ],
)
def test_each_event_has_its_answer_in_each_state(start: str, event: str, news: Any, state: State) -> None:
    """Every event in every standing says whether it is news, and leads where the table says."""
    rig = begun(start)
    assert (news, state) == (happen(rig, event, GONE), rig.ending.state)


def test_the_table_of_the_docstring_holds() -> None:
    """Each of its rows is a way that is there, from every standing of that state."""
    rows = re.findall(r"^(\w+) +``(\w+)`` .* (\w+)$", lifecycle.__doc__ or "", re.MULTILINE)
    assert len(rows) == 9
    for before, event, after in rows:
        starts = [each for each in STARTS if before in ("any", begun(each).ending.state.name)]
        assert starts
        for start in starts:
            rig = begun(start)
            happen(rig, event, GONE)
            assert after == rig.ending.state.name


@pytest.mark.parametrize("start", STARTS)
def test_input_is_over_only_by_an_event_of_its_own(start: str) -> None:
    """`no_more_input` is true after `no_more`, and by nothing else."""
    assert ("no_more", GONE) in STARTS[start] or not begun(start).ending.no_more_input
    if ("no_more", GONE) in STARTS[start]:
        assert begun(start).ending.no_more_input


# The cause -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "cause"),
    [
        pytest.param([], lifecycle.UNOPENED_REASON, id="unopened"),
        pytest.param([("open", CLEAN)], lifecycle.UNOPENED_REASON, id="open"),
        pytest.param([("over", WORSE)], WORSE, id="lost-before-it-was-open"),
        pytest.param([("open", CLEAN), ("over", WORSE)], WORSE, id="lost"),
        pytest.param([("open", CLEAN), ("close", CLEAN), ("close", BAD)], CLEAN, id="closed-twice"),
        pytest.param([("open", CLEAN), ("close", CLEAN), ("over", WORSE)], WORSE, id="closed-then-lost"),
        pytest.param([("open", CLEAN), ("close", CLEAN), ("over", HALF)], CLEAN, id="closed-inside-a-message"),
        pytest.param([("open", CLEAN), ("over", HALF)], HALF, id="ended-inside-a-message"),
        pytest.param([("open", CLEAN), ("no_more", GONE), ("over", WORSE)], GONE, id="ended-then-lost"),
        pytest.param([("open", CLEAN), ("close", CLEAN), ("cut", BAD)], BAD, id="closed-then-spoilt"),
        pytest.param([("open", CLEAN), ("close", BAD), ("cut", WORSE)], BAD, id="failed-then-cut"),
        pytest.param([("open", CLEAN), ("close", CLEAN), ("cut", DRAINED)], CLEAN, id="closed-then-cut-well"),
        pytest.param([("open", CLEAN), ("no_more", GONE), ("close", CLEAN)], GONE, id="ended-then-closed"),
        pytest.param([("open", CLEAN), ("no_more", GONE), ("close", BAD)], BAD, id="ended-then-failed"),
        pytest.param([("open", CLEAN), ("no_more", BAD), ("close", CLEAN)], BAD, id="unreadable-then-closed"),
        pytest.param([("open", CLEAN), ("no_more", GONE), ("no_more", BAD)], GONE, id="ended-twice"),
        pytest.param([("open", CLEAN), ("cut", BAD), ("cut", WORSE)], BAD, id="cut-twice"),
        pytest.param([("open", CLEAN), ("over", WORSE), ("over", BAD)], WORSE, id="lost-twice"),
    ],
)
def test_the_first_cause_stands_unless_a_proper_end_is_spoilt(
    events: list[tuple[str, CloseReason]], cause: CloseReason
) -> None:
    """Whatever follows from a cause is not the cause; only a proper ending gives way, to what spoils it."""
    rig = Rig()
    for event, reason in events:
        happen(rig, event, reason)
    assert cause == rig.ending.cause


@pytest.mark.parametrize(
    ("start", "reason"), [("unopened", lifecycle.UNOPENED_REASON), ("cut", BAD), ("closed", WORSE)]
)
def test_those_who_want_something_are_told_the_cause(start: str, reason: CloseReason) -> None:
    """The error carries the reason, and its text says it."""
    error = begun(start).ending.error
    assert (NotConnected, reason) == (type(error), error.reason)
    assert f"the connection is not open: {reason}" == str(error)


# The deadline --------------------------------------------------------------------------------------------------------


def test_a_deadline_cuts_by_its_rule() -> None:
    """Once, when it is there, with a reason that has the rule and the seconds."""
    rig = begun("open")
    rig.ending.within(2.5, "grace-over", "grace")
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
    """Of two deadlines the sooner holds, whichever was set last."""
    rig = begun("open")
    rig.within(first, "first")
    rig.clock.advance(passed)
    rig.within(second, "second")
    assert at == rig.deadlines.ends("ending")
    rig.clock.advance(at - passed)
    assert [rule] == rig.rules


def test_a_deadline_may_follow_one_that_came() -> None:
    """What was cut by one is not beyond another."""
    rig = begun("open")
    rig.within(1, "first")
    rig.clock.advance(1)
    rig.within(2, "second")
    rig.clock.advance(2)
    assert rig.rules == ["first", "second"]


@pytest.mark.parametrize("event", ["no_more", "close"])
def test_a_deadline_holds_while_it_closes(event: str) -> None:
    """Neither the end of the input nor the closing takes it away."""
    rig = begun("open")
    rig.within(1, "first")
    happen(rig, event, GONE)
    rig.clock.advance(1)
    assert rig.rules == ["first"]


@pytest.mark.parametrize("event", ["cut", "over"])
def test_no_deadline_is_left_when_there_is_nothing_to_wait_for(event: str) -> None:
    """Once it is cut, or over, nothing is cut for being late."""
    rig = begun("open")
    rig.within(1, "first")
    happen(rig, event, GONE)
    assert rig.deadlines.started == ()


@pytest.mark.parametrize("start", ["unopened", "closed", "never-opened"])
def test_what_is_not_open_has_no_deadline(start: str) -> None:
    """Before the beginning and after the end no timer is started."""
    rig = begun(start)
    rig.within(1, "first")
    assert rig.deadlines.started == ()


def test_without_a_clock_there_is_no_deadline() -> None:
    """As with a transport that has no reactor."""
    rig = Rig()
    rig.deadlines.run_on(None)
    rig.ending.open()
    rig.within(1, "first")
    assert (rig.ending.state, rig.ending.cut(BAD)) == (State.OPEN, True)


# Those who wait for the end ------------------------------------------------------------------------------------------


def test_those_who_wait_are_told_after_the_end() -> None:
    """In the order they asked, once, with the cause; the end itself tells nobody."""
    rig = begun("open")
    order: list[int] = []
    seen = [outcome(rig.ending.when_over(), lambda _, number=number: order.append(number)) for number in range(3)]
    rig.ending.over(WORSE)
    assert seen == [[], [], []]
    rig.ending.tell()
    rig.ending.tell()
    assert (seen, order) == ([[WORSE]] * 3, [0, 1, 2])


@pytest.mark.parametrize("start", ["closed", "never-opened"])
def test_who_asks_after_the_end_is_told_at_once(start: str) -> None:
    """The reason is there already."""
    assert outcome(begun(start).ending.when_over()) == [WORSE]


def test_one_may_wait_before_the_beginning() -> None:
    """It is told of the end of the connection that was opened later."""
    rig = begun("unopened")
    seen = outcome(rig.ending.when_over())
    rig.ending.open()
    rig.ending.over(GONE)
    rig.ending.tell()
    assert seen == [GONE]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_one_who_waits_may_give_up(cancelled: int) -> None:
    """The others are told as ever, and it is told nothing more."""
    rig = begun("open")
    waiters = [rig.ending.when_over() for _ in range(3)]
    seen = [outcome(each) for each in waiters]
    waiters[cancelled].cancel()
    rig.ending.over(GONE)
    rig.ending.tell()
    assert [CancelledError] == [type(each) for each in seen.pop(cancelled)]
    assert seen == [[GONE], [GONE]]


@pytest.mark.parametrize("cancelled", [1, 2, 3])
def test_one_who_is_told_may_cancel_another(cancelled: int) -> None:
    """Every other one is told, and the cancelled one of that alone."""
    rig = begun("open")
    waiters = [rig.ending.when_over() for _ in range(4)]
    seen = [outcome(each, lambda _: waiters[cancelled].cancel()) for each in waiters]
    rig.ending.over(GONE)
    rig.ending.tell()
    assert [CancelledError] == [type(each) for each in seen.pop(cancelled)]
    assert seen == [[GONE]] * 3


def test_one_who_is_told_may_ask_again() -> None:
    """It is told again, at once."""
    rig = begun("open")
    again: list[list[Any]] = []
    outcome(rig.ending.when_over(), lambda _: again.append(outcome(rig.ending.when_over())))
    rig.ending.over(GONE)
    rig.ending.tell()
    assert again == [[GONE]]


# Those who wait for the beginning -------------------------------------------------------------------------------------


def test_who_waits_for_it_to_be_open_is_told_when_that_is_told() -> None:
    """After the opening itself, in the order they asked; who asks later is told at once."""
    rig = begun("opening")
    seen = [outcome(rig.ending.when_open()) for _ in range(2)]
    rig.ending.open()
    assert seen == [[], []]
    rig.ending.tell_open()
    rig.ending.tell_open()
    assert (seen, outcome(rig.ending.when_open())) == ([[None], [None]], [None])


@pytest.mark.parametrize("error", [None, OSError("the network failed")])
def test_what_never_opens_fails_those_who_waited_for_it(error: OSError | None) -> None:
    """With the error behind its end, or with one that has the reason of it."""
    reason = CloseReason(EndedBy.NETWORK, "lost", "reset", error=error)
    rig = begun("opening")
    early = outcome(rig.ending.when_open())
    rig.ending.over(reason)
    rig.ending.tell()
    for seen in (early, outcome(rig.ending.when_open())):
        assert [error or f"the connection is not open: {reason}"] == [(error and seen[0]) or str(seen[0])]
    assert not rig.ending.opened


def test_who_waits_for_it_to_be_open_may_give_up() -> None:
    """It is told of that alone."""
    rig = begun("opening")
    waiter = rig.ending.when_open()
    seen = outcome(waiter)
    waiter.cancel()
    rig.ending.open()
    rig.ending.tell_open()
    assert [CancelledError] == [type(each) for each in seen]
