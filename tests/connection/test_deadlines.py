"""Every timeout of a connection, on one timer: which one ends first, its rule, and the cost per message."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from twisted.internet.task import Clock

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.open_waits import OpenWaits
from tcpapp.connection.outcomes import HEARTBEAT, OVERDUE


class Rig:
    """Deadlines on a clock, and their reports: the overdue timeouts and the due heartbeats, each with its time."""

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
        self.deadlines.track(OpenWaits(message_timeout, waits))

    def came(self, whole: bool, unfinished: bool) -> None:
        """Report received bytes, as the connection does."""
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


# Start and stop of timeouts ------------------------------------------------------------------------------------------


def test_a_wait_that_is_started_is_overdue_once() -> None:
    """A started timeout is overdue once, after its seconds, and leaves no timer."""
    rig = Rig()
    rig.deadlines.start("tls_handshake", 2.5)
    rig.clock.advance(2.4)
    assert (rig.over, rig.deadlines.started) == ([], ("tls_handshake",))
    rig.clock.advance(0.1)
    assert (rig.over, rig.deadlines.started, rig.timers) == ([("tls_handshake", 2.5, 2.5)], (), [])


def test_a_wait_that_was_started_before_the_opening_is_kept() -> None:
    """The wait for the first message begins with the opening, beside waits that run already."""
    rig = Rig()
    rig.deadlines.start("send_progress", 7)
    rig.deadlines.open(OpenWaits(0, {}, first_message=5))
    assert sorted(rig.deadlines.started) == ["first_message", "send_progress"]
    assert rig.deadlines.ends("first_message") == rig.deadlines.opened + 5


def test_a_wait_that_is_stopped_is_not_overdue() -> None:
    """A stopped timeout is not overdue. Stopping does not touch the timer, which then finds nothing to do."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 2)
    rig.deadlines.stop("handler_timeout")
    rig.deadlines.stop("handler_timeout")
    assert rig.timers == [2]
    rig.after(2)
    assert (rig.over, rig.timers) == ([], [])


def test_the_wait_that_ends_first_has_the_timer() -> None:
    """Several timeouts share one timer, which is moved only to an earlier time."""
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
    """A timeout that is started again has its whole time again."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 10)
    rig.after(5)
    rig.deadlines.start("handler_timeout", 10)
    assert rig.deadlines.ends("handler_timeout") == 1015
    rig.after(9)
    assert rig.over == []
    rig.after(1)
    assert rig.over == [("handler_timeout", 10, 15)]


def test_a_timeout_that_was_not_started_never_ends() -> None:
    """A timeout that was not started never ends, also after others were started."""
    rig = Rig()
    assert rig.deadlines.ends("ending") == inf
    rig.deadlines.start("handler_timeout", 10)
    assert rig.deadlines.ends("ending") == inf


def test_a_clock_that_is_not_exact_ends_a_wait_in_time() -> None:
    """A sum of floats that is too small by less than the clock's resolution counts as the whole time."""
    rig = Rig()
    rig.deadlines.start("handler_timeout", 0.3)
    for _ in range(3):
        rig.clock.advance(0.1)
    assert [wait for wait, _, _ in rig.over] == ["handler_timeout"]


# Timeouts that count from the last bytes -----------------------------------------------------------------------------


def test_a_message_that_is_not_whole_in_time_is_overdue() -> None:
    """`message_timeout` counts from the first byte of a message, however many bytes come after it."""
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
    """When a message is complete, the next one has the whole `message_timeout`."""
    rig = Rig()
    rig.track(message_timeout=10)
    for _ in range(5):
        rig.came(whole=True, unfinished=True)
        rig.after(9)
    rig.came(whole=True, unfinished=False)
    rig.after(100)
    assert (rig.over, rig.timers) == ([], [])


def test_the_path_of_a_message_sets_a_timer_no_more_than_once_in_its_time() -> None:
    """A thousand chunks in a second, each with a message and a part of the next, set one timer."""
    rig = Rig()
    rig.track(message_timeout=10)
    for _ in range(1000):
        rig.came(whole=True, unfinished=True)
        rig.clock.advance(0.001)
    assert rig.timers == [10]
    rig.after(9)
    assert rig.over == []


def test_a_connection_without_traffic_is_idle() -> None:
    """A connection is idle if no bytes are received and none are sent."""
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
def test_each_direction_can_have_its_own_time(wait: str, at: float) -> None:
    """`idle_read` and `idle_write` do not count bytes in the other direction."""
    rig = Rig()
    rig.track(**{wait: 10})
    rig.after(5)
    rig.came(whole=True, unfinished=False)
    rig.after(2)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(20)
    assert rig.over == [(wait, 10, at)]


