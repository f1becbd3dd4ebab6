"""Outgoing bytes: order, marks, results of `send`, and how a slow peer differs from a vanished one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface.verify import verifyObject

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import FLUSH, Ending, Event
from tcpapp.connection.outbox import SEND_COST, Outbox
from tcpapp.connection.outcomes import BLOCKED, HANDED_OVER, HELD, OVERDUE, TOO_MUCH_UNSENT, UNBLOCKED
from tcpapp.errors import NotConnected
from tcpapp.limits import Limits
from tests.peers import outcome

CLOSED = NotConnected("the connection is not open", CloseReason(EndedBy.PEER, "end-of-stream", "the peer went"))
HIGH = 10
PROGRESS = 30.0


class Transport(StringTransport):
    """
    A transport whose peer reads when the test says so.

    It pauses its producer as Twisted's does: at every write that leaves it with more than `bufferSize` bytes, until all
    are gone.
    """

    bufferSize = HIGH

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.kept = 0
        self.paused = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        self.kept += len(data)
        if self.producer is not None and self.kept > self.bufferSize:
            self.paused = True
            self.producer.pauseProducing()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self.paused = False

    def flush(self) -> None:
        """The peer reads everything."""
        self.kept = 0
        if self.paused:
            self.paused = False
            self.producer.resumeProducing()


class EagerTransport(StringTransport):
    """A transport that pauses and resumes its producer inside every write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()
            self.producer.resumeProducing()


class Sender:
    """A connection that notes what its outbox reports, and when the peer took nothing for too long."""

    has_the_turn = False

    def __init__(self) -> None:
        self.ending: Any = None
        self.events: list[Any] = []
        self.told_of_holding = 0

    def settle(self, outcome: int, detail: Any = None) -> None:
        if outcome == HELD:
            self.told_of_holding += 1
        elif outcome == TOO_MUCH_UNSENT:
            self.events.append(detail)
        elif outcome == OVERDUE:
            assert detail == ("send_progress", PROGRESS)
            self.events.append("stalled")
        elif outcome:
            self.events.append({BLOCKED: "blocked", UNBLOCKED: "resumed", HANDED_OVER: "all handed over"}[outcome])
        if outcome == HANDED_OVER:
            self.ending.happen(Event.HANDED_OVER)


class Rig:
    """An outbox with its transport, its sender and its clock."""

    def __init__(self, *, max_unsent: int = 1000, progress: float = PROGRESS, transport: Any = None) -> None:
        self.transport = Transport() if transport is None else transport
        self.sender = Sender()
        self.clock = Clock()
        limits = Limits(write_high=HIGH, max_unsent=max_unsent)
        self.deadlines = Deadlines(self.sender)
        self.deadlines.run_on(self.clock)
        self.ending = self.sender.ending = Ending(self.deadlines)
        self.ending.happen(Event.CONNECTED)
        self.ending.happen(Event.READY)
        self.outbox = Outbox(self.transport, self.sender, self.ending, limits, progress, self.deadlines)

    def block(self) -> None:
        """Fill the transport over its mark, and drop those bytes from the record."""
        self.outbox.write(b"." * HIGH)
        self.outbox.write(b".")
        assert self.outbox.blocked
        self.transport.clear()
        self.transport.writes.clear()
        self.sender.events.clear()

    def finish(self) -> None:
        """Close, as a connection does."""
        self.ending.happen(Event.CLOSE, CLOSED.reason)
        if self.ending.happen(Event.APP_RESTS) & FLUSH:
            self.sender.settle(self.outbox.finish())

    def drop(self) -> None:
        """Cut."""
        self.ending.happen(Event.ABORT, CLOSED.reason)
        self.outbox.drop()

    def end(self, error: NotConnected, flushed: bool) -> None:
        """Lose the transport."""
        self.ending.happen(Event.LOST, error.reason)
        self.outbox.end(error, flushed)

    def send(self, data: bytes, then: Callable[[Any], Any] = lambda result: None) -> list[Any]:
        """The result of a `send`, as soon as it is there; `then` is called with it."""
        return outcome(self.outbox.send(data), then)


