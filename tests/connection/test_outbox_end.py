"""A slow peer, a peer that reads nothing, and the unsent bytes at the end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.outbox import SEND_COST, Outbox
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits
from tests.connection.outboxes import CLOSED, HIGH, PROGRESS, Rig, Transport
from tests.peers import outcome

# A peer that reads nothing -------------------------------------------------------------------------------------------


def test_a_peer_that_reads_nothing_is_reported() -> None:
    """A peer that reads nothing is reported once, when its time is over. Later events happen as before."""
    rig = Rig()
    rig.block()
    rig.clock.advance(PROGRESS - 0.001)
    assert rig.sender.events == []
    rig.clock.advance(0.001)
    rig.clock.advance(10 * PROGRESS)
    assert rig.sender.events == ["stalled"]
    rig.transport.flush()
    rig.end(CLOSED, flushed=False)
    assert rig.sender.events == ["stalled", "resumed"]


def test_a_slow_peer_is_not_stalled() -> None:
    """Each piece that the peer takes restarts the time, and the last piece ends it."""
    rig = Rig()
    rig.outbox.write(b"x" * 205)
    pieces = 0
    while rig.outbox.blocked:
        rig.clock.advance(PROGRESS - 1)
        rig.transport.flush()
        pieces += 1
    assert (10, {"blocked", "resumed"}) == (pieces, set(rig.sender.events))
    assert rig.deadlines.started == ()


def test_a_slow_peer_that_stops_is_stalled() -> None:
    """The time of a peer that stops reading runs from the last piece that it took."""
    rig = Rig()
    rig.outbox.write(b"x" * 205)
    rig.clock.advance(PROGRESS - 1)
    rig.transport.flush()
    rig.clock.advance(PROGRESS - 1)
    assert "stalled" not in rig.sender.events
    rig.clock.advance(1)
    assert rig.sender.events == ["blocked", "blocked", "stalled"]


def test_writing_to_a_peer_that_takes_nothing_gives_it_no_more_time() -> None:
    """Writing to a peer that reads nothing does not restart the time. Only reads of the peer do."""
    rig = Rig()
    rig.block()
    for _ in range(int(PROGRESS)):
        rig.outbox.write(b"x")
        rig.clock.advance(1)
    assert rig.sender.events == ["stalled"]


def test_a_transport_that_pauses_again_gives_no_more_time() -> None:
    """Twisted's transports pause the outbox at each write over the mark. That does not restart the time."""
    rig = Rig()
    rig.block()
    rig.clock.advance(PROGRESS - 1)
    rig.outbox.pauseProducing()
    rig.clock.advance(1)
    assert rig.sender.events == ["blocked", "stalled"]


@pytest.mark.parametrize("progress", [0, 30])
def test_no_timer_runs_without_a_time_or_a_clock(progress: float) -> None:
    """If the time is 0, or if there is no clock, no timer runs."""
    rig = Rig(progress=0)
    transport = Transport()
    deadlines, limits = Deadlines(rig.sender), Limits(write_high=HIGH)
    clockless = Outbox(transport, rig.sender, rig.ending, limits, progress, deadlines, rig.throughput)
    for outbox in (rig.outbox, clockless):
        outbox.write(b"x" * 45)
    transport.flush()
    rig.transport.flush()
    clockless.end(flushed=False)
    assert rig.deadlines.started == ()


# The end -------------------------------------------------------------------------------------------------------------


def test_finishing_writes_all_waiting_bytes() -> None:
    """
    When the outbox finishes, all bytes go out in order as the peer takes them. Then the outbox reports once that it is
    done.
    """
    rig = Rig()
    rig.outbox.write(b"a" * 45)
    told = rig.send(b"b")
    rig.outbox.cork()
    rig.outbox.write(b"c")
    rig.finish()
    rig.finish()
    while rig.transport.producer:
        assert (rig.transport.kept <= 2 * HIGH, rig.outbox.held > rig.outbox.unsent > 0) == (True, True)
        assert "all handed over" not in rig.sender.events
        rig.transport.flush()
    rig.finish()
    assert rig.transport.value() == b"a" * 45 + b"bc"
    assert (rig.outbox.unsent, told, rig.sender.events) == (0, [None], ["blocked", "all handed over"])


