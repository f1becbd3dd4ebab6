"""Sent messages and bytes: what the transport got, and nothing that was dropped or withdrawn."""

from __future__ import annotations

import pytest

from tests.connection.outboxes import CLOSED, HIGH, Rig


def test_what_the_transport_gets_is_counted() -> None:
    """Each write to the transport adds its bytes and its messages to the counts."""
    rig = Rig()
    rig.outbox.write(b"a")
    rig.outbox.write(b"bcd", 3)
    rig.outbox.send(b"ef")
    assert rig.counts == (5, 6)


@pytest.mark.parametrize(
    ("last", "counts"), [pytest.param(b"", (3, 6), id="nothing"), pytest.param(b"gh", (5, 8), id="replies")]
)
def test_gathered_messages_are_counted_when_they_are_written(last: bytes, counts: tuple[int, int]) -> None:
    """Gathered messages count in `uncork`, together with the messages that `uncork` is given."""
    rig = Rig()
    rig.outbox.cork()
    rig.outbox.write(b"abc")
    rig.outbox.write(b"def", 2)
    assert rig.counts == (0, 0)
    rig.outbox.uncork(last, 2)
    assert (rig.counts, len(rig.transport.writes)) == (counts, 1)


def test_each_gathered_message_is_counted_once() -> None:
    """A second group of gathered messages adds only its own messages to the counts."""
    rig = Rig()
    for data in (b"a", b"b"):
        rig.outbox.cork()
        rig.outbox.write(data)
        rig.outbox.uncork()
    assert rig.counts == (2, 2)


def test_messages_gathered_over_several_groups_are_counted() -> None:
    """Messages of several groups count once, when all groups are written together."""
    rig = Rig()
    rig.outbox.stays_corked = True
    for data in (b"a", b"bc"):
        rig.outbox.cork()
        rig.outbox.uncork(data, len(data))
    assert rig.counts == (0, 0)
    rig.outbox.uncork_now()
    assert rig.counts == (3, 3)
    rig.outbox.write(b"d")
    assert rig.counts == (4, 4)


def test_a_message_counts_when_its_last_byte_is_taken() -> None:
    """Bytes of a long message count piece by piece, and the message counts with the last piece."""
    rig = Rig()
    rig.outbox.write(b"x" * 45)
    seen = [rig.counts]
    while rig.outbox.blocked:
        rig.transport.flush()
        seen.append(rig.counts)
    assert seen == [(0, 20), (0, 40), (1, 45)]


def test_messages_that_wait_count_when_they_are_taken() -> None:
    """Messages that wait for the peer, joined or not, count when the transport takes them."""
    rig = Rig()
    rig.block()
    before = rig.counts
    rig.outbox.write(b"a")
    rig.outbox.write(b"bc", 2)
    rig.outbox.send(b"d")
    assert rig.counts == before == (2, 11)
    rig.transport.flush()
    assert rig.counts == (6, 15)


def test_a_message_of_which_a_send_waits_without_bytes_counts_once() -> None:
    """A message that filled the transport counts once, although its `send` waits for room."""
    rig = Rig()
    rig.outbox.write(b"." * HIGH)
    rig.outbox.send(b"a")
    assert (rig.outbox.blocked, rig.counts) == (True, (2, HIGH + 1))
    rig.transport.flush()
    assert rig.counts == (2, HIGH + 1)


def test_a_send_that_is_cancelled_in_time_is_not_counted() -> None:
    """A cancelled `send` whose message is withdrawn adds nothing to the counts."""
    rig = Rig()
    rig.block()
    cancelled = rig.outbox.send(b"abc")
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    rig.transport.flush()
    assert rig.counts == (2, 11)


def test_what_is_dropped_is_not_counted() -> None:
    """After a cut, waiting, gathered and later bytes do not reach the transport, and do not count."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"abc")
    rig.outbox.cork()
    rig.outbox.write(b"def")
    rig.drop()
    rig.outbox.write(b"ghi")
    rig.outbox.uncork(b"jkl", 1)
    rig.transport.flush()
    rig.outbox.write(b"mno")
    assert (rig.counts, rig.transport.writes, rig.outbox.unsent) == ((2, 11), [], 0)


def test_what_is_written_to_an_idle_outbox_after_it_was_dropped_is_not_counted() -> None:
    """A reply that is written after a cut is dropped, because the transport would lose it."""
    rig = Rig()
    rig.drop()
    rig.outbox.write(b"abc")
    assert (rig.counts, rig.transport.writes, rig.outbox.held) == ((0, 0), [], 0)


@pytest.mark.parametrize("dropped", [False, True])
def test_what_is_written_after_the_end_is_not_counted(*, dropped: bool) -> None:
    """A reply that is written after the connection was lost is dropped, and does not count."""
    rig = Rig()
    rig.outbox.write(b"abc")
    if dropped:
        rig.drop()
    rig.end(CLOSED, flushed=False)
    rig.outbox.write(b"def")
    assert (rig.counts, rig.transport.value()) == ((1, 3), b"abc")


def test_sent_bytes_belong_to_the_second_in_which_they_leave() -> None:
    """Sent bytes are in the rate of the second in which the transport takes them."""
    rig = Rig()
    rig.outbox.write(b"x" * 45)
    rig.clock.advance(100)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert rig.throughput.totals([rig.outbox], 100.0) == (1, 45, 0.1, 2.5)
