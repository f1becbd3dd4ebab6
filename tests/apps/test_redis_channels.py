"""The channels of the Redis server: who hears what, and how much a connection can subscribe to."""

from __future__ import annotations

from typing import Any

from tcpapp import MessageServerFactory
from tcpapp.apps.redis_channels import LONGEST_NAME, MOST_CHANNELS, MOST_PATTERNS, Channels, Subscriber
from tcpapp.framing.resp import resp
from tests.peers import joined

FACTORY = MessageServerFactory(None, resp())


class Listener(Subscriber):
    """A subscriber that notes what its client hears."""

    def __init__(self) -> None:
        self.transport = joined(FACTORY)
        super().__init__(self.transport.connection)

    @property
    def told(self) -> list[Any]:
        return [[*each] for each in resp(side="client").receive(self.transport.value())]


def test_a_message_goes_to_the_subscribers_of_its_channel() -> None:
    """`publish` tells each subscriber once, and returns how many there are."""
    channels, first, second = Channels(), Listener(), Listener()
    assert channels.publish(b"news", b"x") == 0
    for each in (first, second, first):
        assert channels.subscribe(each, b"news")
    assert channels.publish(b"news", b"hello") == 2
    assert channels.publish(b"other", b"hello") == 0
    assert first.told == second.told == [[b"message", b"news", b"hello"]]
    channels.unsubscribe(first, b"news")
    channels.unsubscribe(first, b"news")
    assert channels.publish(b"news", b"again") == 1
    assert len(first.told) == 1


def test_a_message_goes_to_the_patterns_that_match() -> None:
    """A pattern has ``*``, ``?`` and ``[…]``, and bytes that are no text match, too."""
    channels, listener = Channels(), Listener()
    for pattern in (b"news.*", b"n?ws.[ab]", b"*\xff"):
        assert channels.subscribe(listener, pattern, pattern=True)
    assert channels.publish(b"news.a", b"x") == 2
    assert channels.publish(b"news.c", b"x") == 1
    assert channels.publish(b"a\nb\xff", b"x") == 1
    assert channels.publish(b"news", b"x") == 0
    assert listener.told[0] == [b"pmessage", b"news.*", b"news.a", b"x"]


def test_a_subscriber_hears_a_message_once_for_each_of_its_subscriptions() -> None:
    """A channel and a pattern count each."""
    channels, listener = Channels(), Listener()
    channels.subscribe(listener, b"a")
    channels.subscribe(listener, b"*", pattern=True)
    assert len(listener) == 2
    assert channels.publish(b"a", b"x") == 2


def test_a_subscriber_that_leaves_leaves_nothing() -> None:
    """`leave` ends all subscriptions, and no table keeps a name without subscribers."""
    channels, first, second = Channels(), Listener(), Listener()
    for each in (first, second):
        channels.subscribe(each, b"a")
        channels.subscribe(each, b"a*", pattern=True)
    channels.leave(first)
    assert channels.publish(b"a", b"x") == 2
    channels.leave(second)
    assert len(first) == len(second) == 0
    assert vars(channels) == vars(Channels())


def test_subscriptions_are_bounded() -> None:
    """A connection has so many channels and patterns, with names of so many bytes, and no more."""
    channels, listener = Channels(), Listener()
    for pattern, most in ((False, MOST_CHANNELS), (True, MOST_PATTERNS)):
        assert all(channels.subscribe(listener, b"%d" % each, pattern=pattern) for each in range(most))
        assert not channels.subscribe(listener, b"more", pattern=pattern)
        assert channels.subscribe(listener, b"0", pattern=pattern)
    assert channels.subscribe(Listener(), b"x" * LONGEST_NAME)
    assert not channels.subscribe(Listener(), b"x" * (LONGEST_NAME + 1))


def test_a_pattern_of_stars_takes_no_time() -> None:
    """A pattern that would keep a backtracking search busy for years is compared in linear time."""
    channels, listener = Channels(), Listener()
    channels.subscribe(listener, b"*a" * 100 + b"b", pattern=True)
    assert channels.publish(b"a" * 250, b"x") == 0


def test_a_subscriber_that_has_left_is_passed_over() -> None:
    """A connection that has just ended is not counted, and does no harm to the others."""
    channels, gone, listener = Channels(), Listener(), Listener()
    for each in (gone, listener):
        channels.subscribe(each, b"a")
    gone.connection.abort()
    assert channels.publish(b"a", b"x") == 1
    assert listener.told == [[b"message", b"a", b"x"]]


def test_a_message_over_the_max_of_the_framing_is_not_sent() -> None:
    """A message that is too long with the name of its channel reaches nobody."""
    channels, listener = Channels(), Listener()
    channels.subscribe(listener, b"a")
    assert channels.publish(b"a", b"x" * (1 << 20)) == 0
    assert listener.told == []