# The transport's producer --------------------------------------------------------------------------------------------


def test_it_is_the_producer_of_its_transport() -> None:
    """It is registered as one that pushes."""
    rig = Rig()
    assert verifyObject(IPushProducer, rig.outbox)
    assert (rig.outbox, True) == (rig.transport.producer, rig.transport.streaming)


def test_a_transport_that_is_gone_changes_nothing() -> None:
    """`stopProducing` fires nothing: the end of the connection follows."""
    rig = Rig()
    rig.block()
    seen = rig.send(b"a")
    rig.outbox.stopProducing()
    assert (seen, rig.sender.events) == ([], [])


# Writing -------------------------------------------------------------------------------------------------------------


def test_bytes_go_straight_to_a_transport_that_takes_them() -> None:
    """Each write is one write of the transport's."""
    rig = Rig()
    rig.outbox.write(b"a")
    rig.outbox.write(b"b" * HIGH)
    assert rig.transport.writes == [b"a", b"b" * HIGH]


def test_bytes_wait_while_the_transport_is_over_its_mark() -> None:
    """They are counted, and are written in order when it asks for more."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"ab")
    rig.outbox.write(b"cde")
    assert (rig.transport.value(), rig.outbox.unsent) == (b"", 5)
    rig.transport.flush()
    assert (rig.transport.value(), rig.outbox.unsent, rig.sender.events) == (b"abcde", 0, ["resumed"])


def test_a_huge_message_is_fed_in_pieces_of_the_mark() -> None:
    """
    The transport never has more than a piece over its mark, and the sender is resumed once the last piece is taken.
    """
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


def test_a_message_over_the_mark_waits_behind_what_waits() -> None:
    """Small and huge messages keep their order."""
    rig = Rig()
    messages = [b"a" * 25, b"b", b"c" * 25, b"d"]
    for message in messages:
        rig.outbox.write(message)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert b"".join(messages) == rig.transport.value()


def test_a_transport_may_pause_and_resume_inside_a_write() -> None:
    """Nothing is lost, doubled or reordered by it, and each `send` fires once."""
    rig = Rig(transport=EagerTransport())
    seen = [rig.send(b"a"), rig.send(b"b" * 45), rig.send(b"c")]
    rig.outbox.gather()
    rig.outbox.write(b"d" * 8)
    rig.outbox.write(b"e" * 8)
    rig.outbox.release()
    assert rig.transport.value() == b"a" + b"b" * 45 + b"c" + b"d" * 8 + b"e" * 8
    assert (seen, rig.outbox.unsent, rig.deadlines.started) == ([[None]] * 3, 0, ())


# Gathering -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "writes"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([3], [3], id="one"),
        pytest.param([1, 2, 3], [6], id="some"),
        pytest.param([5, 5], [10], id="at-the-mark"),
        pytest.param([5, 5, 1], [10, 1], id="over-the-mark"),
        pytest.param([0, 0], [0], id="empty"),
    ],
)
def test_what_is_gathered_goes_out_as_one_write(sizes: list[int], writes: list[int]) -> None:
    """Nothing is written before the release, unless it is over the mark."""
    rig = Rig()
    rig.outbox.gather()
    for size in sizes:
        rig.outbox.write(b"x" * size)
    if sum(sizes) <= HIGH:
        assert rig.transport.writes == []
    rig.outbox.release()
    rig.outbox.release()
    assert writes == [len(each) for each in rig.transport.writes]


def test_what_is_gathered_with_more_to_come_goes_out_when_it_has_to() -> None:
    """
    While it still gathers, a release writes nothing; before a TLS handshake, for example, everything must be sent.
    """
    rig = Rig()
    rig.outbox.gathers_on = True
    rig.outbox.gather()
    rig.outbox.write(b"a")
    rig.outbox.release(b"b")
    assert rig.transport.writes == []
    rig.outbox.write_out()
    assert rig.transport.writes == [b"ab"]
    rig.outbox.write(b"c")
    assert rig.transport.writes == [b"ab", b"c"]


def test_after_the_release_bytes_go_straight_on() -> None:
    """Each gathering is one, and what follows is written at once."""
    rig = Rig()
    for letter in (b"a", b"b"):
        rig.outbox.gather()
        rig.outbox.write(letter)
        rig.outbox.release()
    rig.outbox.write(b"c")
    assert rig.transport.writes == [b"a", b"b", b"c"]


def test_gathering_twice_loses_nothing() -> None:
    """Bytes gathered before the second `gather` are sent before later ones."""
    rig = Rig()
    rig.outbox.gather()
    rig.outbox.write(b"a")
    rig.outbox.gather()
    rig.outbox.write(b"b")
    rig.outbox.release()
    rig.outbox.write(b"c")
    rig.outbox.release()
    assert rig.transport.value() == b"abc"


def test_what_is_gathered_waits_behind_what_waits() -> None:
    """While the transport is over its mark the gathered bytes join the queue, in order."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"a")
    rig.outbox.gather()
    rig.outbox.write(b"b")
    seen = rig.send(b"c")
    rig.outbox.write(b"d")
    rig.outbox.release()
    rig.outbox.write(b"e")
    assert (rig.transport.value(), rig.outbox.unsent, seen) == (b"", 5, [])
    rig.transport.flush()
    assert (rig.transport.value(), seen) == (b"abcde", [None])


