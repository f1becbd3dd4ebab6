"""The buffered bytes of one connection: the sum over its parts, and the reaction to memory pressure."""

from __future__ import annotations

from typing import Any

from tcpapp import Limits, Timeouts
from tcpapp.apps import echo
from tests.peers import Peer, Switch, stalled

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, send_progress=0, handler_timeout=0)


def test_the_held_bytes_are_the_sum_over_all_parts() -> None:
    """
    The held bytes include an unfinished message, messages for the app, input that waits for a turn, and unsent bytes.

    While messages wait, they include the received bytes of these messages, which another framing could read.
    """
    limits = Limits(messages_per_turn=1, write_high=1000)
    app = Switch()
    peer: Any = stalled(app, timeouts=QUIET, limits=limits)
    buffered = peer.protocol._buffered
    assert (buffered.held_bytes, buffered.reported) == (0, 0)
    peer.says(b"x" * 10)
    assert (buffered.held_bytes, buffered.reported) == (10, 10)
    peer.says(b"\n1\n2\n")
    kept, in_hand, chunks = peer.protocol._throttle.size, 10 + 64, 10 + 5
    assert (kept, buffered.reported) == (2 * 65, kept + in_hand + chunks)
    peer.clock.advance(0)
    assert (peer.protocol._inbox.size, buffered.reported) == (2 * 65, 2 * 65 + in_hand + chunks)
    peer.connection.send(b"y" * 5000)
    assert buffered.reported == 2 * 65 + in_hand + chunks + peer.protocol._outbox.held > 5000


def test_handled_messages_and_ended_connections_are_not_held() -> None:
    """The bytes of a message are no longer held after the reply is sent, or after the connection has ended."""
    peer = Peer(echo, timeouts=QUIET)
    memory = peer.factory.settings.memory_budget
    peer.says(b"hel")
    assert memory.total == 3
    peer.says(b"lo\n")
    assert memory.total == 0
    peer.says(b"hel")
    peer.resets()
    assert memory.total == 0


def test_a_message_of_a_slow_app_is_held_until_the_reply() -> None:
    """A message that a slow app has taken counts as held until the app replies, with the bytes of those behind it."""
    app = Switch()
    peer = Peer(app, timeouts=QUIET)
    memory = peer.factory.settings.memory_budget
    peer.says(b"1\n2\n3\n")
    chunk = 6
    assert memory.total == 3 * 65 + chunk
    app.pending[0].callback(b"one")
    assert memory.total == 2 * 65 + chunk
    app.pending[1].callback(b"two")
    app.pending[2].callback(b"three")
    assert memory.total == 0


def test_a_connection_under_memory_pressure_is_not_read_from() -> None:
    """Under memory pressure the connection pauses reading, until memory suffices again."""
    peer = Peer(echo, timeouts=QUIET)
    peer.protocol._buffered.pause_reading()
    assert peer.paused
    peer.protocol._buffered.resume_reading()
    assert not peer.paused
