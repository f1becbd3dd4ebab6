"""Outgoing bytes: order, marks, results of `send`, and how a slow peer differs from a vanished one."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from tcpapp.connection.outbox import SEND_COST
from tests.connection.outboxes import HIGH, EagerTransport, Rig
from tests.peers import outcome

# The transport's producer --------------------------------------------------------------------------------------------


def test_the_outbox_is_the_producer_of_its_transport() -> None:
    """The outbox is registered with its transport as a push producer."""
    rig = Rig()
    assert verifyObject(IPushProducer, rig.outbox)
    assert (rig.outbox, True) == (rig.transport.producer, rig.transport.streaming)


def test_a_transport_that_is_gone_changes_nothing() -> None:
    """`stopProducing`, which a lost transport calls, fires no send, because the end of the connection follows."""
    rig = Rig()
    rig.block()
    seen = rig.send(b"a")
    rig.outbox.stopProducing()
    assert (seen, rig.sender.events) == ([], [])


# Writing -------------------------------------------------------------------------------------------------------------


def test_bytes_go_straight_to_a_transport_that_takes_them() -> None:
    """Each write to the outbox is one write to a transport that takes bytes."""
    rig = Rig()
    rig.outbox.write(b"a")
    rig.outbox.write(b"b" * HIGH)
    assert rig.transport.writes == [b"a", b"b" * HIGH]


def test_bytes_wait_while_the_transport_is_over_its_mark() -> None:
    """Bytes that wait are counted, and are written in order when the transport asks for more."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"ab")
    rig.outbox.write(b"cde")
    assert (rig.transport.value(), rig.outbox.unsent) == (b"", 5)
    rig.transport.flush()
    assert (rig.transport.value(), rig.outbox.unsent, rig.sender.events) == (b"abcde", 0, ["resumed"])


def test_a_huge_message_is_fed_in_pieces_of_the_mark() -> None:
    """The transport has at most a piece over its mark, and the sender is resumed after the last piece is taken."""
    rig = Rig()
    rig.outbox.write(b"x" * 45)
    lengths, unsent = [], []
    while rig.outbox.blocked:
        lengths.append(len(rig.transport.value()))
        unsent.append(rig.outbox.unsent)
        rig.transport.flush()
    assert lengths == [20, 40]
    assert unsent == [25, 5]
    assert rig.transport.value() == b"x" * 45
    assert rig.sender.events == ["blocked", "blocked", "resumed"]


def test_small_and_huge_messages_keep_their_order() -> None:
    """Messages over the write mark wait behind the messages that already wait."""
    rig = Rig()
    messages = [b"a" * 25, b"b", b"c" * 25, b"d"]
    for message in messages:
        rig.outbox.write(message)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert b"".join(messages) == rig.transport.value()


def test_messages_of_one_call_are_cut_between_them() -> None:
    """Several messages are one write if they fit into it; otherwise no short one is cut, and they keep their order."""
    rig = Rig()
    rig.outbox.write_all([b"ab", b"cd"])
    assert rig.transport.writes == [b"abcd"]
    rig.outbox.cork()
    rig.outbox.write(b"e")
    rig.outbox.write_all([b"f" * 6, b"g" * 6, b"h"])
    rig.outbox.uncork()
    while rig.outbox.blocked:
        rig.transport.flush()
    assert rig.transport.writes == [b"abcd", b"e", b"f" * 6, b"g" * 6 + b"h"]
    assert rig.outbox.messages == 6


def test_only_a_message_over_the_mark_is_cut_in_pieces() -> None:
    """Pieces end where a write of the app ended, so that it is known which messages a peer that is cut off has got."""
    rig = Rig()
    rig.block()
    before = rig.outbox.messages
    for size, messages in ((6, 3), (7, 4), (25, 1), (3, 2)):
        rig.outbox.write(b"x" * size, messages)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert [len(each) for each in rig.transport.writes] == [6, 10, 10, 10, 5]
    assert rig.outbox.messages - before == 10


