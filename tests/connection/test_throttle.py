"""How much input is handled, and when: shares, rates, and connections over their rate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from tcpapp import Limits, MessageServerFactory, State, Telemetry, Timeouts, conversation
from tcpapp.apps import echo
from tcpapp.limits import Policies
from tcpapp.telemetry import Closed
from tests.peers import NotedTransport, Peer, TurnClock, outcome


class Turning(Peer):
    """A peer whose clock can make single turns."""

    clock: TurnClock

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, transport=NotedTransport(clock=TurnClock()), **options)


QUIET = Timeouts(first_message=0, idle=0, message_timeout=0)


def lines(first: int, last: int) -> bytes:
    """Return lines with these numbers."""
    return b"".join(b"%d\n" % number for number in range(first, last))


class Seen:
    """An app that notes its messages and echoes them."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> bytes:
        self.messages.append(message)
        return message


# Shares --------------------------------------------------------------------------------------------------------------


def test_a_chunk_is_handled_a_share_at_a_time() -> None:
    """Each share is one write. Nothing is read until all shares are handled, and no message is lost."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(messages_per_turn=4))
    peer.says(lines(0, 10))
    assert (len(app.messages), peer.paused) == (4, True)
    peer.clock.give_turn()
    assert (len(app.messages), peer.paused) == (8, True)
    peer.clock.give_turn()
    assert (len(app.messages), peer.paused) == (10, False)
    assert peer.transport.writes == [lines(0, 4), lines(4, 8), lines(8, 10)]
    assert peer.clock.getDelayedCalls() == []


@pytest.mark.parametrize("budget", [0, 250])
def test_others_have_their_turn_between_two_shares(budget: int) -> None:
    """
    Connections with many messages have one share each before any of them has a second one.

    With a budget for work, they all have a share in one turn, because it takes no time. Without a budget, a turn has
    one share.
    """
    app = Seen()
    modest = Turning(app, timeouts=QUIET, limits=Limits(messages_per_turn=2, work_per_turn=budget))
    clock = modest.clock
    for number in range(3):
        protocol: Any = modest.factory.buildProtocol(None)
        NotedTransport(clock=clock).connect(protocol)
        protocol.dataReceived(b"%d\n" % number * 6)
    modest.says(b"modest\n")
    assert app.messages == [b"0"] * 2 + [b"1"] * 2 + [b"2"] * 2 + [b"modest"]
    app.messages.clear()
    for shares in ([0, 1, 2], [0, 1, 2]) if budget else ([0], [1], [2], [0], [1], [2]):
        clock.give_turn()
        assert app.messages[-2 * len(shares) :] == [b"%d" % number for number in shares for _ in "12"]
    assert len(app.messages) == 12


def test_a_share_counts_for_conversations_too() -> None:
    """A conversation gets at most a share of messages in one turn."""
    seen: list[bytes] = []

    @conversation
    async def talk(connection: Any) -> None:
        while True:
            seen.append(await connection.receive())

    peer = Turning(talk, timeouts=QUIET, limits=Limits(messages_per_turn=4))
    peer.says(lines(0, 10))
    assert len(seen) == 4
    for _ in range(2):
        peer.clock.give_turn()
    assert len(seen) == 10


def test_pending_messages_are_answered_before_an_unreadable_stream_ends() -> None:
    """Messages that wait for their turn are answered, because the unreadable frame is behind them."""
    peer = Turning(echo, "int8:max=9", timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.says(b"\x01a\x01b\x01c\x01d\x01e\xff")
    for _ in range(2):
        assert peer.connection.state is State.OPEN
        peer.clock.give_turn()
    assert peer.hears() == b"\x01a\x01b\x01c\x01d\x01e"
    peer.leaves()
    assert (peer.reason.rule, peer.reason.value) == ("message-too-long", 255)


def test_pending_messages_are_answered_before_a_drain_ends() -> None:
    """Messages that wait for their turn came before the drain, so they are answered."""
    peer = Turning(echo, timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.says(lines(0, 5))
    peer.connection.drain()
    for _ in range(2):
        assert not peer.closing
        peer.clock.give_turn()
    peer.transport.turn()
    assert (peer.hears(), peer.closing) == (lines(0, 5), True)
    peer.leaves()
    assert peer.reason.rule == "drained"


@pytest.mark.parametrize("how", ["close", "abort"])
def test_pending_messages_at_the_close_are_counted(how: str) -> None:
    """At the end, messages that wait for their turn are not handled but counted, and no turn is left."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.says(lines(0, 5))
    getattr(peer.connection, how)()
    peer.clock.give_turn()
    peer.leaves()
    assert (len(app.messages), peer.told(Closed)[0].unhandled) == (2, 3)
    assert peer.clock.getDelayedCalls() == []