# What a send is told -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gathering", [False, True])
def test_a_send_under_the_mark_is_told_at_once(gathering: bool) -> None:
    """Nothing holds it back."""
    rig = Rig()
    if gathering:
        rig.outbox.gather()
    assert rig.send(b"x" * HIGH) == [None]
    rig.outbox.release()
    assert rig.transport.value() == b"x" * HIGH


@pytest.mark.parametrize("gathering", [False, True])
@pytest.mark.parametrize("size", [HIGH + 1, 45])
def test_a_send_over_the_mark_is_told_when_it_is_taken(size: int, gathering: bool) -> None:
    """It fires when the transport has all of it and is below its mark again, and not before."""
    rig = Rig()
    if gathering:
        rig.outbox.gather()
    seen = rig.send(b"x" * size)
    rig.outbox.release()
    while len(rig.transport.value()) < size or rig.transport.paused:
        assert seen == []
        rig.transport.flush()
    assert seen == [None]


def test_a_send_waits_for_its_own_message_only() -> None:
    """Later messages, however long, do not delay it."""
    rig = Rig()
    rig.block()
    told = [rig.send(b"a"), rig.send(b"b" * 100), rig.send(b"c")]
    rig.transport.flush()
    assert told == [[None], [], []]
    while rig.outbox.blocked:
        rig.transport.flush()
    assert told == [[None], [None], [None]]


def test_a_send_that_fills_the_transport_waits_for_its_own_message_only() -> None:
    """The send that took the transport over its mark fires when that is flushed, whatever comes after it."""
    rig = Rig()
    rig.outbox.write(b"." * HIGH)
    told = rig.send(b"a")
    assert told == []
    rig.outbox.write(b"b" * 100)
    rig.transport.flush()
    assert (told, rig.outbox.blocked) == ([None], True)


def test_sends_are_told_in_their_order() -> None:
    """The first that was sent fires first."""
    rig = Rig()
    rig.block()
    order: list[int] = []
    for number in range(3):
        rig.send(b"x", lambda _, number=number: order.append(number))
    rig.transport.flush()
    assert order == [0, 1, 2]


def test_a_told_send_may_send_in_its_callback() -> None:
    """Its messages are sent after all waiting ones."""
    rig = Rig()
    rig.block()
    again: list[list[Any]] = []
    first = rig.send(b"a" * 5, lambda _: again.append(rig.send(b"z" * 5)))
    second = rig.send(b"b" * 45)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert (first, second, again) == ([None], [None], [[None]])
    assert rig.transport.value() == b"a" * 5 + b"b" * 45 + b"z" * 5