def test_a_transport_can_pause_and_resume_inside_a_write() -> None:
    """If the transport pauses and resumes inside a write, all bytes stay in order, and each `send` fires once."""
    rig = Rig(transport=EagerTransport())
    seen = [rig.send(b"a"), rig.send(b"b" * 45), rig.send(b"c")]
    rig.outbox.cork()
    rig.outbox.write(b"d" * 8)
    rig.outbox.write(b"e" * 8)
    rig.outbox.uncork()
    assert rig.transport.value() == b"a" + b"b" * 45 + b"c" + b"d" * 8 + b"e" * 8
    assert (seen, rig.outbox.unsent, rig.deadlines.started) == ([[None]] * 3, 0, ())


# Corking -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "writes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([3], [3], id="one"),
        pytest.param([1, 2, 3], [6], id="some"),
        pytest.param([5, 5], [10], id="at-the-mark"),
        pytest.param([5, 5, 1], [10, 1], id="over-the-mark"),
        pytest.param([6, 7], [6, 7], id="cut-between-messages"),
        pytest.param([3, 12, 4, 5], [3, 10], id="one-over-the-mark"),
        pytest.param([0, 0], [0], id="empty"),
    ],
)
def test_corked_bytes_go_out_as_one_write(sizes: list[int], writes: list[int]) -> None:
    """A corked outbox writes nothing before `uncork()`, unless the bytes are over the write mark."""
    rig = Rig()
    rig.outbox.cork()
    for size in sizes:
        rig.outbox.write(b"x" * size)
    if sum(sizes) <= HIGH:
        assert rig.transport.writes == []
    rig.outbox.uncork()
    rig.outbox.uncork()
    assert writes == [len(each) for each in rig.transport.writes]


def test_an_outbox_that_stays_corked_writes_at_uncork_now() -> None:
    """While `stays_corked` is true, `uncork()` writes nothing, and `uncork_now()` writes all, as before a handshake."""
    rig = Rig()
    rig.outbox.stays_corked = True
    rig.outbox.cork()
    rig.outbox.write(b"a")
    rig.outbox.uncork(b"b")
    assert rig.transport.writes == []
    rig.outbox.uncork_now()
    assert rig.transport.writes == [b"ab"]
    rig.outbox.write(b"c")
    assert rig.transport.writes == [b"ab", b"c"]


def test_after_uncork_bytes_go_straight_on() -> None:
    """Each `cork()` and `uncork()` is one write, and what follows is written at once."""
    rig = Rig()
    for letter in (b"a", b"b"):
        rig.outbox.cork()
        rig.outbox.write(letter)
        rig.outbox.uncork()
    rig.outbox.write(b"c")
    assert rig.transport.writes == [b"a", b"b", b"c"]


def test_corking_twice_loses_nothing() -> None:
    """Bytes from before the second `cork()` are sent before later ones."""
    rig = Rig()
    rig.outbox.cork()
    rig.outbox.write(b"a")
    rig.outbox.cork()
    rig.outbox.write(b"b")
    rig.outbox.uncork()
    rig.outbox.write(b"c")
    rig.outbox.uncork()
    assert rig.transport.value() == b"abc"