def test_an_app_that_closes_in_a_share_is_given_no_more() -> None:
    """If the app aborts its connection, the rest of the chunk is ignored."""
    app = Seen()
    peer = Turning(lambda message, connection: app.received(message, connection) and connection.abort(), timeouts=QUIET)
    peer.says(lines(0, 2000))
    assert len(app.messages) == 1


def test_later_messages_follow_the_pending_messages() -> None:
    """Messages that TLS still delivers during a pause come after the messages that wait for their turn."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(messages_per_turn=2))
    peer.says(lines(0, 5))
    peer.slips_in(lines(5, 6))
    for _ in range(2):
        peer.clock.give_turn()
    assert app.messages == [b"%d" % number for number in range(6)]


def test_without_a_clock_there_are_no_turns() -> None:
    """Over a transport without a reactor all messages are handled at once, at any rate."""
    app = Seen()
    limits = Limits(messages_per_turn=2, message_rate=1, byte_rate=1)
    protocol: Any = MessageServerFactory(app, limits=limits, telemetry=Telemetry()).buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(lines(0, 100))
    assert len(app.messages) == 100


@given(st.lists(st.integers(min_value=0, max_value=30), max_size=8), st.integers(min_value=1, max_value=8))
def test_nothing_is_lost_or_reordered_whatever_the_share(counts: list[int], share: int) -> None:
    """Chunk by chunk, with turns in between or not, all messages are answered in order."""
    peer = Turning(echo, timeouts=QUIET, limits=Limits(messages_per_turn=share))
    sent = 0
    for count in counts:
        peer.says(lines(sent, sent + count))
        sent += count
        if count % 2:
            peer.clock.give_turn()
    for _ in range(sent + len(counts)):
        peer.clock.give_turn()
        peer.transport.turn()
    assert peer.hears() == lines(0, sent)
    assert not peer.paused


# Rates ---------------------------------------------------------------------------------------------------------------


def test_messages_are_handled_at_their_rate() -> None:
    """A second's worth of messages is handled at once, then one as each is allowed. Meanwhile nothing is read."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(message_rate=4))
    peer.clock.advance(100)
    peer.says(lines(0, 10))
    counts = []
    for _ in range(8):
        counts.append((len(app.messages), peer.paused))
        peer.clock.advance(0.25)
    assert counts == [(4, True), (5, True), (6, True), (7, True), (8, True), (9, True), (10, False), (10, False)]


def test_a_connection_without_tokens_handles_nothing() -> None:
    """Without a token no message is handled. Then messages are handled as each is allowed."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(message_rate=1))
    peer.says(b"0\n")
    peer.says(b"1\n")
    assert (len(app.messages), peer.paused) == (1, True)
    peer.clock.advance(1)
    assert (len(app.messages), peer.paused) == (2, False)


def test_messages_within_their_rate_are_handled_by_shares() -> None:
    """A turn handles at most a share of the messages that the rate allows."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(message_rate=5, messages_per_turn=2))
    peer.clock.advance(100)
    peer.says(lines(0, 6))
    assert len(app.messages) == 2
    peer.clock.give_turn()
    assert len(app.messages) == 4
    peer.clock.give_turn()
    assert len(app.messages) == 5
    peer.clock.advance(0.2)
    assert len(app.messages) == 6


