"""
The requests of one connection that wait for their replies.

Replies are matched first in, first out, or by a key found in both: a DNS id, Kafka's correlation id, Modbus's
transaction. The late reply to a request that was cancelled, or timed out, is dropped. In order, the request keeps its
place until the reply has come. By key, a reply is dropped when no request waits with its key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from tcpapp.errors import InvalidOption, TimedOut, UndecodableMessage, UnsendableMessage

__all__ = ["LATE", "ByKey", "InOrder", "Key", "Requests", "bound", "check_key", "fire_reply", "requests_by"]

LATE: Final[Deferred[Any]] = succeed(None)
"""The Deferred of replies that no request waits for: it has fired, so such a reply is dropped."""

KeyFunction = Callable[[Any], Hashable]
Key = KeyFunction | tuple[KeyFunction, KeyFunction]
"""One function for requests and replies alike, or a pair: one for requests, one for replies."""


class Requests(Protocol):
    """The requests that wait, and how a reply finds its request. The connection limits their number."""

    def __len__(self) -> int:
        """How many replies can still come."""

    def add(self, message: Any) -> Deferred[Any]:
        """A Deferred of the reply to `message`, which is about to be sent. Raises `UnsendableMessage`."""
        ...

    @property
    def expected(self) -> bool:
        """Whether the next message can be a reply, so that it is to be decoded and given to `take`."""
        ...

    def take(self, message: Any) -> Deferred[Any] | None:
        """
        Remove and return the Deferred that `message` answers, for `fire_reply`. `None` where `message` is no reply, and
        `LATE` where it is a reply that no request waits for any more.
        """
        ...

    def take_waiters(self) -> Sequence[Deferred[Any]]:
        """No reply will come any more: remove and return all requests that wait, which the caller fails."""
        ...


class InOrder:
    """Replies come in the order of their requests. Every message that comes while a request waits is a reply."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Deferred[Any] | None] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Any) -> Deferred[Any]:
        """See `Requests`. A cancelled request keeps its place: its reply still comes, and is dropped."""
        reply: Deferred[Any] = Deferred(self._forget)
        self._waiting.append(reply)
        return reply

    def _forget(self, reply: Deferred[Any]) -> None:
        if reply in self._waiting:  # false while its reply is being taken, or failed
            self._waiting[self._waiting.index(reply)] = None

    @property
    def expected(self) -> bool:
        """See `Requests`: true while a request waits."""
        return bool(self._waiting)

    def take(self, message: Any) -> Deferred[Any] | None:
        """See `Requests`."""
        return (self._waiting.popleft() or LATE) if self._waiting else None

    def take_waiters(self) -> Sequence[Deferred[Any]]:
        """See `Requests`."""
        waiting, self._waiting = self._waiting, deque()
        return [reply for reply in waiting if reply is not None]


class ByKey:
    """
    Replies carry the key of their request. A message whose key is `None` is no reply, and goes to the app.

    Do not use a key again while a late reply to it can come: it would be taken for the new reply.
    """

    __slots__ = ("_of_reply", "_of_request", "_waiting")

    def __init__(self, of_request: KeyFunction, of_reply: KeyFunction) -> None:
        self._of_request = of_request
        self._of_reply = of_reply
        self._waiting: dict[Hashable, Deferred[Any]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, message: Any) -> Deferred[Any]:
        """See `Requests`. Rejects a key that is `None`, or with which another request waits."""
        key = self._of_request(message)
        if key is None:
            raise UnsendableMessage("this message has no key, so no reply could be known as its own; use send()")
        if key in self._waiting:
            raise UnsendableMessage(f"a request with the key {key!r} waits already; give each its own")

        def forget(reply: Deferred[Any]) -> None:
            if self._waiting.get(key) is reply:  # false while its reply is being taken, or failed
                del self._waiting[key]

        reply = self._waiting[key] = Deferred(forget)
        return reply

    @property
    def expected(self) -> bool:
        """See `Requests`: always true, because a late reply has a key, too."""
        return True

    def take(self, message: Any) -> Deferred[Any] | None:
        """
        See `Requests`. A reply that no request waits for is `LATE`. An undecodable message has no key.

        The peer chooses the key of a reply. A key that cannot be hashed (a list) is the key of no request.
        """
        key = None if isinstance(message, UndecodableMessage) else self._of_reply(message)
        if key is None:
            return None
        try:
            reply = self._waiting.pop(key, None)
        except TypeError:
            reply = None
        return reply or LATE

    def take_waiters(self) -> Sequence[Deferred[Any]]:
        """See `Requests`."""
        waiting, self._waiting = self._waiting, {}
        return list(waiting.values())


def requests_by(key: Key | None) -> Requests:
    """The `Requests` for `key`; `None` matches in order."""
    if key is None:
        return InOrder()
    of_request, of_reply = key if isinstance(key, tuple) else (key, key)
    return ByKey(of_request, of_reply)


def check_key(key: Key | None) -> Key | None:
    """`key` itself. Raises `InvalidOption` for an invalid key."""
    functions = key if isinstance(key, tuple) else (key, key)
    if key is not None and (len(functions) != 2 or not all(callable(each) for each in functions)):
        raise InvalidOption(f"key={key!r}: takes a function of a message, or a pair: one for requests, one for replies")
    return key


def bound(reply: Deferred[Any], seconds: float, clock: IReactorTime | None) -> Deferred[Any]:
    """Fail `reply` with `TimedOut` after `seconds` (0: never). The late reply is dropped, as after a cancel."""
    if not seconds or clock is None:
        return reply
    return reply.addTimeout(seconds, clock, lambda _failure, _seconds: _raise(TimedOut("request", seconds)))


def _raise(error: Exception) -> None:
    raise error


def fire_reply(reply: Deferred[Any], message: Any) -> None:
    """Fire `reply` with `message`, or fail it with an `UndecodableMessage`, unless it was cancelled."""
    if reply.called:
        return
    if isinstance(message, UndecodableMessage):
        reply.errback(message)
    else:
        reply.callback(message)
