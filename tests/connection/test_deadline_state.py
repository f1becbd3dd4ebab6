"""The waits of a connection, written as facts and read again: they run on, on another clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tcpapp.connection.deadline_state import (
    DeadlineState,
    Wait,
    dump_deadlines,
    facts_of,
    load_deadlines,
    load_wait,
    read_deadlines,
)
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.open_waits import OpenWaits
from tcpapp.connection.outcomes import HEARTBEAT, OVERDUE
from tcpapp.connection.state_form import LONGEST_TIME, pack_facts, unpack_facts
from tcpapp.errors import InvalidState

WAITS = {"idle": 10.0, "idle_read": 15.0, "idle_write": 20.0, "heartbeat": 12.0}
LATER = 1_000_000.25
"""What the other clock shows beside the first one's time."""


class Rig:
    """Deadlines of a connection, its clock, and the overdue waits, each with its time since `beginning`."""

    def __init__(self, beginning: float = 0.0, passed: float = 0.0) -> None:
        self.clock = Clock()
        self.clock.advance(beginning + passed)
        self.beginning = beginning
        self.told: list[Any] = []
        self.ended = False
        self.is_handling = False
        self.stopped = False
        self.deadlines = Deadlines(self)
        self.deadlines.run_on(self.clock)
        self.deadlines.track(OpenWaits(8.0, WAITS))

    def settle(self, outcome: int, detail: Any = None) -> None:
        assert outcome in (OVERDUE, HEARTBEAT)
        self.told.append((self.clock.seconds() - self.beginning, detail))
        if outcome == OVERDUE and detail[0] in WAITS:
            self.ended = True
            self.deadlines.end()  # as the connection does: such a wait begins again and again

    def bytes_came(self, whole: bool, unfinished: bool) -> None:
        self.deadlines.last_received = self.clock.seconds()
        self.deadlines.bytes_came(whole, unfinished)

    def sent(self) -> None:
        self.deadlines.last_sent = self.clock.seconds()

    def pause(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.deadlines.pause()

    def resume(self) -> None:
        if self.stopped:
            self.stopped = False
            self.deadlines.resume()

    def handle(self) -> None:
        self.is_handling = True

    def finish(self) -> None:
        self.is_handling = False

    def answer(self) -> None:
        self.finish()
        self.deadlines.await_peer()

    def moved(self) -> Rig:
        """Return the deadlines of another process, which go on from here."""
        other = Rig(self.beginning + LATER, self.clock.seconds() - self.beginning)
        other.told = self.told.copy()
        other.is_handling = self.is_handling
        load_deadlines(other.deadlines, through_facts(self.deadlines))
        if self.stopped:
            other.pause()
        return other


def through_facts(deadlines: Deadlines) -> DeadlineState:
    """Return the state of `deadlines`, written and read again."""
    facts = unpack_facts(pack_facts(facts_of(dump_deadlines(deadlines))))
    state = read_deadlines(facts)
    facts.end()
    return state


def without_timer(deadlines: Deadlines) -> DeadlineState:
    """Return the state of `deadlines` without its timer, for which an earlier check makes no difference."""
    return replace(dump_deadlines(deadlines), timer=None)


QUARTERS = st.integers(0, 40).map(lambda each: each / 4)
STEPS: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("advance"), QUARTERS),
    st.tuples(st.just("bytes_came"), st.booleans(), st.booleans()),
    st.tuples(st.just("sent")),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("handle")),
    st.tuples(st.just("answer")),
    st.tuples(st.just("start"), st.sampled_from(["first_message", "max_age", "send_progress"]), QUARTERS),
    st.tuples(st.just("stop"), st.sampled_from(["first_message", "max_age", "send_progress"])),
    st.tuples(st.just("await_peer")),
)


LATER_STEPS = STEPS | st.tuples(st.just("finish"))
"""After a move, our side can also finish its turn without a word: the timer looks for that."""


def begun(steps: list[tuple[Any, ...]]) -> Rig:
    """Return a rig after these steps, or after the last step before its end."""
    rig = Rig()
    for place, step in enumerate(steps):
        do(rig, step)
        if rig.ended:
            return begun(steps[:place])
    return rig


def do(rig: Rig, step: tuple[Any, ...]) -> None:
    """Do one step."""
    name, *given = step
    if name == "advance":
        rig.clock.advance(*given)
    elif name in ("start", "stop", "await_peer"):
        getattr(rig.deadlines, name)(*given)
    else:
        getattr(rig, name)(*given)