def test_a_told_send_may_fill_the_transport_again() -> None:
    """Then the sender is resumed only when that is taken, too."""
    rig = Rig()
    rig.block()
    rig.send(b"a", lambda _: rig.outbox.write(b"z" * 11))
    rig.transport.flush()
    assert (rig.sender.events, rig.outbox.blocked) == (["blocked"], True)
    rig.transport.flush()
    assert (rig.sender.events, rig.transport.value()) == (["blocked", "resumed"], b"a" + b"z" * 11)


def test_one_that_is_told_may_finish_in_its_callback() -> None:
    """All waiting messages are sent in order, and nothing fires twice."""
    rig = Rig()
    rig.block()
    seen = [rig.send(b"a", lambda _: rig.finish()), rig.send(b"b" * 45), rig.send(b"c")]
    while rig.transport.producer:
        rig.transport.flush()
    assert rig.transport.value() == b"a" + b"b" * 45 + b"c"
    rig.end(CLOSED, flushed=True)
    assert (seen, rig.outbox.unsent) == ([[None]] * 3, 0)


def test_a_loop_of_sends_is_told_one_by_one() -> None:
    """Each send in the callback of the one before waits for its own message."""
    rig = Rig()
    seen: list[int] = []

    def send(number: int) -> None:
        if number < 5:
            rig.outbox.send(b"x" * (HIGH + 1)).addCallback(lambda _: seen.append(number) or send(number + 1))

    send(0)
    for count in range(5):
        assert list(range(count)) == seen
        rig.transport.flush()
    assert list(range(5)) == seen


# Cancelling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gathering", [False, True])
@pytest.mark.parametrize("size", [0, 1, 45])
def test_a_send_that_is_cancelled_while_it_waits_is_not_sent(size: int, gathering: bool) -> None:
    """Nothing of it is sent, it is not counted, and the others are sent as before."""
    rig = Rig()
    rig.block()
    if gathering:
        rig.outbox.gather()
    rig.outbox.write(b"a")
    cancelled = rig.outbox.send(b"x" * size)
    told = outcome(cancelled)
    other = rig.send(b"b")
    rig.outbox.release()
    cancelled.cancel()
    cancelled.cancel()
    assert (2, [CancelledError]) == (rig.outbox.unsent, [type(each) for each in told])
    rig.transport.flush()
    assert (rig.transport.value(), other, len(told)) == (b"ab", [None], 1)


@pytest.mark.parametrize("gathered", [0, 5, HIGH])
def test_a_gathered_send_is_cancelled_before_any_of_it_is_given(gathered: int) -> None:
    """A message of which the transport has no byte is not sent, whatever was gathered before it."""
    rig = Rig()
    rig.outbox.write(b"." * HIGH)
    rig.outbox.gather()
    rig.outbox.write(b"a" * gathered)
    cancelled = rig.outbox.send(b"b" * 25)
    told = outcome(cancelled)
    untouched = b"b" not in rig.transport.value()
    cancelled.cancel()
    rig.outbox.release()
    while rig.outbox.blocked:
        rig.transport.flush()
    assert b"." * HIGH + b"a" * gathered + (b"" if untouched else b"b" * 25) == rig.transport.value()
    assert (gathered > 0, [CancelledError]) == (untouched, [type(each) for each in told])


def test_a_send_that_is_cancelled_halfway_is_sent_all_the_same() -> None:
    """A message of which the transport has a part cannot be taken back."""
    rig = Rig()
    rig.block()
    cancelled = rig.outbox.send(b"x" * 45)
    told = outcome(cancelled)
    rig.transport.flush()
    cancelled.cancel()
    while rig.outbox.blocked:
        rig.transport.flush()
    assert (b"x" * 45, [CancelledError]) == (rig.transport.value(), [type(each) for each in told])


