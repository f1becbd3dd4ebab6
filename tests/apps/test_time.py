"""Time: the server sends the time each second, until the client leaves or the server stops."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.error import ConnectionLost

from tcpapp import Limits, State, Timeouts
from tcpapp.apps import time
from tcpapp.telemetry import AppFailed
from tests.peers import Peer

LINE = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\n"
ONE_LINE = Limits(write_high=20)
"""Limits with which at most one line can wait to be sent."""


def told(peer: Peer) -> int:
    """Return how many times the time was sent so far, and check that nothing else was sent."""
    heard = peer.transport.value()
    assert re.fullmatch(rb"(%s)*" % LINE, heard)
    return heard.count(b"\n")


def test_the_time_is_sent_at_once_and_each_second() -> None:
    """The time is sent when a client connects, and then once a second."""
    peer = Peer(time)
    assert told(peer) == 1
    peer.clock.advance(0.99)
    assert told(peer) == 1
    peer.clock.advance(0.01)
    assert told(peer) == 2
    peer.clock.pump([1, 1, 1])
    assert told(peer) == 5


def test_messages_of_the_client_are_ignored() -> None:
    """Messages of the client are read and ignored, and do not change when the time is sent."""
    peer = Peer(time)
    peer.says(b"what time is it?\n" * 100_000)
    peer.clock.advance(0)  # each turn handles a part of the messages
    assert told(peer) == 1
    assert (peer.paused, peer.transport.unread) == (False, 0)
    peer.clock.advance(1)
    assert told(peer) == 2


def test_a_slow_client_gets_fewer_messages() -> None:
    """While the client reads nothing, one line waits, and no other is added; afterwards one line a second is sent."""
    peer = Peer(time, timeouts=Timeouts(send_progress=0), limits=ONE_LINE)
    line = len(peer.transport.value())
    peer.transport.stall()
    peer.clock.pump([1] * 10)
    assert (told(peer), peer.transport.unsent) == (1, line)
    peer.transport.go_on()
    assert told(peer) == 2
    peer.clock.advance(1)
    assert told(peer) == 3


def ended(peer: Peer) -> Any:
    """Return the rule by which the connection ended, and check that no timer is left and the app did not fail."""
    peer.transport.turn()
    assert peer.connection.state is State.CLOSED
    assert peer.clock.getDelayedCalls() == []
    assert not peer.told(AppFailed)
    return peer.reason.rule


def test_the_app_ends_when_the_client_leaves() -> None:
    """When the client closes its side, or both sides, the app ends."""
    peer = Peer(time)
    peer.half_closes()
    assert ended(peer) == "end-of-stream"
    peer = Peer(time)
    peer.transport.lose()
    assert ended(peer) == "end-of-stream"


def test_the_app_ends_after_a_reset() -> None:
    """After a reset, the app ends without an error of its own."""
    peer = Peer(time)
    peer.transport.reset()
    assert ended(peer) == "lost"


def test_the_app_ends_after_a_reset_of_a_slow_client() -> None:
    """After a reset, the app ends although a line still waits to be sent."""
    peer = Peer(time, limits=ONE_LINE)
    peer.transport.stall()
    peer.clock.pump([1, 1])
    peer.transport.lose(ConnectionLost())
    assert ended(peer) == "lost"


def test_the_app_fails_with_a_codec() -> None:
    """The app sends bytes, so with a codec it fails at once, and the client does not wait in vain."""
    peer = Peer(time, codec="text")
    peer.transport.turn()
    assert peer.reason.rule == "app-failed"
    assert len(peer.told(AppFailed)) == 1


def test_the_app_does_not_delay_a_drain() -> None:
    """A drain ends the app at once: there is no work to finish."""
    peer = Peer(time)
    peer.clock.advance(1)
    peer.connection.drain()
    assert ended(peer) == "drained"