def test_a_connection_without_bytes_is_idle_from_its_opening() -> None:
    """If no bytes are received and none are sent, each idle timeout counts from the opening."""
    for wait in ("idle", "idle_read", "idle_write"):
        rig = Rig()
        rig.track(**{wait: 10})
        rig.after(10)
        assert rig.over == [(wait, 10, 10)]


def test_the_peer_is_not_idle_while_a_message_is_handled() -> None:
    """While a message is handled, the peer is not idle. `await_peer()` restarts the time, and the timer."""
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


def test_await_peer_sets_a_timer_if_none_is_set() -> None:
    """If a pause has left no timer, `await_peer()` sets one."""
    rig = Rig()
    rig.track(idle=10)
    rig.deadlines.pause()
    rig.after(20)
    assert rig.timers == []
    rig.deadlines.resume()
    rig.deadlines.await_peer()
    assert rig.timers == [30]


def test_the_idle_time_goes_on_after_handling_without_await_peer() -> None:
    """Without `await_peer()`, as after a conversation's last message, the peer has at most twice its idle time."""
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
    """While a message is handled, `idle_write` runs on, but is not overdue while `handler_timeout` runs."""
    rig = Rig()
    rig.track(idle_write=10)
    rig.is_handling = True
    rig.deadlines.start("handler_timeout", 15)
    rig.after(12)
    rig.deadlines.stop("handler_timeout")
    assert rig.over == []
    rig.after(3)
    assert rig.over == [("idle_write", 10, 15)]


# While reading is paused ----------------------------------------------------------------------------------------------


def test_message_timeout_stands_still_while_reading_is_paused() -> None:
    """After a pause of reading, `message_timeout` has as many seconds left as before the pause."""
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
    """With many pauses, the seconds between them add up to the whole `message_timeout`."""
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
    """A message that begins during a pause, as TLS can deliver it, has its whole time from the end of the pause."""
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
    """
    Under memory pressure `message_timeout` runs on, because the unfinished message holds memory.

    An earlier pause for another reason does not count.
    """
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
def test_paused_for_memory_counts_from_the_first_byte_of_the_message(short_from: int, unread: bool) -> None:
    """`paused_for_memory` is true only if memory pressure paused reading after the first byte of the message."""
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
    """When memory pressure ends, and another pause goes on, `message_timeout` stands still again."""
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
def test_idle_and_idle_read_stand_still_while_reading_is_paused(wait: str, at: float) -> None:
    """`idle` and `idle_read` stand still while reading is paused, and `idle_write` runs on."""
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


def test_bytes_sent_while_reading_is_paused_restart_idle() -> None:
    """Bytes that are sent while reading is paused restart the idle time."""
    rig = Rig()
    rig.track(idle=10)
    rig.deadlines.pause()
    rig.after(20)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.deadlines.resume()
    rig.after(50)
    assert rig.over == [("idle", 10, 30)]


@pytest.mark.parametrize("wait", ["tls_handshake", "first_message"])
def test_the_tls_handshake_and_the_first_message_stand_still_while_reading_is_paused(wait: str) -> None:
    """`tls_handshake` and `first_message` stand still during each pause of reading."""
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


def test_other_timeouts_run_on_while_reading_is_paused() -> None:
    """The timeouts of the app, of sending, of age, of rates and of the end run on while reading is paused."""
    for wait in ("handler_timeout", "send_progress", "max_age", "ending", "byte_rate", "message_rate"):
        rig = Rig()
        rig.deadlines.pause()
        rig.deadlines.start(wait, 10)
        rig.after(50)
        assert rig.over == [(wait, 10, 10)]


def test_resuming_between_two_messages_starts_no_message_timeout() -> None:
    """After a pause between two messages, `message_timeout` does not run, because no message has begun."""
    rig = Rig()
    rig.track(message_timeout=10)
    rig.deadlines.pause()
    rig.deadlines.resume()
    rig.after(100)
    assert rig.over == []


def test_a_whole_message_stops_first_message() -> None:
    """A whole message stops `first_message`, and a part of a message does not."""
    rig = Rig()
    for whole in (False, True):
        rig.deadlines.start("first_message", 10)
        rig.came(whole=whole, unfinished=not whole)
        rig.after(10)
    assert rig.over == [("first_message", 10, 10)]


