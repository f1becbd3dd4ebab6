"""When the Deferred of a send fires, and when a send can be cancelled."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError

from tests.connection.outboxes import CLOSED, HIGH, Rig
from tests.peers import outcome

# When a send fires ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gathering", [False, True])
def test_a_send_under_the_mark_fires_at_once(gathering: bool) -> None:
    """A send that does not take the transport over its mark fires at once, corked or not."""
    rig = Rig()
    if gathering:
        rig.outbox.cork()
    assert rig.send(b"x" * HIGH) == [None]
    rig.outbox.uncork()
    assert rig.transport.value() == b"x" * HIGH


@pytest.mark.parametrize("gathering", [False, True])
@pytest.mark.parametrize("size", [HIGH + 1, 45])
def test_a_send_over_the_mark_fires_when_its_bytes_are_taken(size: int, gathering: bool) -> None:
    """A send fires when the transport has all of its bytes and is below its mark again, and not before."""
    rig = Rig()
    if gathering:
        rig.outbox.cork()
    seen = rig.send(b"x" * size)
    rig.outbox.uncork()
    while len(rig.transport.value()) < size or rig.transport.paused:
        assert seen == []
        rig.transport.flush()
    assert seen == [None]


def test_a_send_waits_for_its_own_message_only() -> None:
    """Later messages, however long, do not delay a send."""
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


def test_sends_fire_in_their_order() -> None:
    """Sends fire in the order in which they were called."""
    rig = Rig()
    rig.block()
    order: list[int] = []
    for number in range(3):
        rig.send(b"x", lambda _, number=number: order.append(number))
    rig.transport.flush()
    assert order == [0, 1, 2]


def test_a_send_can_send_in_its_callback() -> None:
    """A message that the callback of a send sends goes out after all waiting messages."""
    rig = Rig()
    rig.block()
    again: list[list[Any]] = []
    first = rig.send(b"a" * 5, lambda _: again.append(rig.send(b"z" * 5)))
    second = rig.send(b"b" * 45)
    while rig.outbox.blocked:
        rig.transport.flush()
    assert (first, second, again) == ([None], [None], [[None]])
    assert rig.transport.value() == b"a" * 5 + b"b" * 45 + b"z" * 5


def test_a_send_can_fill_the_transport_again_in_its_callback() -> None:
    """If the callback of a send fills the transport, the sender is resumed only when that is taken, too."""
    rig = Rig()
    rig.block()
    rig.send(b"a", lambda _: rig.outbox.write(b"z" * 11))
    rig.transport.flush()
    assert (rig.sender.events, rig.outbox.blocked) == (["blocked"], True)
    rig.transport.flush()
    assert (rig.sender.events, rig.transport.value()) == (["blocked", "resumed"], b"a" + b"z" * 11)


def test_a_send_can_finish_the_outbox_in_its_callback() -> None:
    """
    If the callback of a send finishes the outbox, all waiting messages are sent in order, and nothing fires twice.
    """
    rig = Rig()
    rig.block()
    seen = [rig.send(b"a", lambda _: rig.finish()), rig.send(b"b" * 45), rig.send(b"c")]
    while rig.transport.producer:
        rig.transport.flush()
    assert rig.transport.value() == b"a" + b"b" * 45 + b"c"
    rig.end(CLOSED, flushed=True)
    assert (seen, rig.outbox.unsent) == ([[None]] * 3, 0)


def test_a_loop_of_sends_fires_one_by_one() -> None:
    """A send in the callback of the one before waits for its own message."""
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
    """A cancelled send that waits is not sent and not counted, and the others are sent as before."""
    rig = Rig()
    rig.block()
    if gathering:
        rig.outbox.cork()
    rig.outbox.write(b"a")
    cancelled = rig.outbox.send(b"x" * size)
    told = outcome(cancelled)
    other = rig.send(b"b")
    rig.outbox.uncork()
    cancelled.cancel()
    cancelled.cancel()
    assert (2, [CancelledError]) == (rig.outbox.unsent, [type(each) for each in told])
    rig.transport.flush()
    assert (rig.transport.value(), other, len(told)) == (b"ab", [None], 1)


@pytest.mark.parametrize("gathered", [0, 5, HIGH])
def test_a_corked_send_can_be_cancelled_before_its_first_byte(gathered: int) -> None:
    """A corked message of which the transport has no byte is not sent, whatever was corked before it."""
    rig = Rig()
    rig.outbox.write(b"." * HIGH)
    rig.outbox.cork()
    rig.outbox.write(b"a" * gathered)
    cancelled = rig.outbox.send(b"b" * 25)
    told = outcome(cancelled)
    untouched = b"b" not in rig.transport.value()
    cancelled.cancel()
    rig.outbox.uncork()
    while rig.outbox.blocked:
        rig.transport.flush()
    assert b"." * HIGH + b"a" * gathered + (b"" if untouched else b"b" * 25) == rig.transport.value()
    assert (gathered > 0, [CancelledError]) == (untouched, [type(each) for each in told])


def test_a_send_that_is_cancelled_halfway_is_sent_all_the_same() -> None:
    """A message of which the transport has a part is sent, although its send is cancelled."""
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
    """If the transport has all bytes of a send and is over its mark, a cancelled send gets only the cancellation."""
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
def test_a_cancelled_send_does_not_fire_at_the_end(size: int, flushed: bool) -> None:
    """A send that is cancelled while it waits, halfway, or handed over fires once."""
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


def test_a_send_can_cancel_another_in_its_callback() -> None:
    """If the callback of a send cancels another send, that one fires once, with the cancellation."""
    rig = Rig()
    rig.block()
    sends = [rig.outbox.send(letter) for letter in (b"a", b"b", b"c")]
    told = [outcome(each, lambda _: sends[1].cancel()) for each in sends]
    rig.transport.flush()
    assert ([None], CancelledError, [None]) == (told[0], type(told[1][0]), told[2])
    assert (sum(len(each) for each in told), rig.outbox.unsent) == (3, 0)


def test_a_late_send_can_cancel_another_late_send() -> None:
    """Sends that were handed over together fire together, unless the first one cancels another."""
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