def test_a_send_that_is_cancelled_after_it_is_handed_over_is_sent_all_the_same() -> None:
    """The transport has all of it, and is over its mark: the send only gets the cancellation."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"." * HIGH)
    cancelled = rig.outbox.send(b"a")
    told = outcome(cancelled)
    rig.transport.flush()
    assert (rig.transport.value().endswith(b"a"), rig.outbox.blocked) == (True, True)
    cancelled.cancel()
    rig.transport.flush()
    assert ([CancelledError], 0) == ([type(each) for each in told], rig.outbox.unsent)


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("size", [1, 45])
def test_a_cancelled_send_is_told_nothing_at_the_end(size: int, flushed: bool) -> None:
    """Cancelled while it waits, halfway, or handed over, it fires once."""
    rig = Rig()
    rig.block()
    sends = [rig.outbox.send(b"x" * HIGH), rig.outbox.send(b"x" * size), rig.outbox.send(b"x")]
    told = [outcome(each) for each in sends]
    rig.transport.flush()
    for each in sends:
        each.cancel()
    rig.finish()
    rig.end(CLOSED, flushed)
    assert [len(each) for each in told] == [1, 1, 1]


def test_one_that_is_told_may_cancel_another() -> None:
    """The other one fires once, with the cancellation."""
    rig = Rig()
    rig.block()
    sends = [rig.outbox.send(letter) for letter in (b"a", b"b", b"c")]
    told = [outcome(each, lambda _: sends[1].cancel()) for each in sends]
    rig.transport.flush()
    assert ([None], CancelledError, [None]) == (told[0], type(told[1][0]), told[2])
    assert (sum(len(each) for each in told), rig.outbox.unsent) == (3, 0)


def test_one_that_is_told_late_may_cancel_another_that_is() -> None:
    """Two that were handed over together fire together, unless the first cancels the second."""
    rig = Rig()
    rig.block()
    rig.outbox.write(b"." * HIGH)
    empty = [rig.outbox.send(b"") for _ in range(2)]
    cancelling = rig.outbox.send(b"a")
    empty[0].addCallback(lambda _: cancelling.cancel())
    told = [outcome(each) for each in (*empty, cancelling)]
    while rig.outbox.blocked:
        rig.transport.flush()
    assert ([None], [None], CancelledError) == (told[0], told[1], type(told[2][0]))


# Bounds --------------------------------------------------------------------------------------------------------------


def test_more_than_the_most_unsent_is_told() -> None:
    """One message can pass the limit; the next one, unless it is empty, reports how much waits."""
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


def test_small_sends_count_for_what_they_take() -> None:
    """A Deferred and its place take more than a message of one byte does: the limit holds for both."""
    rig = Rig(max_unsent=10 * SEND_COST)
    rig.block()
    for _ in range(11):
        rig.send(b"x")
    assert rig.sender.events == [10 * (SEND_COST + 1)]
    assert rig.outbox.held == 11 * (SEND_COST + 1) + 2 * HIGH


def test_a_send_counts_until_its_sender_is_told() -> None:
    """All of its bytes are with the transport by then, which is over its mark."""
    rig = Rig()
    rig.block()
    first, second = rig.send(b"a" * (HIGH + 1)), rig.send(b"b")
    rig.transport.flush()
    assert (first, second, rig.outbox.held) == ([], [], 2 * HIGH + 2 * SEND_COST)
    rig.transport.flush()
    assert (first, second, rig.outbox.held) == ([None], [None], 0)


def test_small_writes_that_wait_are_joined() -> None:
    """As many as make a piece of the write mark's size: they take no more memory than their bytes."""
    rig = Rig()
    rig.block()
    for number in range(25):
        rig.outbox.write(b"%c" % (65 + number))
    assert [bytes(each.data) for each in rig.outbox._queue] == [b"ABCDEFGHIJ", b"KLMNOPQRST", b"UVWXY"]
    while rig.outbox.blocked:
        rig.transport.flush()
    assert rig.transport.writes == [b"ABCDEFGHIJ", b"KLMNOPQRST", b"UVWXY"]


