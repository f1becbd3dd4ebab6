"""Every timeout of a connection, on one timer: which ends first, its rule, and the cost per message."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from twisted.internet.task import Clock

from tcpapp.connection.deadlines import Deadlines, waits_of
from tcpapp.connection.outcomes import HEARTBEAT, OVERDUE
from tcpapp.limits import Timeouts


class Rig:
    """Deadlines on a clock, and their reports: what was overdue, and when; the heartbeats that were due."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.is_handling = False
        self.over: list[tuple[str, float, float]] = []
        self.heartbeats: list[tuple[int, float]] = []
        self.deadlines = Deadlines(self)
        self.deadlines.run_on(self.clock)

    def settle(self, outcome: int, detail: Any = None) -> None:
        now = self.clock.seconds() - 1000
        if outcome == HEARTBEAT:
            self.heartbeats.append((detail, now))
        else:
            assert outcome == OVERDUE
            self.over.append((*detail, now))
            self.deadlines.no_more_input()

    def track(self, message_timeout: float = 0, **waits: float) -> None:
        self.deadlines.track(message_timeout, **waits)

    def came(self, whole: bool, unfinished: bool) -> None:
        """Let bytes come, and note the required state."""
        self.deadlines.last_received = self.deadlines.seconds()
        if unfinished or self.deadlines.wants_all or not whole:
            self.deadlines.bytes_came(whole, unfinished)

    def after(self, seconds: float) -> None:
        """Let time pass, second by second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
        self.clock.advance(seconds - int(seconds))

    @property
    def timers(self) -> list[float]:
        return [each.getTime() - 1000 for each in self.clock.getDelayedCalls()]


# What begins and ends ------------------------------------------------------------------------------------------------


def test_a_wait_that_is_started_is_overdue_once() -> None:
    """After its seconds, and it leaves no timer."""
    rig = Rig()
    rig.deadlines.start("tls_handshake", 2.5)
    rig.clock.advance(2.4)
    assert (rig.over, rig.deadlines.started) == ([], ("tls_handshake",))
    rig.clock.advance(0.1)
    assert (rig.over, rig.deadlines.started, rig.timers) == ([("tls_handshake", 2.5, 2.5)], (), [])


def test_a_wait_that_is_stopped_is_not_overdue() -> None:
    """Stopping touches no timer: the current one finds nothing to do."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 2)
    rig.deadlines.stop("handler_timeout")
    rig.deadlines.stop("handler_timeout")
    assert rig.timers == [2]
    rig.after(2)
    assert (rig.over, rig.timers) == ([], [])


def test_the_wait_that_ends_first_has_the_timer() -> None:
    """Of several there is one timer; it is moved only to be sooner."""
    rig = Rig()
    rig.deadlines.start("max_age", 30)
    assert rig.timers == [30]
    rig.deadlines.start("handler_timeout", 10)
    assert rig.timers == [10]
    rig.deadlines.start("ending", 20)
    assert rig.timers == [10]
    rig.after(10)
    assert (rig.over, rig.timers) == ([("handler_timeout", 10, 10)], [20])


def test_a_wait_that_is_started_again_begins_anew() -> None:
    """The first time no longer counts."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 10)
    rig.after(5)
    rig.deadlines.start("handler_timeout", 10)
    assert rig.deadlines.ends("handler_timeout") == 1015
    rig.after(9)
    assert rig.over == []
    rig.after(1)
    assert rig.over == [("handler_timeout", 10, 15)]


def test_what_was_not_started_never_ends() -> None:
    """Not after others were started either."""
    rig = Rig()
    assert rig.deadlines.ends("ending") == inf
    rig.deadlines.start("handler_timeout", 10)
    assert rig.deadlines.ends("ending") == inf


def test_a_clock_that_is_not_exact_ends_a_wait_in_time() -> None:
    """A sum of floats that comes out short by less than the resolution is the time."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 0.3)
    for _ in range(3):
        rig.clock.advance(0.1)
    assert [wait for wait, _, _ in rig.over] == ["handler_timeout"]


# What is reckoned from what happened last ----------------------------------------------------------------------------


def test_a_message_that_is_not_whole_in_time_is_overdue() -> None:
    """From its first byte, however many come after that."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.after(3)
    for _ in range(9):
        rig.came(whole=False, unfinished=True)
        rig.after(1)
    assert rig.over == []
    rig.after(1)
    assert rig.over == [("message_timeout", 10, 13)]


def test_each_message_has_its_own_time() -> None:
    """A message that ends gives the next one the whole time."""
    rig = Rig()
    rig.track(message_timeout=10)
    for _ in range(5):
        rig.came(whole=True, unfinished=True)
        rig.after(9)
    rig.came(whole=True, unfinished=False)
    rig.after(100)
    assert (rig.over, rig.timers) == ([], [])


def test_the_path_of_a_message_sets_a_timer_no_more_than_once_in_its_time() -> None:
    """A thousand messages in a second that are cut at their chunks' ends cost one."""
    rig = Rig()
    rig.track(message_timeout=10)
    for _ in range(1000):
        rig.came(whole=True, unfinished=True)
        rig.clock.advance(0.001)
    assert rig.timers == [10]
    rig.after(9)
    assert rig.over == []