def test_a_connection_within_its_rate_waits_for_nothing() -> None:
    """A connection within its rates is never paused, and no message waits."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(message_rate=4, byte_rate=100))
    peer.clock.advance(100)
    for number in range(20):
        peer.says(b"%d\n" % number)
        assert (len(app.messages), peer.paused) == (number + 1, False)
        peer.clock.advance(0.25)


def test_bytes_are_read_at_their_rate() -> None:
    """A read has as many bytes as the rate allows. Then reading pauses until the rate allows more."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(byte_rate=100))
    peer.clock.advance(100)
    peer.says(b"x" * 299 + b"\n")
    unread = []
    for _ in range(5):
        unread.append((peer.transport.unread, peer.paused, len(app.messages)))
        peer.clock.advance(0.5)
    assert unread == [(200, True, 0), (200, True, 0), (100, True, 0), (100, True, 0), (0, True, 1)]
    peer.clock.advance(0.5)
    assert not peer.paused


@pytest.mark.parametrize("rate", [1, 100, 1000, 1500, 20_000, 300_000])
def test_no_more_bytes_are_read_than_the_rate_allows(rate: int) -> None:
    """A second's worth of bytes is read at once, then exactly the rate, in few reads, whatever the rate."""
    reads: list[int] = []
    limits = Limits(byte_rate=rate)
    peer = Turning(lambda chunk, connection: reads.append(len(chunk)), "raw", timeouts=QUIET, limits=limits)
    peer.clock.advance(100)
    peer.says(b"x" * rate * 62)
    assert sum(reads) == rate
    assert max(reads) <= min(rate, 65535)
    for second in range(1, 61):
        for _ in range(200):
            peer.clock.advance(0.005)
        assert rate * second <= sum(reads) + max(rate / 5, min(rate, 1024))
        assert sum(reads) <= rate * second + rate
    assert len(reads) <= 60 * 11
    peer.leaves()


def test_a_quiet_peer_is_given_all_of_its_rate_again() -> None:
    """A quiet peer has its whole rate again, but its first bytes are still read in small pieces."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(byte_rate=100))
    peer.clock.advance(100)
    peer.says(b"x" * 88 + b"\n")
    assert (peer.transport.bufferSize, peer.paused) == (11, False)
    peer.clock.advance(10)
    peer.says(b"x" * 88 + b"\n")
    assert (len(app.messages), peer.transport.bufferSize, peer.paused) == (2, 11, False)


def test_a_rate_that_is_not_waited_for_does_not_bound_a_read() -> None:
    """With the policy `refuse` the rate does not bound a read, because bytes over the rate must be detected."""
    peer = Turning(timeouts=QUIET, limits=Limits(byte_rate=100), policies=Policies(over_rate="refuse"))
    peer.says(b"x" * 10 + b"\n")
    assert (peer.transport.bufferSize, peer.closing) == (65536, False)
    peer.says(b"x" * 100 + b"\n")
    peer.leaves()
    assert peer.reason.rule == "byte-rate"


@pytest.mark.parametrize(("policy", "cut"), [("refuse", False), ("reset", True)])
@pytest.mark.parametrize(("limits", "rule"), [({"message_rate": 4}, "message-rate"), ({"byte_rate": 9}, "byte-rate")])
def test_a_connection_over_its_rate_can_be_closed(policy: str, cut: bool, limits: dict[str, int], rule: str) -> None:
    """A connection over its rate is closed after its allowed messages are answered, or cut at once."""
    app = Seen()
    peer = Turning(app, timeouts=QUIET, limits=Limits(**limits), policies=Policies(over_rate=policy))
    peer.clock.advance(100)
    peer.says(lines(0, 6))
    assert peer.transport.aborted == cut
    peer.leaves()
    assert (peer.reason.rule, peer.reason.limit) == (rule, next(iter(limits.values())))
    assert (peer.hears() == b"") <= cut


def test_a_connection_that_waits_for_its_rate_is_not_idle() -> None:
    """A peer is not idle while its messages wait for the rate, because we do not read."""
    peer = Turning(echo, timeouts=Timeouts(idle=2, idle_read=2, first_message=0), limits=Limits(message_rate=1))
    peer.says(lines(0, 20))
    for _ in range(15):
        peer.clock.advance(1)
    assert not peer.closing


def test_replies_to_requests_are_counted_as_all_messages() -> None:
    """Replies count for a share, and reach their requests in later turns."""
    peer = Turning(None, timeouts=QUIET, limits=Limits(messages_per_turn=1))
    replies = [outcome(peer.connection.request(b"?")) for _ in range(3)]
    peer.says(lines(0, 3))
    assert replies == [[b"0"], [], []]
    peer.clock.give_turn()
    peer.clock.give_turn()
    assert replies == [[b"0"], [b"1"], [b"2"]]
    assert isinstance(peer.connection.receive(), Deferred)


# Small reads ----------------------------------------------------------------------------------------------------------


class Reading(NotedTransport):
    """A transport that reads up to a number of bytes at once, like Twisted's sockets."""

    bufferSize = 65536