def test_corked_bytes_wait_behind_waiting_bytes() -> None:
    """While the transport is over its mark, corked bytes join the queue, in order."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"a")
    rig.outbox.cork()
    rig.outbox.write(b"b")
    seen = rig.send(b"c")
    rig.outbox.write(b"d")
    rig.outbox.uncork()
    rig.outbox.write(b"e")
    assert (rig.transport.value(), rig.outbox.unsent, seen) == (b"", 5, [])
    rig.transport.flush()
    assert (rig.transport.value(), seen) == (b"abcde", [None])


# Bounds --------------------------------------------------------------------------------------------------------------


def test_more_than_max_unsent_is_reported() -> None:
    """One message can pass the limit. The next one, unless it is empty, reports how many bytes wait."""
    rig = Rig(max_unsent=100)
    rig.block()
    for size in (100, 1):
        rig.outbox.write(b"x" * size)
    assert rig.sender.events == []
    rig.send(b"")
    assert rig.sender.events == []
    rig.outbox.write(b"x")
    rig.send(b"x")
    assert rig.sender.events == [101 + SEND_COST, 102 + SEND_COST]


def test_small_sends_count_with_the_memory_of_their_deferreds() -> None:
    """The limit counts the Deferred of a waiting send, which takes more than a message of one byte."""
    rig = Rig(max_unsent=10 * SEND_COST)
    rig.block()
    for _ in range(11):
        rig.send(b"x")
    assert rig.sender.events == [10 * (SEND_COST + 1)]
    assert rig.outbox.held == 11 * (SEND_COST + 1) + 2 * HIGH


def test_a_send_counts_until_it_fires() -> None:
    """A send counts until it fires, even if a transport over its mark has all of its bytes."""
    rig = Rig()
    rig.block()
    first, second = rig.send(b"a" * (HIGH + 1)), rig.send(b"b")
    rig.transport.flush()
    assert (first, second, rig.outbox.held) == ([], [], 2 * HIGH + 2 * SEND_COST)
    rig.transport.flush()
    assert (first, second, rig.outbox.held) == ([None], [None], 0)


def test_small_writes_that_wait_are_joined() -> None:
    """
    Small writes that wait are joined to pieces of the write mark's size, and take no more memory than their bytes.
    """
    rig = Rig()
    rig.block()
    for number in range(25):
        rig.outbox.write(b"%c" % (65 + number))
    assert [bytes(each.data) for each in rig.outbox._queue] == [b"ABCDEFGHIJ", b"KLMNOPQRST", b"UVWXY"]
    while rig.outbox.blocked:
        rig.transport.flush()
    assert rig.transport.writes == [b"ABCDEFGHIJ", b"KLMNOPQRST", b"UVWXY"]


def test_sends_that_wait_go_out_as_one_write() -> None:
    """Waiting sends go out as one write, up to the write mark, and each fires when its bytes are taken."""
    rig = Rig()
    rig.block()
    told = [rig.send(b"%d" % number) for number in range(4)]
    rig.transport.flush()
    assert (rig.transport.writes, told) == ([b"0123"], [[None]] * 4)


def test_a_message_of_any_size_can_be_sent_alone() -> None:
    """While nothing waits, a message of any size does not exceed the limit, and neither does the rest of it."""
    rig = Rig(max_unsent=100)
    rig.outbox.write(b"x" * 1000)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert {"blocked", "resumed"} == set(rig.sender.events)


def test_cancelled_messages_do_not_count_for_max_unsent() -> None:
    """A message whose send was cancelled does not count for the limit."""
    rig = Rig(max_unsent=100)
    rig.block()
    cancelled = rig.outbox.send(b"x" * 101)
    told = outcome(cancelled)
    cancelled.cancel()
    rig.outbox.write(b"x")
    assert (rig.sender.events, rig.outbox.unsent, len(told)) == ([], 1, 1)


# Held bytes ----------------------------------------------------------------------------------------------------------


def test_waiting_bytes_are_counted_as_held() -> None:
    """
    The held bytes are the waiting bytes, and twice the write mark if the transport is over it.

    Changes are reported.
    """
    rig = Rig()
    rig.outbox.write(b"123")
    assert (rig.outbox.held, rig.sender.buffered_changes) == (0, 0)
    rig.outbox.cork()
    rig.outbox.write(b"123")
    assert rig.outbox.held == 3
    rig.outbox.uncork()
    rig.transport.flush()
    rig.block()
    rig.outbox.write(b"12345")
    rig.outbox.send(b"678")
    assert (rig.outbox.held, rig.sender.buffered_changes) == (8 + SEND_COST + 2 * HIGH, 2)
    rig.transport.flush()
    assert rig.outbox.held == 0