def test_nothing_either_way_is_idle() -> None:
    """Received and sent bytes both count."""
    rig = Rig()
    rig.track(idle=10)
    rig.after(9)
    rig.came(whole=True, unfinished=False)
    rig.after(9)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(9)
    assert rig.over == []
    rig.after(1)
    assert rig.over == [("idle", 10, 28)]


@pytest.mark.parametrize(("wait", "at"), [("idle_read", 15), ("idle_write", 17)])
def test_each_direction_may_have_its_own_time(wait: str, at: float) -> None:
    """Bytes in the other direction do not count."""
    rig = Rig()
    rig.track(**{wait: 10})
    rig.after(5)
    rig.came(whole=True, unfinished=False)
    rig.after(2)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(20)
    assert rig.over == [(wait, 10, at)]


def test_a_peer_that_was_sent_nothing_is_idle_from_its_opening() -> None:
    """So is a connection whose peer never sent anything."""
    for wait in ("idle", "idle_read", "idle_write"):
        rig = Rig()
        rig.track(**{wait: 10})
        rig.after(10)
        assert rig.over == [(wait, 10, 10)]


def test_the_peer_owes_nothing_while_it_is_our_turn() -> None:
    """Nothing is idle meanwhile; from then on the time restarts, and the timer with it."""
    rig = Rig()
    rig.track(idle_read=10)
    rig.is_handling = True
    rig.after(100)
    assert rig.over == []
    rig.is_handling = False
    rig.deadlines.await_peer()
    assert rig.timers == [110]
    rig.after(10)
    assert rig.over == [("idle_read", 10, 110)]


def test_a_timer_is_set_for_the_peers_turn_where_there_is_none() -> None:
    """All other timeouts stood still."""
    rig = Rig()
    rig.track(idle=10)
    rig.deadlines.pause()
    rig.after(20)
    assert rig.timers == []
    rig.deadlines.resume()
    rig.deadlines.await_peer()
    assert rig.timers == [30]


def test_an_idle_wait_is_taken_up_after_our_turn_where_nobody_says_that_it_is_over() -> None:
    """A conversation takes the last message from the inbox: the peer has its whole time, and at most twice that."""
    rig = Rig()
    rig.track(idle=10)
    rig.is_handling = True
    rig.after(12)
    rig.is_handling = False
    rig.after(17)
    assert (rig.over, rig.timers) == ([], [30])
    rig.after(1)
    assert rig.over == [("idle", 10, 30)]


def test_nothing_sent_is_idle_also_while_a_message_is_handled() -> None:
    """But not while the app works on an answer, which has its own bound."""
    rig = Rig()
    rig.track(idle_write=10)
    rig.is_handling = True
    rig.deadlines.start("handler_timeout", 15)
    rig.after(12)
    rig.deadlines.stop("handler_timeout")
    assert rig.over == []
    rig.after(3)
    assert rig.over == [("idle_write", 10, 15)]


# While the connection is not read from --------------------------------------------------------------------------------


def test_the_time_in_which_it_is_not_read_from_does_not_count_for_a_message() -> None:
    """All other timeouts do: after the pause as much is left as before it."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.came(whole=False, unfinished=True)
    rig.after(4)
    rig.deadlines.pause()
    rig.after(100)
    assert rig.over == []
    rig.deadlines.resume()
    rig.after(5)
    assert rig.over == []
    rig.after(1)
    assert rig.over == [("message_timeout", 10, 110)]


def test_no_number_of_pauses_gives_a_message_more_time() -> None:
    """A second read, and nine not: after a hundred seconds its ten are over."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.came(whole=False, unfinished=True)
    for _ in range(20):
        rig.after(1)
        rig.deadlines.pause()
        rig.after(9)
        rig.deadlines.resume()
    assert rig.over == [("message_timeout", 10, 91)]


def test_a_message_that_slips_in_during_a_pause_has_its_time_from_the_end_of_the_pause() -> None:
    """As TLS brings it, which has decrypted it already."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.deadlines.pause()
    rig.after(50)
    rig.came(whole=False, unfinished=True)
    rig.after(50)
    rig.deadlines.resume()
    rig.after(100)
    assert rig.over == [("message_timeout", 10, 110)]


@pytest.mark.parametrize(("not_read", "at"), [(0, 10), (3, 13)])
def test_the_time_of_a_message_goes_on_while_memory_is_short(not_read: float, at: float) -> None:
    """It holds memory. Earlier pauses for other reasons do not count."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.came(whole=False, unfinished=True)
    rig.after(4)
    rig.deadlines.pause()
    rig.after(not_read)
    rig.deadlines.begin_memory_pressure()
    rig.after(100)
    assert (rig.over, rig.deadlines.paused_for_memory) == ([("message_timeout", 10, at)], True)


