"""Messages before the end of a stream, or before its fault, are answered."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tcpapp.connection.app import conversation
from tcpapp.connection.connection import State
from tcpapp.errors import MessageTooLong
from tcpapp.limits import Timeouts
from tcpapp.telemetry import MessagesSkipped
from tests.peers import Peer, Switch, stalled


def echo(message: bytes, connection: Any) -> bytes:
    return message


# Half-close -----------------------------------------------------------------------------------------------------------


def test_a_peer_that_sends_and_half_closes_gets_its_answers() -> None:
    """After the peer's half-close the received messages are answered, and then the connection closes."""
    peer = Peer(echo)
    peer.says(b"1\n2\n")
    peer.half_closes()
    assert peer.hears() == b"1\n2\n"
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.clean) == ("end-of-stream", "peer", True)


def test_the_answers_of_a_slow_app_come_after_the_half_close_too() -> None:
    """After the half-close a slow app answers all received messages, one by one, and then the connection closes."""
    app = Switch()
    peer = Peer(app)
    peer.says(b"1\n2\n")
    peer.half_closes()
    peer.protocol.readConnectionLost()
    assert not peer.closing
    app.pending[0].callback(b"one")
    assert not peer.closing
    app.pending[1].callback(b"two")
    assert peer.hears() == b"one\ntwo\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "end-of-stream"
    assert peer.clock.getDelayedCalls() == []


def test_a_conversation_answers_after_the_half_close() -> None:
    """The half-close ends the `async for` of a conversation, which can still send its last messages."""
    going: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        messages = [message async for message in connection]
        await going
        await connection.send(b"".join(messages))

    peer = Peer(talk)
    peer.says(b"1\n2\n")
    peer.half_closes()
    assert not peer.closing
    going.callback(None)
    assert peer.hears() == b"12\n"
    assert peer.closing


def test_a_peer_that_half_closes_before_it_said_anything_is_closed_too() -> None:
    """If a peer half-closes without a message, the connection closes at once, because nothing waits."""
    peer = Peer(echo)
    peer.half_closes()
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "end-of-stream"


@pytest.mark.parametrize("end", [Peer.half_closes, Peer.leaves])
def test_a_stream_that_ends_inside_a_message_is_truncated(end: Any) -> None:
    """The whole messages before are answered, and the reason has the number of bytes of the last one."""
    peer = Peer(echo)
    peer.says(b"1\nhalf")
    end(peer)
    peer.leaves()
    assert peer.hears() == b"1\n"
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.value) == ("truncated-message", "peer", 4)
    assert not peer.reason.clean


def test_answers_that_take_too_long_are_cut_off() -> None:
    """After the peer's half-close, the timeout `half_close` bounds the time for the answers."""
    peer = Peer(Switch(), timeouts=Timeouts(half_close=7.0))
    peer.says(b"1\n")
    peer.half_closes()
    peer.clock.advance(6.9)
    assert not peer.closing
    peer.clock.advance(0.2)
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, peer.reason.limit, peer.reason.clean) == ("half-close-over", 7.0, False)


def test_without_a_half_close_timeout_answers_have_no_time_limit() -> None:
    """With `half_close=0`, the answers after a half-close have no time limit of their own."""
    peer = Peer(Switch(), timeouts=Timeouts(half_close=0))
    peer.says(b"1\n")
    peer.half_closes()
    assert (peer.timers, peer.waits) == ([], ["handler_timeout"])


def test_a_paused_app_gets_its_messages_after_the_half_close() -> None:
    """After the half-close, `resume()` hands the waiting messages to the app."""
    peer = Peer(echo)
    peer.connection.pause()
    peer.says(b"1\n2\n")
    peer.half_closes()
    assert not peer.closing
    peer.connection.resume()
    assert peer.hears() == b"1\n2\n"
    assert peer.closing


def test_answers_that_the_peer_takes_slowly_go_out_after_the_half_close() -> None:
    """After the half-close, the app is called as the peer reads, and the close waits for the last reply."""
    peer = stalled(lambda message, _: message * 50_000)
    peer.says(b"1\n2\n3\n4\n5\n")
    peer.half_closes()
    assert not peer.closing
    while not peer.closing:
        peer.transport.take()
    peer.transport.take()
    assert peer.hears() == b"".join(bytes([each]) * 50_000 + b"\n" for each in b"12345")


def test_the_report_that_our_own_side_is_closed_changes_nothing() -> None:
    """When Twisted reports that our own side is closed for writing, nothing changes."""
    peer = Peer(echo)
    peer.protocol.writeConnectionLost()
    assert peer.connection.state is State.OPEN


# Unreadable streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
def test_whole_messages_are_answered_before_an_unreadable_stream_is_closed(slow: bool) -> None:
    """Messages before an unreadable frame are answered, also by a slow app. Nothing after it is read."""
    app = Switch()
    peer = Peer(app if slow else echo, "line:max=5")
    peer.says(b"1\n2\ntoo long\n3\n")
    peer.slips_in(b"4\n")
    assert peer.paused == slow
    for number in range(2 if slow else 0):
        assert not peer.closing
        app.pending[number].callback(app.seen[number])
    assert peer.hears() == b"1\n2\n"
    assert peer.closing
    assert not peer.paused  # TLS reads on, until the peer's close_notify
    peer.leaves()
    assert (peer.reason.rule, str(peer.reason.by), peer.reason.limit) == ("message-too-long", "us", 5)
    assert isinstance(peer.reason.error, MessageTooLong)


@given(st.sets(st.integers(1, 24)))
def test_the_answers_before_a_fault_are_the_same_however_the_stream_is_cut(cuts: set[int]) -> None:
    """Wherever the stream is cut, the messages before the fault are answered, and the reason is the same."""
    peer = Peer(echo, "netstring")
    stream = b"1:a,1:b,x1:c,1:d,"
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, end in pairwise(edges):
        peer.slips_in(stream[start:end])
    assert peer.hears() == b"1:a,1:b,"
    peer.leaves()
    assert peer.reason.rule == "malformed-frame"


@pytest.mark.parametrize("cut", [False, True])
def test_messages_that_are_skipped_are_counted_and_the_connection_goes_on(cut: bool) -> None:
    """With `oversize=skip` the connection leaves out long messages, and reports their number."""
    peer = Peer(echo, "line:max=3:oversize=skip")
    stream = b"1\nlong\nlonger\n2\n"
    for piece in [stream[each : each + 1] for each in range(len(stream))] if cut else [stream]:
        peer.says(piece)
    assert peer.hears() == b"1\n2\n"
    assert not peer.closing
    skipped = peer.told(MessagesSkipped)
    assert sum(event.count for event in skipped) == 2
    assert {(event.limit, event.connection) for event in skipped} == {(3, peer.connection)}


def test_messages_that_are_skipped_right_before_a_fault_are_counted() -> None:
    """Skipped messages are counted, even if the same chunk has a fault and no whole message."""
    peer = Peer(echo, "netstring:max=3:oversize=skip")
    peer.says(b"4:long,x")
    peer.leaves()
    assert [event.count for event in peer.told(MessagesSkipped)] == [1]
    assert peer.reason.rule == "malformed-frame"