def test_finishing_with_nothing_that_waits_is_over_at_once() -> None:
    """If no bytes wait, finishing ends at once: the transport has all bytes, although the peer has not."""
    rig = Rig()
    rig.block()
    rig.finish()
    assert (rig.transport.producer, rig.sender.events, rig.outbox.held) == (None, ["all handed over"], 2 * HIGH)


def test_dropped_bytes_are_freed_at_once() -> None:
    """The bytes of a cut connection are freed at once, and its sends fail at the end."""
    rig = Rig()
    rig.block()
    told = rig.send(b"a" * 45)
    rig.outbox.cork()
    rig.outbox.write(b"b")
    rig.drop()
    assert (rig.outbox.unsent, rig.outbox.held, told) == (0, 2 * HIGH + SEND_COST, [])
    rig.end(CLOSED, flushed=False)
    assert (told, rig.outbox.held) == ([CLOSED], 2 * HIGH)


def test_finishing_a_corked_outbox_writes_the_corked_bytes() -> None:
    """When a corked outbox finishes, the last replies are sent, although nothing uncorked it."""
    rig = Rig()
    rig.outbox.cork()
    rig.outbox.write(b"a")
    rig.finish()
    rig.outbox.uncork()
    assert rig.transport.writes == [b"a"]


def test_no_timer_runs_once_it_is_finished() -> None:
    """After finishing, handing over the waiting bytes starts no timer, because the grace of the close bounds it."""
    rig = Rig()
    rig.outbox.write(b"x" * 100)
    rig.outbox.cork()
    rig.outbox.write(b"x" * 100)
    rig.finish()
    rig.clock.advance(100 * PROGRESS)
    assert (rig.deadlines.started, "stalled" in rig.sender.events) == ((), False)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("flushed", "expected"), [(True, None), (False, CLOSED)])
def test_the_end_fires_every_send_once(flushed: bool, expected: Any, finished: bool) -> None:
    """At the end each send fires once. A send whose bytes the transport has succeeds if they were flushed."""
    rig = Rig()
    rig.block()
    order: list[int] = []
    told = [rig.send(b"x" * HIGH, lambda _, number=number: order.append(number)) for number in range(4)]
    rig.transport.flush()
    if finished:
        rig.finish()
    rig.end(CLOSED, flushed)
    rig.end(CLOSED, not flushed)
    assert ([0, 1, 2, 3], [[None], [expected], [CLOSED], [CLOSED]]) == (order, told)
    assert rig.deadlines.started == ()


@pytest.mark.parametrize(("size", "expected"), [(HIGH + 1, None), (3 * HIGH, CLOSED)])
def test_a_send_succeeds_at_a_flushed_end_if_the_transport_has_all_of_it(size: int, expected: Any) -> None:
    """If the end is flushed, a send succeeds when the transport had all of its bytes, and fails when some wait."""
    rig = Rig()
    told = rig.send(b"x" * size)
    assert (told, rig.outbox.blocked) == ([], True)
    rig.end(CLOSED, flushed=True)
    assert told == [expected]


def test_the_connection_can_end_while_its_senders_are_notified() -> None:
    """If the callback of a send ends the connection, the other sends fail, each once."""
    rig = Rig()
    rig.block()
    told = [rig.send(b"a" * HIGH, lambda _: rig.end(CLOSED, flushed=False)), rig.send(b"b" * 45), rig.send(b"c")]
    rig.transport.flush()
    assert told == [[None], [CLOSED], [CLOSED]]
    assert rig.transport.value() == b"a" * HIGH


@pytest.mark.parametrize("cancelled", [1, 2])
@pytest.mark.parametrize("flushed", [False, True])
def test_a_send_that_fails_can_cancel_another(cancelled: int, flushed: bool) -> None:
    """If the errback of a send cancels another send, the other one fires once, with the cancellation."""
    rig = Rig()
    rig.block()
    sends = [rig.outbox.send(b"x") for _ in range(3)]
    told = [outcome(each, lambda _: sends[cancelled].cancel()) for each in sends]
    rig.end(CLOSED, flushed)
    expected: list[type] = [NotConnected] * 3
    expected[cancelled] = CancelledError
    assert [[each] for each in expected] == [[type(each) for each in seen] for seen in told]