def test_sends_that_wait_go_out_as_one_write() -> None:
    """Up to the write mark, each fires when its own bytes are taken."""
    rig = Rig()
    rig.block()
    told = [rig.send(b"%d" % number) for number in range(4)]
    rig.transport.flush()
    assert (rig.transport.writes, told) == ([b"0123"], [[None]] * 4)


def test_a_message_of_any_size_may_be_sent_alone() -> None:
    """While nothing waits a message is not too much, and neither is the rest of it."""
    rig = Rig(max_unsent=100)
    rig.outbox.write(b"x" * 1000)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert {"blocked", "resumed"} == set(rig.sender.events)


def test_what_was_withdrawn_is_not_too_much() -> None:
    """Cancelled messages do not count for the limit."""
    rig = Rig(max_unsent=100)
    rig.block()
    cancelled = rig.outbox.send(b"x" * 101)
    told = outcome(cancelled)
    cancelled.cancel()
    rig.outbox.write(b"x")
    assert (rig.sender.events, rig.outbox.unsent, len(told)) == ([], 1, 1)


# A peer that takes nothing -------------------------------------------------------------------------------------------


def test_a_peer_that_takes_nothing_is_told_of() -> None:
    """It is reported once, at the end of the time, and not before. Later events, such as its end, happen as before."""
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
    """Each piece that is taken gives it the whole time again; the last one ends it."""
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
    """The time runs from the last piece that it took."""
    rig = Rig()
    rig.outbox.write(b"x" * 205)
    rig.clock.advance(PROGRESS - 1)
    rig.transport.flush()
    rig.clock.advance(PROGRESS - 1)
    assert "stalled" not in rig.sender.events
    rig.clock.advance(1)
    assert rig.sender.events == ["blocked", "blocked", "stalled"]


def test_writing_to_a_peer_that_takes_nothing_gives_it_no_more_time() -> None:
    """Only what the peer does moves the timer."""
    rig = Rig()
    rig.block()
    for _ in range(int(PROGRESS)):
        rig.outbox.write(b"x")
        rig.clock.advance(1)
    assert rig.sender.events == ["stalled"]


def test_a_transport_that_pauses_again_gives_no_more_time() -> None:
    """Twisted's transports pause their producer at each write over the mark."""
    rig = Rig()
    rig.block()
    rig.clock.advance(PROGRESS - 1)
    rig.outbox.pauseProducing()
    rig.clock.advance(1)
    assert rig.sender.events == ["blocked", "stalled"]


@pytest.mark.parametrize("progress", [0, 30])
def test_no_timer_runs_without_a_time_or_a_clock(progress: float) -> None:
    """A time of 0 is no limit; where there is no clock there is no timer."""
    rig = Rig(progress=0)
    transport = Transport()
    clockless = Outbox(transport, rig.sender, rig.ending, Limits(write_high=HIGH), progress, Deadlines(rig.sender))
    for outbox in (rig.outbox, clockless):
        outbox.write(b"x" * 45)
    transport.flush()
    rig.transport.flush()
    clockless.end(CLOSED, flushed=False)
    assert rig.deadlines.started == ()


# The end -------------------------------------------------------------------------------------------------------------


def test_finishing_hands_over_all_that_waits() -> None:
    """Gathered, halfway, or waiting, it goes out in order as the peer takes it; then the sender is told, once."""
    rig = Rig()
    rig.outbox.write(b"a" * 45)
    told = rig.send(b"b")
    rig.outbox.gather()
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
    """The transport has all, though the peer has not."""
    rig = Rig()
    rig.block()
    rig.finish()
    assert (rig.transport.producer, rig.sender.events, rig.outbox.held) == (None, ["all handed over"], 2 * HIGH)


def test_what_is_cut_is_let_go_of_at_once() -> None:
    """Its bytes, that is: each send is told at the end."""
    rig = Rig()
    rig.block()
    told = rig.send(b"a" * 45)
    rig.outbox.gather()
    rig.outbox.write(b"b")
    rig.drop()
    assert (rig.outbox.unsent, rig.outbox.held, told) == (0, 2 * HIGH + SEND_COST, [])
    rig.end(CLOSED, flushed=False)
    assert (told, rig.outbox.held) == ([CLOSED], 2 * HIGH)