def test_the_first_message_is_not_awaited_after_our_app_has_sent() -> None:
    """After our app has sent, `first_message` is not overdue, because the peer can have nothing to say."""
    rig = Rig()
    rig.deadlines.start("first_message", 10)
    rig.deadlines.last_sent = rig.clock.seconds()
    rig.after(10)
    assert (rig.over, rig.deadlines.started) == ([], ())


# Heartbeats ----------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_due_when_nothing_came() -> None:
    """While nothing comes, heartbeats are due at equal intervals, each with the number of unanswered ones before."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(35)
    assert rig.heartbeats == [(0, 10), (1, 20), (2, 30)]


def test_any_bytes_are_an_answer_to_a_heartbeat() -> None:
    """Any received bytes answer a heartbeat, also in the same moment, and postpone the next heartbeat."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(10)
    rig.came(whole=False, unfinished=True)
    rig.after(15)
    rig.came(whole=True, unfinished=False)
    rig.after(10)
    assert rig.heartbeats == [(0, 10), (0, 20), (0, 35)]


def test_heartbeats_go_on_while_a_message_is_handled() -> None:
    """Heartbeats go on while a message is handled. While reading is paused, none of them counts as missed."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.is_handling = True
    rig.deadlines.pause()
    rig.after(30)
    assert rig.heartbeats == [(0, 10), (0, 20), (0, 30)]


def test_a_heartbeat_is_not_missed_while_reading_is_paused() -> None:
    """A pause adds no missed heartbeat, and a reply has its whole time after it. Earlier missed ones stay missed."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(25)
    rig.deadlines.pause()
    rig.after(20)
    rig.deadlines.resume()
    rig.after(30)
    assert rig.heartbeats == [(0, 10), (1, 20), (1, 30), (1, 40), (1, 50), (2, 60), (3, 70)]


def test_an_answer_of_the_app_is_no_sign_of_life() -> None:
    """An answer of our app does not postpone a heartbeat. Only received bytes do."""
    rig = Rig()
    rig.track(heartbeat=10)
    rig.after(15)
    rig.deadlines.await_peer()
    rig.after(15)
    assert rig.heartbeats == [(0, 10), (1, 20), (2, 30)]


# When the event loop stalled -----------------------------------------------------------------------------------------


def test_bytes_that_came_during_a_stall_are_read_first() -> None:
    """A late timer ends nothing in its own turn, nor in the next one, in which the loop reads the sockets."""
    rig = Rig()
    rig.track(idle_read=10)
    calls: list[Any] = []
    rig.clock.callLater(50, lambda: calls.append(rig.came(whole=True, unfinished=False)))
    rig.clock.advance(50)
    assert (len(calls), rig.over, rig.timers) == (1, [], [60])
    rig.after(10)
    assert rig.over == [("idle_read", 10, 60)]


def test_a_timeout_is_overdue_if_nothing_came_during_a_stall() -> None:
    """If nothing came while the loop stalled, the timeout is overdue two turns later."""
    rig = Rig()
    rig.track(idle_read=10)
    rig.clock.advance(50)
    assert (rig.over, rig.timers) == ([("idle_read", 10, 50)], [])


# The end -------------------------------------------------------------------------------------------------------------


def test_the_end_of_the_input_stops_the_timeouts_of_the_input() -> None:
    """After the end of the input, `handler_timeout` still runs, and the timeouts of the input do not."""
    rig = Rig()
    rig.track(message_timeout=10, idle=10, heartbeat=5)
    for wait in ("first_message", "max_age", "handler_timeout"):
        rig.deadlines.start(wait, 10)
    rig.came(whole=False, unfinished=True)
    rig.deadlines.no_more_input()
    rig.after(100)
    assert (rig.over, rig.heartbeats) == ([("handler_timeout", 10, 10)], [])


def test_no_timer_is_left_at_the_end() -> None:
    """At the end no timer is left, and none is started afterwards."""
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


def test_the_end_can_come_inside_the_report_of_a_timeout() -> None:
    """If the report of a timeout ends the connection, no second timeout is reported."""
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
    """Without a clock, as over a transport that has no reactor, no timeout is started."""
    rig = Rig()
    clockless = Deadlines(rig)
    clockless.run_on(None)
    clockless.start("handler_timeout", 1)
    clockless.track(OpenWaits(1, {"idle": 1}))
    clockless.bytes_came(whole=False, unfinished=True)
    rig.after(10)
    assert (rig.over, rig.timers, clockless.started) == ([], [], ())
