"""The throttle of a connection, whose messages and rates go on in another throttle."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.connection.deadline_state import dump_deadlines, load_deadlines
from tcpapp.connection.state_form import pack_facts, unpack_facts
from tcpapp.connection.throttle_state import (
    MOST_TOKENS,
    ThrottleState,
    dump_throttle,
    facts_of,
    load_throttle,
    read_throttle,
)
from tcpapp.errors import InvalidState
from tcpapp.limits import Policies
from tests.peers import NotedTransport, Peer, TurnClock

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0)


class Seen:
    """An app that keeps the messages with their times since the first second."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, float]] = []
        self.clock: Any = None

    def received(self, message: bytes, connection: Any) -> None:
        self.messages.append((message, round(self.clock.seconds() % 1000, 6)))


class Turning(Peer):
    """A peer of an app that is `Seen`, at the second `at` of its clock."""

    clock: TurnClock

    def __init__(self, at: float = 100.0, **options: Any) -> None:
        clock = TurnClock()
        clock.advance(at)
        self.app = Seen()
        self.app.clock = clock
        super().__init__(self.app, transport=NotedTransport(clock=clock), timeouts=QUIET, **options)

    def goes_on(self, **options: Any) -> Turning:
        """The connection in another process: its unfinished line, its waits for rates, and its throttle go on there."""
        before = self.protocol
        moved = Turning(self.clock.seconds() + 1000, **options)
        moved.app.messages = self.app.messages.copy()
        assert moved.protocol._framing.receive(before._framing.beginning) == []
        load_deadlines(moved.protocol._deadlines, dump_deadlines(before._deadlines))
        moved.protocol.settle(load_throttle(moved.protocol._throttle, through_facts(before._throttle)))
        return moved


def through_facts(throttle: Any) -> ThrottleState:
    """The state of `throttle`, written and read."""
    state = dump_throttle(throttle)
    facts = unpack_facts(pack_facts(facts_of(state)))
    found = read_throttle(facts, state.pending)
    facts.end()
    return found


def lines(first: int, last: int) -> bytes:
    """Lines with these numbers."""
    return b"".join(b"%d\n" % number for number in range(first, last))


CHUNKS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), max_size=4)


@given(
    CHUNKS, CHUNKS, st.sampled_from([{}, {"message_rate": 4}, {"byte_rate": 10}, {"message_rate": 3, "byte_rate": 8}])
)
def test_messages_are_let_in_when_they_would_have_been(
    before: list[tuple[int, int]], after: list[tuple[int, int]], rates: dict[str, int]
) -> None:
    """
    In the same order, and at the same time on the other clock, by turns and by rates.

    Under a byte rate the first read can take more than the last one left: the rate is the same, the times are not.
    """
    limits = Limits(messages_per_turn=2, **rates)
    peer = Turning(limits=limits)
    sent = 0
    for count, quarters in before:
        peer.says(lines(sent, sent + count))
        sent += count
        peer.clock.advance(quarters / 4)
    moved = peer.goes_on(limits=limits)
    moved.transport.receive(bytes(peer.transport._peer_socket.incoming))
    for count, quarters in [*after, (0, 1000)]:
        for each in (peer, moved):
            each.says(lines(sent, sent + count))
            each.clock.pump([0.25] * quarters)
        sent += count
    if "byte_rate" not in rates:
        assert peer.app.messages == moved.app.messages
    assert [int(message) for message, _ in moved.app.messages] == list(range(sent))
    assert dump_throttle(peer.protocol._throttle) == dump_throttle(moved.protocol._throttle)


def test_a_dump_changes_nothing() -> None:
    """The messages stay, and the tokens are those of this second."""
    peer = Turning(limits=Limits(messages_per_turn=2, message_rate=4, byte_rate=100))
    peer.says(lines(0, 6))
    expected = ThrottleState([b"4", b"5"], 0.0, 88.0)
    peer.clock.give_turn()
    assert expected == dump_throttle(peer.protocol._throttle) == dump_throttle(peer.protocol._throttle)
    peer.clock.advance(0.5)
    assert [message for message, _ in peer.app.messages] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_the_pending_messages_are_counted_to_the_byte() -> None:
    """As in the first throttle."""
    peer = Turning(limits=Limits(messages_per_turn=2))
    peer.says(lines(0, 6))
    moved = peer.goes_on(limits=Limits(messages_per_turn=2))
    assert moved.protocol._throttle.size == peer.protocol._throttle.size > 0
    assert moved.paused


def test_waits_for_rates_that_are_no_more_end() -> None:
    """The settings of the other factory have no rate: the messages come by turns."""
    peer = Turning(limits=Limits(message_rate=1, byte_rate=1))
    peer.slips_in(lines(0, 3))
    assert {"message_rate", "byte_rate"} <= set(peer.waits)
    moved = peer.goes_on()
    assert moved.waits == []
    moved.clock.give_turn()
    assert (len(moved.app.messages), moved.paused) == (3, False)


def test_a_rate_that_is_new_begins_with_a_quiet_second() -> None:
    """The settings of the first factory have none."""
    peer = Turning(limits=Limits(messages_per_turn=1))
    peer.says(lines(0, 4))
    moved = peer.goes_on(limits=Limits(message_rate=2, byte_rate=7))
    for _ in range(4):
        moved.clock.give_turn()
    assert (len(moved.app.messages), moved.transport.bufferSize) == (3, 7)


def test_messages_over_a_rate_that_is_not_waited_for_end_the_connection() -> None:
    """The policy of the other factory says so."""
    peer = Turning(limits=Limits(message_rate=1))
    peer.says(lines(0, 3))
    state = dump_throttle(peer.protocol._throttle)
    moved = Turning(limits=Limits(message_rate=1), policies=Policies(over_rate="reset"))
    moved.protocol.settle(load_throttle(moved.protocol._throttle, state))
    moved.transport.turn()
    assert moved.reason.rule == "message-rate"


def test_a_byte_rate_that_is_not_waited_for_limits_no_read() -> None:
    """It is checked after the read."""
    peer = Turning(limits=Limits(byte_rate=100))
    peer.says(lines(0, 3))
    moved = peer.goes_on(limits=Limits(byte_rate=100), policies=Policies(over_rate="refuse"))
    assert moved.transport.bufferSize == 64 * 1024


def test_without_a_clock_there_are_no_turns() -> None:
    """Over a transport without a reactor, all is let in at once."""
    app = Seen()
    app.clock = TurnClock()
    protocol: Any = MessageServerFactory(app, telemetry=Telemetry()).buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.settle(load_throttle(protocol._throttle, ThrottleState([b"0", b"1"], None, None)))
    assert len(app.messages) == 2


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param({"message_tokens": 1}, "no 'byte_tokens'", id="missing"),
        pytest.param({"message_tokens": "1", "byte_tokens": 1}, "takes a number from", id="text"),
        pytest.param({"message_tokens": 1, "byte_tokens": -MOST_TOKENS - 1}, "byte_tokens=-", id="debt"),
        pytest.param({"message_tokens": 1, "byte_tokens": 1, "more": 1}, "unknown 'more'", id="unknown"),
    ],
)
def test_only_facts_of_a_throttle_are_read(facts: Any, words: str) -> None:
    """Each is named where it is wrong."""
    with pytest.raises(InvalidState, match=words):
        read_throttle(unpack_facts(pack_facts(facts)), [])
