"""The handling of received bytes, chunk by chunk: handled input, counts, and dropped input."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp import Limits, Timeouts
from tcpapp.telemetry import MessagesSkipped
from tests.peers import Peer

QUIET = Timeouts(first_message=0, idle=0)


class Seen:
    """An app that notes its messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> None:
        self.messages.append(message)


@pytest.mark.parametrize(
    ("chunks", "messages", "count"),
    [
        pytest.param([b"one\n"], [b"one"], 4, id="a-message"),
        pytest.param([b"one\ntwo\nth", b"ree\n"], [b"one", b"two", b"three"], 14, id="in-pieces"),
        pytest.param([b"on"], [], 2, id="a-part-of-one"),
        pytest.param([b"ok\n" + b"x" * 9 + b"\n", b"\n"], [b"ok"], 13, id="unreadable-and-then-deaf"),
    ],
)
def test_received_bytes_and_messages_are_handed_on_and_counted(
    chunks: list[bytes], messages: list[bytes], count: int
) -> None:
    """The bytes that were read are counted, and the messages in them. Nothing is read after an unreadable frame."""
    app = Seen()
    peer = Peer(app, framing="line:max=8", timeouts=QUIET)
    for chunk in chunks:
        peer.protocol.dataReceived(chunk)
    info = peer.factory.info()
    assert (app.messages, info.messages, info.bytes) == (messages, len(messages), count)


def test_each_chunk_updates_the_deadlines() -> None:
    """Each chunk restarts the idle time. The time of a message begins with its first byte, and ends with its last."""
    peer = Peer(Seen(), timeouts=Timeouts(first_message=0, idle=0, message_timeout=5))
    peer.clock.advance(3)
    peer.says(b"hel")
    deadlines = peer.protocol._deadlines
    assert (deadlines.last_received, deadlines._unfinished) == (3.0, 3.0)
    peer.clock.advance(4)
    peer.says(b"lo\n")
    assert (deadlines.last_received, deadlines._unfinished) == (7.0, None)


def test_the_memory_budget_is_updated_only_if_bytes_are_held() -> None:
    """A message that is handled at once, as most are, does not update the memory budget."""
    peer = Peer(Seen(), timeouts=QUIET)
    noted: list[int] = []
    budget = peer.factory.settings.memory_budget
    budget.update = lambda holder, amount: noted.append(amount)  # type: ignore[method-assign]
    peer.says(b"one\ntwo\n")
    assert noted == []
    peer.says(b"thr")
    assert noted == [3]
    peer.says(b"ee\n")
    assert noted == [3, 0]


def test_messages_of_a_connection_that_waits_for_its_turn_stay_in_order() -> None:
    """Bytes that come while messages wait for a turn are handled after those messages."""
    app = Seen()
    peer = Peer(app, timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.protocol.dataReceived(b"1\n2\n3\n")
    peer.protocol.dataReceived(b"4\n")
    peer.clock.advance(0)
    assert app.messages == [b"1", b"2", b"3", b"4"]


def test_skipped_messages_are_reported_after_whole_messages() -> None:
    """A message that is too long is left out and reported, and the stream is read on."""
    app = Seen()
    peer = Peer(app, framing="line:max=4:oversize=skip", timeouts=QUIET)
    peer.says(b"one\nmuch too long\ntwo\n")
    assert app.messages == [b"one", b"two"]
    assert [event.count for event in peer.told(MessagesSkipped)] == [1]
