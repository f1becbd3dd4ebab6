"""Messages that wait for a connection, and messages that were given to one."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tcpapp.client.reconnecting.send_queue import Outgoing, SendQueue, Unconfirmed
from tcpapp.limits import Recovery
from tests.peers import outcome


def outgoing(message: Any) -> Outgoing:
    each = Outgoing(message, is_request=True)
    each.deferred = Deferred()
    return each


def test_an_outgoing_message_fires_once_and_its_timer_ends() -> None:
    """An outgoing message fires once, with its result or its error, and its timer is stopped."""
    clock = Clock()
    each, other = outgoing(b"a"), outgoing(b"b")
    seen = [outcome(each.deferred), outcome(other.deferred)]  # type: ignore[arg-type]
    each.timer = clock.callLater(1, lambda: None)
    each.finish(b"reply")
    each.finish(b"again")
    error = ValueError()
    other.finish(error)
    assert seen == [[b"reply"], [error]]
    assert clock.getDelayedCalls() == []


def test_requests_that_are_sent_again_come_first() -> None:
    """Requests that are sent again come before new ones, in their order. Any message can be removed."""
    queue = SendQueue(Recovery())
    new, again = [outgoing(b"a"), outgoing(b"b")], [outgoing(b"c"), outgoing(b"d")]
    for each in new:
        queue.add(each, 1)
    for each in again:
        queue.add(each, 1, again=True)
    assert ([*queue], len(queue), queue.size, queue.next()) == ([*again, *new], 4, 4, again[0])
    assert (queue.remove(again[0]), queue.remove(again[0]), queue.remove(new[1])) == (True, False, True)
    assert (queue.take_all(), len(queue), queue.size, queue.next()) == ([again[1], new[0]], 0, 0, None)


def test_the_queue_is_bounded_in_messages_and_in_bytes() -> None:
    """A message over the bound is refused, with the limit's name."""
    queue = SendQueue(Recovery(max_waiting=2, max_waiting_bytes=100))
    assert queue.refusal(100) == ""
    queue.add(outgoing(b"a"), 60)
    assert queue.refusal(41) == "60 bytes wait for a connection; at most 100 (max_waiting_bytes) can"
    queue.add(outgoing(b"b"), 40)
    assert queue.refusal(0) == "2 messages wait for a connection, which is the limit (max_waiting)"


def test_confirmed_messages_are_forgotten() -> None:
    """All messages that were sent before an answered request are forgotten."""
    unconfirmed = Unconfirmed(Recovery())
    for position in (1, 2, 4, 5):
        unconfirmed.add(position, b"%d" % position)
    unconfirmed.confirm(3)
    assert (unconfirmed.take_all(), unconfirmed.take_all()) == ([b"4", b"5"], [])
    unconfirmed.confirm(9)


def test_unconfirmed_messages_are_bounded() -> None:
    """
    The newest messages are kept, bounded in messages and in bytes, and forgotten ones are counted.

    A value counts as a message, and its bytes do not count.
    """
    few = Unconfirmed(Recovery(max_waiting=2))
    for position in range(5):
        few.add(position, {"number": position})
    assert (few.take_all(), few.forgotten) == ([{"number": 3}, {"number": 4}], 3)
    small = Unconfirmed(Recovery(max_waiting_bytes=10))
    for position in range(5):
        small.add(position, b"x" * 4)
    assert (len(small.take_all()), small.forgotten) == (2, 3)
