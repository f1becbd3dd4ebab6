"""Middleware that limits how many messages of a connection an app gets in a second."""

from __future__ import annotations

from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.task import deferLater

from tcpapp.apps.middleware.wrapping import wrap
from tcpapp.connection.handlers import outcome_of
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidOption
from tcpapp.limits.token_bucket import TokenBucket

__all__ = ["rate_limited"]


def rate_limited(app: Any, per_second: float, *, reply: Any = None) -> Any:
    """
    Give `app` at most `per_second` messages of each connection in a second, and as many at once after a quiet second.

    A message over the rate waits, and with it all messages behind it: the connection stops reading, and TCP makes the
    peer wait. With a `reply`, a message over the rate is not handled: the peer gets this reply. A number below 1 is
    possible: 0.1 is a message every ten seconds. A batch waits as a whole, until the rate allows all of its messages;
    with a `reply`, the batch is cut.

    The limits ``message_rate`` and ``byte_rate`` of a server do the same for bytes and messages before the app. Use
    this for a part of the app's work, such as all that follows a login. The wait counts for ``handler_timeout``.

    Raises `InvalidOption` for an object that is no app, and for an invalid number.
    """
    if isinstance(per_second, bool) or not isinstance(per_second, (int, float)) or not 0 < per_second < inf:
        raise InvalidOption(f"rate_limited: per_second={per_second!r}: takes a number above 0")
    rate = _Rate(per_second, reply)
    return wrap(app, received=rate.received, received_all=rate.received_all)


class _Rate:
    """The functions around an app, and a bucket for each connection that has sent a message."""

    def __init__(self, per_second: float, reply: Any) -> None:
        self._per_second = per_second
        self._reply = reply
        self._buckets: WeakKeyDictionary[Any, TokenBucket] = WeakKeyDictionary()

    def received(self, message: Any, connection: Any, inner: Any) -> Any:
        """Hand the message on, now or when the rate allows it; or refuse it."""
        if self._reply is not None and self._available(connection) < 1:
            return self._reply
        wait = self._take(connection, 1)
        return _later(wait, message, connection, inner) if wait else inner(message, connection)

    def received_all(self, messages: list[Any], connection: Any, inner: Any) -> Any:
        """Hand the batch on, now or when the rate allows all of it; or refuse the messages over the rate."""
        if self._reply is not None and (count := int(self._available(connection))) < len(messages):
            return self._cut(messages, count, connection, inner)
        wait = self._take(connection, len(messages))
        return _later(wait, messages, connection, inner) if wait else inner(messages, connection)

    async def _cut(self, messages: list[Any], count: int, connection: Any, inner: Any) -> list[Any]:
        refused = [self._reply] * (len(messages) - count)
        if count < 1:
            return refused
        self._take(connection, count)
        return [*(await outcome_of(inner, messages[:count], connection) or ()), *refused]

    def _available(self, connection: Any) -> float:
        """How many messages can come now. Below 0 where messages wait."""
        bucket = self._buckets.get(connection)
        if bucket is None:
            bucket = self._buckets[connection] = TokenBucket(self._per_second)
        return bucket.available(protocol_of(connection).clock.seconds())

    def _take(self, connection: Any, count: int) -> float:
        """Take `count` messages out of the bucket. Returns the seconds to wait for the last of them."""
        available = self._available(connection)
        self._buckets[connection].take(protocol_of(connection).clock.seconds(), count)
        return max(0.0, count - available) / self._per_second


async def _later(seconds: float, messages: Any, connection: Any, inner: Any) -> Any:
    await deferLater(protocol_of(connection).clock, seconds)
    return await outcome_of(inner, messages, connection)
