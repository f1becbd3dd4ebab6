"""The waits of an open connection, by the settings of its factory."""

from __future__ import annotations

from tcpapp.connection.open_waits import OpenWaits, waits_of
from tcpapp.limits import Timeouts


def test_the_repeated_timeouts_follow_the_settings() -> None:
    """A client has no `idle` timeout, and a connection that cannot send heartbeats misses none."""
    timeouts = Timeouts(idle=1, idle_read=2, idle_write=3, heartbeat=4)
    every = {"idle": 1, "idle_read": 2, "idle_write": 3, "heartbeat": 4}
    assert waits_of(timeouts, serves=True, heartbeats=True) == every
    assert waits_of(timeouts, serves=False, heartbeats=False) == {"idle_read": 2, "idle_write": 3}


def test_a_wait_of_0_seconds_is_no_wait() -> None:
    """A wait of 0 seconds is left out, and the shortest of the others is known."""
    waits = OpenWaits(0, {"idle": 5, "idle_read": 0, "idle_write": 3}, 0)
    assert (waits.tracked, waits.shortest) == ((("idle", 5), ("idle_write", 3)), 3)
    assert (waits.message_timeout, waits.first_message) == (float("inf"), float("inf"))
