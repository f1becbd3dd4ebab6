"""A connection whose reading is paused: which timeouts run meanwhile, and what still ends the connection."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import Limits, Timeouts
from tcpapp.connection.read_control import MEMORY_PRESSURE
from tcpapp.telemetry import Closed
from tests.peers import NotedTransport, Peer, TurnClock

LINES = b"m\n" * 60
MESSAGES = (b"\0\0\x03\xe4" + b"x" * 996) * 130
"""130 kB in one chunk: 13 seconds at 10 kB a second, or 12 seconds after a first part that is read at once."""
LONG = b"\0\x01\x80\0" + b"x" * 98304
"""One message of 98,308 bytes, which is read in 8.83 seconds."""

OFF: dict[str, Any] = {"first_message": 0, "idle": 0, "message_timeout": 0, "heartbeat": 0}


class Slow(Peer):
    """A peer over its rate limit, whose app counts the messages and sends nothing."""

    clock: TurnClock

    def __init__(self, framing: str, limits: dict[str, int], waits: dict[str, float], **options: Any) -> None:
        self.handled = 0
        super().__init__(
            self.count,
            framing,
            transport=NotedTransport(clock=TurnClock()),
            limits=Limits(**limits),
            timeouts=Timeouts(**(OFF | waits)),
            **options,
        )

    def count(self, message: bytes, connection: Any) -> None:
        self.handled += 1

    def after(self, seconds: float) -> None:
        """Let time pass, in steps of a twentieth of a second."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    @property
    def ended(self) -> str | None:
        """The rule by which the connection ended, or `None` while it is open."""
        return next((each.reason.rule for each in self.told(Closed)), None)


@pytest.mark.parametrize("wait", ["idle", "idle_read"])
def test_messages_that_wait_for_their_rate_are_no_silence(wait: str) -> None:
    """The idle time runs from the last handled message: 2 are handled at once, then 58 at 2 a second."""
    peer = Slow("line", {"message_rate": 2}, {wait: 3})
    peer.says(LINES)
    peer.after(12)
    assert (peer.ended, peer.handled) == (None, 26)
    peer.after(19)
    assert (peer.ended, peer.handled) == (None, 60)
    peer.after(2)
    assert peer.ended == "idle"


@pytest.mark.parametrize("wait", ["idle", "idle_read"])
def test_bytes_that_wait_for_their_rate_are_no_silence(wait: str) -> None:
    """The idle time does not run during the twelve seconds in which a flood is read and handled."""
    peer = Slow("int32", {"byte_rate": 10_000}, {wait: 3})
    peer.says(MESSAGES)
    peer.after(11)
    assert (peer.ended, 115 < peer.handled < 125) == (None, True)
    peer.after(3)
    assert (peer.ended, peer.handled) == (None, 130)
    peer.after(2)
    assert peer.ended == "idle"


def test_heartbeats_are_sent_to_a_peer_that_is_not_read_from_and_none_is_missed() -> None:
    """Heartbeats count as missed only after everything was read, and nothing came in reply."""
    peer = Slow("int32", {"byte_rate": 10_000}, {"heartbeat": 1}, heartbeat=b"ping")
    peer.says(MESSAGES)
    peer.protocol._read_control.pause(MEMORY_PRESSURE)
    peer.after(12.5)
    assert (peer.ended, peer.hears().count(b"ping")) == (None, 12)
    peer.protocol._read_control.resume(MEMORY_PRESSURE)
    peer.after(13)
    assert (peer.ended, peer.handled) == (None, 130)
    peer.after(4)
    assert peer.ended == "heartbeat-missed"


@pytest.mark.parametrize("wait", ["message_timeout", "first_message"])
def test_a_message_that_waits_for_its_rate_is_not_late(wait: str) -> None:
    """A message whose bytes wait for a rate is not late, and is handled when all of it is read."""
    peer = Slow("int32", {"byte_rate": 10_000}, {wait: 3})
    peer.says(LONG)
    peer.after(8.7)
    assert (peer.ended, peer.handled) == (None, 0)
    peer.after(10)
    assert (peer.ended, peer.handled) == (None, 1)


@pytest.mark.parametrize(
    ("wait", "rule"), [("message_timeout", "message-timeout"), ("first_message", "first-message-timeout")]
)
def test_half_a_message_is_late_though_a_rate_holds_it_back(wait: str, rule: str) -> None:
    """Half a message has the time that the rate takes, and its own timeout: 4.2 seconds and 3."""
    peer = Slow("int32", {"byte_rate": 10_000}, {wait: 3})
    peer.says(LONG[:52_000])
    peer.after(7.1)
    assert peer.ended is None
    peer.after(0.3)
    assert (peer.ended, peer.handled) == (rule, 0)


def test_pauses_for_a_rate_give_a_message_no_more_time() -> None:
    """If one of two seconds is a pause for a rate, the three seconds of `message_timeout` take six."""
    peer = Slow("int32", {"byte_rate": 1000}, {"message_timeout": 3})
    peer.says(LONG[:4])
    for _ in range(2):
        peer.says(b"x" * 1600)
        peer.after(2)
    peer.says(b"x" * 1600)
    peer.after(1.5)
    assert peer.ended is None
    peer.after(1)
    assert peer.ended == "message-timeout"


@pytest.mark.parametrize(("wait", "rule"), [("handler_timeout", "handler-timeout"), ("send_progress", "send-stalled")])
def test_a_connection_with_a_full_inbox_ends_by_the_timeout_of_app_or_peer(wait: str, rule: str) -> None:
    """Only `handler_timeout` runs if the app is slow, and only `send_progress` if the peer reads nothing."""
    clock = TurnClock()
    transport = NotedTransport(clock=clock, peer_reads=False)
    peer = Peer(
        (lambda message, _: Deferred()) if wait == "handler_timeout" else (lambda message, _: message * 100),
        transport=transport,
        limits=Limits(inbox_high=1000, inbox_low=0, write_high=1000),
        timeouts=Timeouts(**(OFF | {"idle": 3, "idle_read": 3, "message_timeout": 3, wait: 20})),
    )
    peer.says((b"x" * 99 + b"\n") * 30 + b"half")
    assert peer.paused
    for _ in range(19):
        clock.advance(1)
    assert not peer.closing
    clock.advance(2)
    peer.leaves()
    assert peer.reason.rule == rule


def test_idle_write_runs_while_reading_is_paused() -> None:
    """While a full inbox pauses reading, only `idle_write` runs, and no answer of the app can be late."""
    peer = Slow("line", {"inbox_high": 10, "inbox_low": 0}, {"idle": 3, "idle_read": 3, "idle_write": 9})
    peer.connection.pause()
    peer.says(LINES)
    assert peer.paused
    peer.after(8.9)
    assert peer.ended is None
    peer.after(0.2)
    assert peer.ended == "idle"
