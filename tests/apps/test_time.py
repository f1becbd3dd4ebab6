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
"""With these, one line that waits to be sent is as many as may."""


def told(peer: Peer) -> int:
    """How often the time was sent by now; nothing else may have been sent."""
    heard = peer.transport.value()
    assert re.fullmatch(rb"(%s)*" % LINE, heard)
    return heard.count(b"\n")


def test_the_time_is_told_at_once_and_each_second() -> None:
    """A line comes at the start, and one a second; nothing else is sent."""
    peer = Peer(time)
    assert told(peer) == 1
    peer.clock.advance(0.99)
    assert told(peer) == 1
    peer.clock.advance(0.01)
    assert told(peer) == 2
    peer.clock.pump([1, 1, 1])
    assert told(peer) == 5


def test_what_the_client_says_is_passed_over() -> None:
    """A client that sends neither hurries the clock nor fills memory."""
    peer = Peer(time)
    peer.says(b"what time is it?\n" * 100_000)
    peer.clock.advance(0)  # a share of them in each turn
    assert told(peer) == 1
    assert (peer.paused, peer.transport.unread) == (False, 0)
    peer.clock.advance(1)
    assert told(peer) == 2


def test_a_slow_client_is_told_less_often() -> None:
    """While the client reads nothing, no line is added to the one that waits; then the next second's comes."""
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
    """The rule by which it ended; no timer is left, and the app did not fail."""
    peer.transport.turn()
    assert peer.connection.state is State.CLOSED
    assert peer.clock.getDelayedCalls() == []
    assert not peer.told(AppFailed)
    return peer.reason.rule


def test_it_ends_when_the_client_leaves() -> None:
    """A client that closes its side, or both, gets nothing more."""
    peer = Peer(time)
    peer.half_closes()
    assert ended(peer) == "end-of-stream"
    peer = Peer(time)
    peer.transport.lose()
    assert ended(peer) == "end-of-stream"


def test_it_ends_when_the_network_fails() -> None:
    """A reset is only the network's failure."""
    peer = Peer(time)
    peer.transport.reset()
    assert ended(peer) == "lost"


def test_it_ends_when_the_network_fails_while_the_client_is_slow() -> None:
    """A line that waits to be sent keeps nothing alive."""
    peer = Peer(time, limits=ONE_LINE)
    peer.transport.stall()
    peer.clock.pump([1, 1])
    peer.transport.lose(ConnectionLost())
    assert ended(peer) == "lost"


def test_it_is_served_without_a_codec() -> None:
    """Its messages are bytes: with a codec it fails at once, and no client waits for nothing."""
    peer = Peer(time, codec="text")
    peer.transport.turn()
    assert peer.reason.rule == "app-failed"
    assert len(peer.told(AppFailed)) == 1


def test_it_does_not_hold_up_a_drain() -> None:
    """When the server stops, the conversation ends at once: there is no work to finish."""
    peer = Peer(time)
    peer.clock.advance(1)
    peer.connection.drain()
    assert ended(peer) == "drained"
