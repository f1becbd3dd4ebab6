"""Backpressure: with a slow app or a slow peer the held bytes are bounded, and later everything goes on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tcpapp.connection.app import conversation
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.limits import Limits, Timeouts
from tests.peers import NOTHING, Peer, Switch, result_of, stalled

LINE = b"x" * 99 + b"\n"
SMALL = Limits(inbox_high=10_000, inbox_low=5_000, write_high=10_000)


# A slow app -----------------------------------------------------------------------------------------------------------


def test_a_slow_app_pauses_reading_until_it_catches_up() -> None:
    """Reading pauses when the inbox is over its high-water mark, and resumes at the low-water mark."""
    app = Switch()
    peer = Peer(app, limits=SMALL)
    peer.says(LINE)
    while not peer.paused:
        peer.says(LINE)
    held = peer.protocol._inbox.size
    assert 10_000 < held <= 10_000 + len(LINE) + MESSAGE_COST
    while peer.paused:
        app.pending[-1].callback(None)
    assert peer.protocol._inbox.size <= 5_000


@pytest.mark.parametrize("size", [1, 100, 65_536])
@pytest.mark.parametrize("line", [b"\n", LINE, b"x" * 5000 + b"\n"])
def test_the_inbox_of_a_slow_app_is_bounded_by_the_high_water_mark_and_one_chunk(size: int, line: bytes) -> None:
    """The messages that a slow app has not taken are bounded, for all sizes of messages and chunks."""
    peer = Peer(Switch(), limits=SMALL)
    stream = line * (200_000 // len(line))
    most = 0
    for start in range(0, len(stream), size):
        if peer.paused:
            break
        peer.says(stream[start : start + size])
        most = max(most, peer.protocol._inbox.size)
    assert peer.paused
    assert most <= 10_000 + (size // len(line) + 1) * (len(line) + MESSAGE_COST)


def test_a_conversation_that_waits_for_something_else_pauses_reading() -> None:
    """Messages that a conversation does not receive pause reading, as the messages of a slow app do."""
    going: Deferred[None] = Deferred()
    seen: list[bytes] = []

    @conversation
    async def talk(connection: Any) -> None:
        await going
        async for message in connection:
            seen.append(message)  # noqa: PERF401 - they are looked at while it goes on

    peer = Peer(talk, limits=SMALL)
    peer.says(LINE * 200)
    assert peer.paused
    going.callback(None)
    assert not peer.paused
    peer.transport.turn()
    assert len(seen) == 200
    peer.leaves()


def test_pause_pauses_reading_at_the_high_water_mark() -> None:
    """After `pause()`, reading goes on until the inbox is over its high-water mark."""
    seen: list[bytes] = []
    peer = Peer(lambda message, _: seen.append(message), limits=SMALL)
    peer.connection.pause()
    peer.says(LINE)
    assert not peer.paused
    peer.says(LINE * 100)
    assert peer.paused
    peer.connection.resume()
    assert not peer.paused
    assert len(seen) == 101


def test_an_unreadable_stream_is_not_read_again_when_the_inbox_empties() -> None:
    """After an unreadable frame, reading stays paused while the app empties the inbox."""
    app = Switch()
    peer = Peer(app, "line:max=100", limits=Limits(inbox_high=10_000, inbox_low=5_000))
    peer.says(LINE * 200 + b"x" * 101)
    assert peer.paused
    for _ in range(199):
        app.pending[-1].callback(None)
        assert peer.paused
    app.pending[-1].callback(None)
    assert peer.closing


# A slow peer ----------------------------------------------------------------------------------------------------------


def test_a_peer_that_reads_no_replies_pauses_handling_and_then_reading() -> None:
    """If the peer reads no replies, first handling pauses, then reading. Both go on when the peer reads."""
    calls: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        calls.append(message)
        return b"y" * 1000

    peer = stalled(app, limits=SMALL)
    sent = 0
    while not peer.paused:
        peer.says(LINE)
        sent += 1
    assert len(calls) < 25 < sent
    assert peer.transport.unsent + peer.protocol.info().unsent <= 25 * 1001
    while peer.transport.unsent:
        peer.transport.take()
    assert not peer.paused
    assert len(calls) == sent
    assert peer.hears() == (b"y" * 1000 + b"\n") * sent


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5000)), max_size=30))
def test_a_peer_that_reads_in_small_parts_gets_every_reply_in_order(steps: list[tuple[bool, int]]) -> None:
    """However rarely and little a peer reads, the peer gets every reply in order."""
    peer = stalled(lambda message, _: message * 20, limits=SMALL)
    expected = b""
    for number, (says, count) in enumerate(steps):
        if says:
            messages = [b"%d-%d" % (number, each) for each in range(count % 40)]
            peer.says(b"".join(message + b"\n" for message in messages))
            expected += b"".join(message * 20 + b"\n" for message in messages)
        else:
            peer.transport.take(count)
    while peer.transport.unsent or peer.transport.unread:
        peer.transport.take()
        peer.transport.turn()  # chunks that waited while reading was paused come in a later turn
    assert peer.hears() == expected
    assert not peer.paused
    assert (peer.timers, peer.waits) == ([], [])


def test_a_send_waits_until_the_unsent_bytes_are_below_the_mark() -> None:
    """
    `send()` fires at once below the high-water mark; above the mark, `send()` fires when the peer has read enough.
    """
    peer = stalled(limits=SMALL)
    assert result_of(peer.connection.send(b"x" * 5_000)) is None
    waiting = peer.connection.send(b"x" * 20_000)
    assert result_of(waiting) is NOTHING
    peer.transport.take()
    peer.transport.take()
    assert waiting.called


def test_a_send_that_is_cancelled_before_its_first_byte_is_not_sent() -> None:
    """A cancelled `send()` that waits sends nothing, and the messages before and behind it are sent."""
    peer = stalled(limits=SMALL)
    sends = [peer.connection.send(bytes([letter]) * 20_000) for letter in b"abc"]
    for send in sends:
        send.addErrback(lambda _: None)
    sends[1].cancel()
    while peer.transport.unsent:
        peer.transport.take()
    assert peer.hears() == b"a" * 20_000 + b"\n" + b"c" * 20_000 + b"\n"


def test_the_callback_of_a_send_can_call_the_connection() -> None:
    """The callback of a `send()` that waited can send again, pause, resume, and close."""
    peer = stalled(lambda message, _: message, limits=SMALL)

    def on(_: None) -> None:
        peer.connection.pause()
        peer.connection.send(b"sent")
        peer.connection.resume()
        peer.connection.close()

    peer.connection.send(b"x" * 30_000).addCallback(on)
    peer.says(b"waits\n")
    while peer.transport.unsent:
        peer.transport.take()
    heard = peer.hears()
    assert heard.startswith(b"x" * 30_000 + b"\nsent\n")
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "closed"


def test_a_peer_that_takes_nothing_is_cut_after_a_while() -> None:
    """A peer that reads nothing for `send_progress` seconds is cut. Each read of the peer restarts the time."""
    peer = stalled(limits=SMALL, timeouts=Timeouts(send_progress=10.0))
    send = peer.connection.send(b"x" * 100_000)
    peer.clock.advance(9)
    peer.transport.take()
    peer.clock.advance(9)
    assert not peer.closing
    peer.clock.advance(1)
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.limit) == ("send-stalled", "us", 10.0)
    assert result_of(send).reason is peer.reason


def test_a_sender_that_does_not_wait_is_cut_at_the_bound() -> None:
    """Over `max_unsent` the connection ends, so that a peer that does not read cannot fill the memory."""
    peer = stalled(limits=Limits(write_high=1000, max_unsent=10_000))
    sends = [peer.connection.send(b"x" * 1000).addErrback(lambda failure: failure.value) for _ in range(20)]
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.limit) == ("too-much-unsent", "us", 10_000)
    assert peer.reason.value > 10_000
    errors = [error for error in map(result_of, sends) if error is not None]
    assert {error.reason.rule for error in errors} == {"too-much-unsent"}


def test_the_pause_of_a_transport_in_the_middle_of_a_chunk_holds_the_rest_of_it() -> None:
    """If the peer reads no replies, the other messages of a chunk wait. Each is handled once, in order."""
    calls: list[bytes] = []

    def app(message: bytes, connection: Any) -> bytes:
        calls.append(message)
        return message * 3000

    peer = stalled(app, limits=SMALL)
    peer.says(b"".join(b"%03d\n" % number for number in range(100)))
    assert len(calls) < 5
    while peer.transport.unsent:
        peer.transport.take()
    assert calls == [b"%03d" % number for number in range(100)]