@given(st.lists(STEPS, max_size=12), st.lists(LATER_STEPS, max_size=12))
def test_waits_end_when_they_would_have_ended(before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> None:
    """After a move, each wait ends at the same second since the beginning as without the move."""
    rig = begun(before)
    other = rig.moved()
    for step in [*after, *[("advance", 0.25)] * 100]:
        do(rig, step)
        do(other, step)
    assert rig.told == other.told


def test_the_timer_checks_at_the_same_time_as_without_a_move() -> None:
    """A moved timer checks at its old time, so the idle time of the peer still begins at the end of our work."""
    rig = Rig()
    rig.clock.advance(5)
    rig.bytes_came(whole=True, unfinished=False)
    for each in (rig, rig.moved()):
        each.clock.advance(4)
        each.handle()
        each.clock.advance(2)
        each.finish()
        each.clock.pump([0.25] * 100)
        assert each.told == [(17.0, 0), (20.0, ("idle_write", 20.0))]


@given(st.lists(STEPS, max_size=12))
def test_a_dump_changes_nothing(steps: list[tuple[Any, ...]]) -> None:
    """Deadlines that were dumped end at the same times as deadlines that were not."""
    rig, other = Rig(), Rig()
    for step in steps:
        do(rig, step)
        do(other, step)
        assert dump_deadlines(rig.deadlines) == dump_deadlines(rig.deadlines)
    for each in (rig, other):
        each.clock.pump([0.25] * 100)
    assert rig.told == other.told


@given(st.lists(STEPS, max_size=12))
def test_a_state_can_be_moved_again(steps: list[tuple[Any, ...]]) -> None:
    """A state that was loaded is dumped again as the same state, except for its timer."""
    rig = begun(steps)
    assert without_timer(rig.deadlines) == without_timer(rig.moved().deadlines)


def test_a_message_that_memory_pressure_delayed_has_its_reason_after_a_move() -> None:
    """If memory pressure delayed a message before the move, the new deadlines know that when the message is late."""
    rig = Rig()
    rig.bytes_came(whole=False, unfinished=True)
    rig.pause()
    rig.deadlines.begin_memory_pressure()
    rig.clock.advance(3)
    during = rig.moved()
    rig.resume()
    rig.clock.advance(1)
    after = rig.moved()
    during.resume()
    for each in (during, after):
        each.clock.advance(7)
        assert (each.told[-1][1], each.deadlines.paused_for_memory) == (("message_timeout", 8.0), True)


def test_the_times_of_a_clock_without_a_beginning_are_cut() -> None:
    """The age of an event that never happened is at most `LONGEST_TIME`."""
    rig = Rig(1_767_225_600.0)
    assert dump_deadlines(rig.deadlines).heartbeat == LONGEST_TIME
    assert through_facts(rig.deadlines) == dump_deadlines(rig.deadlines)


def test_waits_of_more_than_the_longest_time_are_cut() -> None:
    """A wait of more than `LONGEST_TIME` can be dumped and loaded: it is cut to that."""
    rig = Rig(100.0)
    rig.deadlines._unset()
    rig.deadlines.start("max_age", 3e9)
    state = through_facts(rig.deadlines)
    assert (state.waits, state.timer) == ({"max_age": Wait(LONGEST_TIME, LONGEST_TIME)}, LONGEST_TIME)


def test_a_wait_that_is_overdue_has_nothing_left() -> None:
    """An overdue wait has 0 seconds left, and a clock that was set back makes no age negative."""
    rig = Rig(100.0)
    rig.deadlines.start("max_age", 5)
    rig.clock.rightNow += 6
    state = dump_deadlines(rig.deadlines)
    assert (state.waits, state.timer) == ({"max_age": Wait(0.0, 5)}, 0.0)
    rig.clock.rightNow -= 50
    assert dump_deadlines(rig.deadlines).received == 0.0


def test_waits_of_other_stages_are_left_out() -> None:
    """Waits of a connection that cannot be moved, such as `ending` or `handler_timeout`, are not in the state."""
    rig = Rig()
    for wait in ("ending", "tls_handshake", "handler_timeout", "message_rate", "byte_rate"):
        rig.deadlines.start(wait, 5)
    assert dump_deadlines(rig.deadlines).waits.keys() == {"message_rate", "byte_rate"}


def test_a_single_wait_can_be_loaded() -> None:
    """A single loaded wait is overdue after its remaining time, and its report has its whole length."""
    rig = Rig()
    rig.bytes_came(whole=True, unfinished=False)
    load_wait(rig.deadlines, "send_progress", Wait(3.0, 30.0))
    rig.clock.advance(3)
    assert rig.told == [(3.0, ("send_progress", 30.0))]


def test_without_a_clock_nothing_runs() -> None:
    """Without a clock, as with a `StringTransport`, loaded waits do not run."""
    deadlines = Deadlines(Rig())
    load_deadlines(deadlines, replace(dump_deadlines(Rig().deadlines), waits={"max_age": Wait(3.0, 30.0)}))
    load_wait(deadlines, "send_progress", Wait(3.0, 30.0))
    assert deadlines.started == ()


def with_fact(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the facts of deadlines, changed by `change`."""
    facts = facts_of(dump_deadlines(Rig().deadlines))
    change(facts)
    return facts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda facts: facts.pop("heartbeat"), "deadlines has no 'heartbeat'", id="missing"),
        pytest.param(lambda facts: facts.update(later=1), "deadlines has an unknown 'later'", id="unknown"),
        pytest.param(lambda facts: facts.update(received=-1), "received=-1: takes seconds", id="future"),
        pytest.param(lambda facts: facts.update(timer=1e12), "timer=1000000000000.0: takes seconds", id="far"),
        pytest.param(lambda facts: facts["waits"].update(ending={"left": 1, "of": 1}), "unknown 'ending'", id="ending"),
        pytest.param(lambda facts: facts["waits"].update(max_age={"left": 1}), "max_age has no 'of'", id="half"),
        pytest.param(
            lambda facts: facts["waits"].update(max_age={"left": 1, "of": 2, "by": 3}), "unknown 'by'", id="too-much"
        ),
    ],
)
def test_only_facts_of_deadlines_are_read(change: Any, words: str) -> None:
    """A missing, unknown or invalid fact is refused, and the error names it."""
    facts = unpack_facts(pack_facts({"deadlines": with_fact(change)}))
    with pytest.raises(InvalidState, match=words):
        read_deadlines(facts.facts("deadlines"))


def test_a_time_that_never_comes_is_none() -> None:
    """Without a timer, sent bytes, memory pressure or an unfinished message, the time of each is None."""
    deadlines = Deadlines(Rig())
    assert deadlines.timer_at == inf
    state = dump_deadlines(deadlines)
    assert (state.timer, state.sent, state.pressure, state.unfinished) == (None, None, None, None)