@pytest.mark.parametrize(("short_from", "unread"), [(0, False), (5, True)])
def test_a_message_knows_whether_it_was_not_read_on_for_want_of_memory(short_from: int, unread: bool) -> None:
    """In its own time; what was before its first byte says nothing of it."""
    rig = Rig()
    rig.track(message_timeout=10)
    for second in range(15):
        if second == short_from:
            rig.deadlines.pause()
            rig.deadlines.begin_memory_pressure()
        if second == short_from + 3:
            rig.deadlines.resume()
        if second == 4:
            rig.came(whole=False, unfinished=True)
        rig.after(1)
    assert (rig.over, rig.deadlines.paused_for_memory) == ([("message_timeout", 10, 14)], unread)


def test_the_time_of_a_message_stands_still_again_when_there_is_memory() -> None:
    """Where it is not read from for another reason still."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.came(whole=False, unfinished=True)
    rig.deadlines.pause()
    rig.deadlines.begin_memory_pressure()
    rig.after(6)
    rig.deadlines.end_memory_pressure()
    rig.after(50)
    rig.deadlines.resume()
    rig.after(50)
    assert rig.over == [("message_timeout", 10, 60)]


@pytest.mark.parametrize(("wait", "at"), [("idle", 116), ("idle_read", 110), ("idle_write", 18)])
def test_silence_is_the_peers_only_while_it_is_read_from(wait: str, at: float) -> None:
    """What was left of its time is left after it; what is sent goes its way meanwhile, and its wait goes on."""
    rig = Rig()
    rig.track(**{wait: 12})
    rig.came(whole=True, unfinished=False)
    rig.after(6)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(2)
    rig.deadlines.pause()
    rig.after(98)
    rig.deadlines.resume()
    rig.after(100)
    assert rig.over == [(wait, 12, at)]


def test_what_is_sent_while_it_is_not_read_from_counts() -> None:
    """The connection is idle that much later."""
    rig = Rig()
    rig.track(idle=10)
    rig.deadlines.pause()
    rig.after(20)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.deadlines.resume()
    rig.after(50)
    assert rig.over == [("idle", 10, 30)]


@pytest.mark.parametrize("wait", ["tls_handshake", "first_message"])
def test_what_the_peer_is_to_begin_with_has_its_time_only_while_it_is_read_from(wait: str) -> None:
    """Each of the pauses is left out."""
    rig = Rig()
    rig.deadlines.start(wait, 10)
    rig.deadlines.start("max_age", 1000)
    for _ in range(3):
        rig.after(3)
        rig.deadlines.pause()
        rig.after(20)
        rig.deadlines.resume()
    rig.after(50)
    assert rig.over == [(wait, 10, 70)]


def test_waits_of_our_own_go_on_while_it_is_not_read_from() -> None:
    """The app's, what the peer is to take, and the end."""
    for wait in ("handler_timeout", "send_progress", "max_age", "ending", "byte_rate", "message_rate"):
        rig = Rig()
        rig.deadlines.pause()
        rig.deadlines.start(wait, 10)
        rig.after(50)
        assert rig.over == [(wait, 10, 10)]


def test_reading_again_between_two_messages_asks_for_none() -> None:
    """There is no message whose time could run."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.deadlines.pause()
    rig.deadlines.resume()
    rig.after(100)
    assert rig.over == []


def test_the_first_message_is_not_asked_for_once_it_came() -> None:
    """A whole one; part of one is not enough."""
    rig = Rig()
    for whole in (False, True):
        rig.deadlines.start("first_message", 10)
        rig.came(whole=whole, unfinished=not whole)
        rig.after(10)
    assert rig.over == [("first_message", 10, 10)]


def test_the_first_message_is_not_awaited_after_our_app_has_sent() -> None:
    """It may well have nothing to say."""
    rig = Rig()
    rig.deadlines.start("first_message", 10)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(10)
    assert (rig.over, rig.deadlines.started) == ([], ())


# Heartbeats ----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_due_when_nothing_came() -> None:
    """Again and again, with how many had no answer so far."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(35)
    assert rig.heartbeats == [(0, 10), (1, 20), (2, 30)]


