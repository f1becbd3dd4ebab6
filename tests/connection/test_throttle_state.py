"""The state of a throttle: its messages and rates go on in another throttle."""

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
    """A peer of an app that is `Seen`. Its clock begins at the second `at`."""

    clock: TurnClock

    def __init__(self, at: float = 100.0, **options: Any) -> None:
        clock = TurnClock()
        clock.advance(at)
        self.app = Seen()
        self.app.clock = clock
        super().__init__(self.app, transport=NotedTransport(clock=clock), timeouts=QUIET, **options)

    def goes_on(self, **options: Any) -> Turning:
        """Return the connection in another process, with its unfinished line, its waits for rates, and its throttle."""
        before = self.protocol
        moved = Turning(self.clock.seconds() + 1000, **options)
        moved.app.messages = self.app.messages.copy()
        assert moved.protocol._framing.receive(before._framing.beginning) == []
        load_deadlines(moved.protocol._deadlines, dump_deadlines(before._deadlines))
        moved.protocol.settle(load_throttle(moved.protocol._throttle, through_facts(before._throttle)))
        return moved


def through_facts(throttle: Any) -> ThrottleState:
    """Return the state of `throttle`, written and read again."""
    state = dump_throttle(throttle)
    facts = unpack_facts(pack_facts(facts_of(state)))
    found = read_throttle(facts, state.pending)
    facts.end()
    return found


def lines(first: int, last: int) -> bytes:
    """Return lines with these numbers."""
    return b"".join(b"%d\n" % number for number in range(first, last))


CHUNKS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), max_size=4)


@given(
    CHUNKS, CHUNKS, st.sampled_from([{}, {"message_rate": 4}, {"byte_rate": 10}, {"message_rate": 3, "byte_rate": 8}])
)
def test_messages_are_let_in_at_the_same_time_as_without_a_move(
    before: list[tuple[int, int]], after: list[tuple[int, int]], rates: dict[str, int]
) -> None:
    """
    After a move, messages are let in in the same order and at the same time, by turns and by rates.

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
    """A dump keeps the messages in the throttle, and has the tokens of this moment."""
    peer = Turning(limits=Limits(messages_per_turn=2, message_rate=4, byte_rate=100))
    peer.says(lines(0, 6))
    expected = ThrottleState([b"4", b"5"], 0.0, 88.0)
    peer.clock.give_turn()
    assert expected == dump_throttle(peer.protocol._throttle) == dump_throttle(peer.protocol._throttle)
    peer.clock.advance(0.5)
    assert [message for message, _ in peer.app.messages] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_the_pending_messages_are_counted_to_the_byte() -> None:
    """The other throttle counts the same bytes, and pauses reading, as the first one."""
    peer = Turning(limits=Limits(messages_per_turn=2))
    peer.says(lines(0, 6))
    moved = peer.goes_on(limits=Limits(messages_per_turn=2))
    assert moved.protocol._throttle.size == peer.protocol._throttle.size > 0
    assert moved.paused


def test_without_a_rate_in_the_new_process_messages_come_by_turns() -> None:
    """If the new factory has no rate, the waits for the old rates end, and the messages come by turns."""
    peer = Turning(limits=Limits(message_rate=1, byte_rate=1))
    peer.slips_in(lines(0, 3))
    assert {"message_rate", "byte_rate"} <= set(peer.waits)
    moved = peer.goes_on()
    assert moved.waits == []
    moved.clock.give_turn()
    assert (len(moved.app.messages), moved.paused) == (3, False)


def test_a_new_rate_begins_with_all_its_tokens() -> None:
    """If only the new factory has a rate, the rate begins with the tokens of a whole second."""
    peer = Turning(limits=Limits(messages_per_turn=1))
    peer.says(lines(0, 4))
    moved = peer.goes_on(limits=Limits(message_rate=2, byte_rate=7))
    for _ in range(4):
        moved.clock.give_turn()
    assert (len(moved.app.messages), moved.transport.bufferSize) == (3, 7)


def test_messages_over_a_rate_that_is_not_waited_for_end_the_connection() -> None:
    """If the new factory's policy does not wait for the rate, messages over it end the connection."""
    peer = Turning(limits=Limits(message_rate=1))
    peer.says(lines(0, 3))
    state = dump_throttle(peer.protocol._throttle)
    moved = Turning(limits=Limits(message_rate=1), policies=Policies(over_rate="reset"))
    moved.protocol.settle(load_throttle(moved.protocol._throttle, state))
    moved.transport.turn()
    assert moved.reason.rule == "message-rate"


def test_a_byte_rate_that_is_not_waited_for_limits_no_read() -> None:
    """If the new factory's policy is `refuse`, its byte rate does not limit the size of a read."""
    peer = Turning(limits=Limits(byte_rate=100))
    peer.says(lines(0, 3))
    moved = peer.goes_on(limits=Limits(byte_rate=100), policies=Policies(over_rate="refuse"))
    assert moved.transport.bufferSize == 64 * 1024


def test_without_a_clock_there_are_no_turns() -> None:
    """Over a transport without a reactor, all loaded messages are handled at once."""
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
    """A missing, unknown or invalid fact is refused, and the error names it."""
    with pytest.raises(InvalidState, match=words):
        read_throttle(unpack_facts(pack_facts(facts)), [])