def test_finishing_what_is_gathered_writes_it() -> None:
    """The last replies are sent although nothing released them."""
    rig = Rig()
    rig.outbox.gather()
    rig.outbox.write(b"a")
    rig.finish()
    rig.outbox.release()
    assert rig.transport.writes == [b"a"]


def test_no_timer_runs_once_it_is_finished() -> None:
    """The grace of the closing bounds it from then on: handing over waiting bytes starts no timer."""
    rig = Rig()
    rig.outbox.write(b"x" * 100)
    rig.outbox.gather()
    rig.outbox.write(b"x" * 100)
    rig.finish()
    rig.clock.advance(100 * PROGRESS)
    assert (rig.deadlines.started, "stalled" in rig.sender.events) == ((), False)


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("flushed", "expected"), [(True, None), (False, CLOSED)])
def test_the_end_tells_every_send_once(flushed: bool, expected: Any, finished: bool) -> None:
    """The sends that the transport has fire as flushed, or fail, as all others do; a second end fires nothing."""
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
def test_a_send_of_which_the_transport_has_all_is_told_of_a_flush(size: int, expected: Any) -> None:
    """Also where its last piece took the transport over its mark; not where some of it waits here."""
    rig = Rig()
    told = rig.send(b"x" * size)
    assert (told, rig.outbox.blocked) == ([], True)
    rig.end(CLOSED, flushed=True)
    assert told == [expected]


def test_the_end_may_come_while_those_who_may_know_are_told() -> None:
    """A callback ends the connection: the others fail, each once."""
    rig = Rig()
    rig.block()
    told = [rig.send(b"a" * HIGH, lambda _: rig.end(CLOSED, flushed=False)), rig.send(b"b" * 45), rig.send(b"c")]
    rig.transport.flush()
    assert told == [[None], [CLOSED], [CLOSED]]
    assert rig.transport.value() == b"a" * HIGH


@pytest.mark.parametrize("cancelled", [1, 2])
@pytest.mark.parametrize("flushed", [False, True])
def test_one_that_is_told_of_the_end_may_cancel_another(cancelled: int, flushed: bool) -> None:
    """The other one fires once, with the cancellation."""
    rig = Rig()
    rig.block()
    sends = [rig.outbox.send(b"x") for _ in range(3)]
    told = [outcome(each, lambda _: sends[cancelled].cancel()) for each in sends]
    rig.end(CLOSED, flushed)
    expected: list[type] = [NotConnected] * 3
    expected[cancelled] = CancelledError
    assert [[each] for each in expected] == [[type(each) for each in seen] for seen in told]


# Any order of events -------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "send"]), st.integers(0, 45)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["gather", "release", "flush", "flush"]), st.none()),
    ),
    max_size=40,
)


class Message:
    """The model's record of one message."""

    def __init__(self, data: bytes, deferred: Deferred[None] | None) -> None:
        self.data = data
        self.deferred = deferred
        self.told = [] if deferred is None else outcome(deferred)