def test_any_bytes_are_an_answer_to_a_heartbeat() -> None:
    """In the same moment, too; and the next heartbeat is due that much later."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(10)
    rig.came(whole=False, unfinished=True)
    rig.after(15)
    rig.came(whole=True, unfinished=False)
    rig.after(10)
    assert rig.heartbeats == [(0, 10), (0, 20), (0, 35)]


def test_heartbeats_go_on_while_it_is_our_turn() -> None:
    """The peer may wait for a sign of life; but what it sends cannot come while we do not read, and is not missed."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.is_handling = True
    rig.deadlines.pause()
    rig.after(30)
    assert rig.heartbeats == [(0, 10), (0, 20), (0, 30)]


def test_a_heartbeat_is_not_missed_where_it_was_not_read_from() -> None:
    """Neither during the pause, nor for it: an answer has all of its time. What was missed before stays missed."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(25)
    rig.deadlines.pause()
    rig.after(20)
    rig.deadlines.resume()
    rig.after(30)
    assert rig.heartbeats == [(0, 10), (1, 20), (1, 30), (1, 40), (1, 50), (2, 60), (3, 70)]


def test_an_answer_of_the_app_is_no_sign_of_life() -> None:
    """Only what comes is."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(15)
    rig.deadlines.await_peer()
    rig.after(15)
    assert rig.heartbeats == [(0, 10), (1, 20), (2, 30)]


# When the loop stood still -------------------------------------------------------------------------------------------


def test_what_came_while_the_loop_stood_still_is_read_first() -> None:
    """A late timer ends nothing in its own turn, nor in the next one, in which sockets are read."""
    rig = Rig()
    rig.track(idle_read=10)
    calls: list[Any] = []
    rig.clock.callLater(50, lambda: calls.append(rig.came(whole=True, unfinished=False)))
    rig.clock.advance(50)
    assert (len(calls), rig.over, rig.timers) == (1, [], [60])
    rig.after(10)
    assert rig.over == [("idle_read", 10, 60)]


def test_what_did_not_come_while_the_loop_stood_still_is_overdue() -> None:
    """Two turns later."""
    rig = Rig()
    rig.track(idle_read=10)
    rig.clock.advance(50)
    assert (rig.over, rig.timers) == ([("idle_read", 10, 50)], [])


# The end -------------------------------------------------------------------------------------------------------------


def test_no_more_input_is_waited_for_once_there_is_none() -> None:
    """The app's work is still bounded."""
    rig = Rig()
    rig.track(message_timeout=10, idle=10, heartbeat=5)
    for wait in ("first_message", "max_age", "handler_timeout"):
        rig.deadlines.start(wait, 10)
    rig.came(whole=False, unfinished=True)
    rig.deadlines.no_more_input()
    rig.after(100)
    assert (rig.over, rig.heartbeats) == ([("handler_timeout", 10, 10)], [])


def test_no_timer_is_left_at_the_end() -> None:
    """And none is started after it."""
    rig = Rig()
    rig.track(message_timeout=10, idle=10)
    rig.deadlines.start("handler_timeout", 5)
    rig.deadlines.end()
    rig.deadlines.start("ending", 5)
    rig.came(whole=False, unfinished=True)
    rig.deadlines.await_peer()
    rig.deadlines.pause()
    rig.deadlines.resume()
    assert (rig.timers, rig.deadlines.started) == ([], ())


def test_the_end_may_come_while_one_wait_is_told_to_be_over() -> None:
    """Then no other is told."""
    rig = Rig()
    for wait in ("handler_timeout", "send_progress"):
        rig.deadlines.start(wait, 5)
    told: list[str] = []

    def settle(outcome: int, detail: Any = None) -> None:
        told.append(detail[0])
        rig.deadlines.end()

    rig.settle = settle  # type: ignore[method-assign]
    rig.after(10)
    assert (told, rig.timers) == (["handler_timeout"], [])


def test_without_a_clock_nothing_is_ever_overdue() -> None:
    """As over a transport that has no reactor."""
    rig = Rig()
    clockless = Deadlines(rig)
    clockless.run_on(None)
    clockless.start("handler_timeout", 1)
    clockless.track(1, idle=1)
    clockless.bytes_came(whole=False, unfinished=True)
    rig.after(10)
    assert (rig.over, rig.timers, clockless.started) == ([], [], ())


# Texts ---------------------------------------------------------------------------------------------------------------


def test_what_is_waited_for_again_and_again_is_what_the_numbers_say() -> None:
    """A server's peer may not be idle, a client's may; without a heartbeat to send, none is missed."""
    timeouts = Timeouts(idle=1, idle_read=2, idle_write=3, heartbeat=4)
    every = {"idle": 1, "idle_read": 2, "idle_write": 3, "heartbeat": 4}
    assert waits_of(timeouts, serves=True, heartbeats=True) == every
    assert waits_of(timeouts, serves=False, heartbeats=False) == {"idle_read": 2, "idle_write": 3}