class Flooding(Peer):
    """A peer on a `Reading` transport."""

    clock: TurnClock
    transport: Reading

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, transport=Reading(clock=TurnClock()), **options)


def test_a_flooding_connection_is_read_in_small_chunks() -> None:
    """A read has as many bytes as the last share of messages, because a chunk is split at once while others wait."""
    peer = Flooding(Seen(), timeouts=QUIET, limits=Limits(messages_per_turn=500))
    peer.says(b"x" * 9 + b"\n")
    assert peer.transport.bufferSize == 65536
    peer.says((b"x" * 9 + b"\n") * 1000)
    assert peer.transport.bufferSize == 5000
    peer.clock.advance(0)
    peer.says((b"x" * 9 + b"\n") * 500)
    assert peer.transport.bufferSize == 5000
    peer.says(b"x" * 2000 + b"\n")
    assert peer.transport.bufferSize == 65536
    peer.says(b"\n" * 1000)
    assert peer.transport.bufferSize == 1024


def test_the_write_mark_is_restored_after_small_reads() -> None:
    """Twisted has one number for read size and write mark. After small reads it is `write_high` again."""
    peer = Flooding(Seen(), timeouts=QUIET, limits=Limits(messages_per_turn=500, write_high=100_000))
    peer.says(b"\n" * 1000)
    peer.clock.advance(0)
    assert peer.transport.bufferSize == 1024
    peer.says(b"x\n")
    assert peer.transport.bufferSize == 100_000


def test_small_reads_and_byte_rates_go_together() -> None:
    """The smaller size of both is the size of a read, and all bytes count for the rate."""
    peer = Flooding(Seen(), timeouts=QUIET, limits=Limits(messages_per_turn=4, byte_rate=10_000))
    assert peer.transport.bufferSize == 10_000
    peer.says(b"x\n" * 8)
    peer.clock.advance(0)
    assert (peer.transport.bufferSize, peer.paused) == (1024, False)
    peer.says(b"x" * 7999 + b"\n")
    assert (peer.transport.bufferSize, peer.paused) == (10_000 - 16 - 8000, False)
    peer.says(b"x" * 999 + b"\n")
    assert peer.paused


@pytest.mark.exhaustive
@pytest.mark.parametrize(("rate", "least"), [(5, 1), (1000, 100), (20_000, 1024)])
def test_no_read_is_smaller_than_a_tenth_of_a_second_or_1_kib(rate: int, least: int) -> None:
    """The read size is Twisted's write mark, too. A tiny one would pause the app for each reply."""
    peer = Turning(timeouts=QUIET, limits=Limits(byte_rate=rate))
    peer.clock.advance(100)
    sizes = []
    while not peer.paused:
        peer.says(b"x")
        sizes.append(peer.transport.bufferSize)
    assert sizes[-1] == least
    assert len(sizes) == rate - least + 1


def test_pending_messages_are_counted_to_the_byte() -> None:
    """The bytes of the messages that wait for their turn are counted exactly, turn by turn."""
    peer = Turning(Seen(), timeouts=QUIET, limits=Limits(messages_per_turn=4))
    peer.says(b"abc\n" * 10)
    sizes = []
    while peer.protocol.info().pending:
        sizes.append((peer.protocol._throttle.size, peer.factory.info().buffered))
        peer.clock.give_turn()
    chunk = 10 * 4  # another framing could read it again
    assert sizes == [(6 * 67, 6 * 67 + chunk), (2 * 67, 2 * 67 + chunk)]
    assert (peer.protocol._throttle.size, peer.factory.info().buffered) == (0, 0)