class Model:
    """An outbox as a plain list of messages that were not withdrawn, beside the real one."""

    def __init__(self) -> None:
        self.rig = Rig(max_unsent=10**6)
        self.messages: list[Message] = []
        self.sends: list[Message] = []
        self.count = 0

    @property
    def stream(self) -> bytes:
        return b"".join(each.data for each in self.messages)

    def step(self, event: str, argument: Any) -> None:
        if event in ("write", "send"):
            self.count += 1
            data = bytes([self.count % 256]) * argument
            deferred = getattr(self.rig.outbox, event)(data)
            self.messages.append(Message(data, deferred))
            if deferred is not None:
                self.sends.append(self.messages[-1])
        elif event == "cancel":
            waiting = [each for each in self.sends if not each.told]
            if waiting:
                self.cancel(waiting[argument % len(waiting)])
        elif event == "flush":
            self.flush()
        else:
            getattr(self.rig.outbox, event)()

    def cancel(self, message: Message) -> None:
        """A message of which the transport has no byte is withdrawn; any other goes on."""
        place = self.messages.index(message)
        before = sum(len(each.data) for each in self.messages[:place])
        given = len(self.rig.transport.value())
        message.deferred.cancel()
        assert [CancelledError] == [type(each) for each in message.told]
        if given <= before:
            del self.messages[place]

    def end_of(self, message: Message) -> int:
        """Where `message` ends in the stream."""
        return sum(len(each.data) for each in self.messages[: self.messages.index(message) + 1])

    def flush(self) -> None:
        """Flush the bytes of the transport, which fires the waiting sends."""
        given, end, had = len(self.rig.transport.value()), 0, []
        for each in self.messages:
            end += len(each.data)
            if end <= given:
                had.append(each)
        self.rig.transport.flush()
        assert all(each.told for each in had if each.deferred is not None)

    def compare(self) -> None:
        outbox, given, stream = self.rig.outbox, self.rig.transport.value(), self.stream
        assert stream.startswith(given)
        assert len(stream) - len(given) == outbox.unsent + outbox._gathered_size
        assert self.rig.transport.paused == outbox.blocked
        assert all(len(each.told) <= 1 for each in self.sends)
        assert outbox.blocked == bool(self.rig.deadlines.started)
        if not outbox.blocked:
            assert outbox.unsent == 0
            assert all(each.told for each in self.sends)
        assert self.rig.transport.kept <= 2 * HIGH


@given(events=EVENTS, flushed=st.booleans(), finished=st.booleans())
def test_the_transport_gets_all_that_was_not_withdrawn_in_order(
    events: list[tuple[str, Any]], flushed: bool, finished: bool
) -> None:
    """Whatever happens in whatever order, nothing is lost, doubled or reordered, and each `send` fires once."""
    model = Model()
    for event in events:
        model.step(*event)
        model.compare()
    if finished:
        model.rig.finish()
        while model.rig.transport.producer:
            model.flush()
        assert model.stream == model.rig.transport.value()
        assert (model.rig.outbox.unsent, model.rig.outbox._sends) == (0, 0)
    else:
        model.rig.outbox.release()
    given = len(model.rig.transport.value())
    waiting = [each for each in model.sends if not each.told]
    has = [model.end_of(each) <= given for each in waiting]
    model.rig.end(CLOSED, flushed)
    assert [[None] if flushed and all_given else [CLOSED] for all_given in has] == [each.told for each in waiting]
    assert all(len(each.told) == 1 for each in model.sends)
    assert model.rig.deadlines.started == ()


@given(events=EVENTS)
def test_a_peer_that_takes_all_gets_all(events: list[tuple[str, Any]]) -> None:
    """When the peer goes on reading, everything is sent, every `send` fires, and the sender is resumed."""
    model = Model()
    for event in events:
        model.step(*event)
    model.rig.outbox.release()
    while model.rig.outbox.blocked:
        model.step("flush", None)
    model.compare()
    assert model.stream == model.rig.transport.value()
    assert all(each.told for each in model.sends)
    assert model.rig.sender.events[-1:] in ([], ["resumed"])


# What is held --------------------------------------------------------------------------------------------------------


def test_what_waits_is_told_of_and_counted() -> None:
    """With the bytes that the transport can have: at most twice its mark while it is over it, and else none."""
    rig = Rig()
    rig.outbox.write(b"123")
    assert (rig.outbox.held, rig.sender.told_of_holding) == (0, 0)
    rig.outbox.gather()
    rig.outbox.write(b"123")
    assert rig.outbox.held == 3
    rig.outbox.release()
    rig.transport.flush()
    rig.block()
    rig.outbox.write(b"12345")
    rig.outbox.send(b"678")
    assert (rig.outbox.held, rig.sender.told_of_holding) == (8 + SEND_COST + 2 * HIGH, 2)
    rig.transport.flush()
    assert rig.outbox.held == 0
