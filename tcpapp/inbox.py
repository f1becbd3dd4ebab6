"""
The messages of one connection that nobody has taken yet.

Over the high mark it has reading paused, at the low mark resumed, and it fails its waiters at the end. It fits where
Twisted's ``DeferredQueue`` does not: that one cannot fail its waiters, and raises when full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, succeed

from tcpapp.errors import NotConnected, UndecodableMessage
from tcpapp.limits import Limits

__all__ = ["FULL", "Inbox", "Source"]

MESSAGE_COST: Final = 64
"""Bytes that a waiting message counts for beyond its own (its object, its place): empty ones fill an inbox, too."""


FULL: Final = 1
"""Why the source is to bring no more: the inbox is over its mark."""


class Source(Protocol):
    """Where the messages come from."""

    def hold(self, why: int) -> None:
        """Bring no more for now."""

    def let(self, why: int) -> None:
        """Go on bringing, for all that this reason has to say."""


class Inbox:
    """
    First in, first out. Either it holds messages or somebody waits for one, never both.

    `size` is what it holds, in bytes; it is `in_use` while it holds a message, or somebody waits for one: then further
    messages have to come here. It takes nothing of its own from memory until a message or a waiter has to wait.
    """

    __slots__ = ("_ended", "_limits", "_messages", "_over", "_source", "_waiters", "in_use", "size")

    def __init__(self, limits: Limits, source: Source) -> None:
        self._limits = limits
        self._source = source
        self._messages: deque[tuple[Any, int]] | None = None
        self._waiters: deque[Deferred[Any]] | None = None
        self._ended: NotConnected | None = None
        self._over = False
        self.in_use = False
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages) if self._messages else 0

    @property
    def ended(self) -> bool:
        """Whether no message will come any more."""
        return self._ended is not None

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for a message."""
        return bool(self._waiters)

    def put(self, messages: Iterable[Any], sizes: Iterable[int]) -> None:
        """Add `messages`, and the size in bytes of each; those who wait are given theirs before this returns."""
        if self._messages is None:
            self._messages = deque()
        added = list(zip(messages, sizes, strict=True))
        self._messages.extend(added)
        self._added(added)

    def put_back(self, messages: Sequence[Any], sizes: Sequence[int]) -> None:
        """As `put`, before all that came in the meantime."""
        if self._messages is None:
            self._messages = deque()
        added = list(zip(messages, sizes, strict=True))
        self._messages.extendleft(reversed(added))
        self._added(added)

    def _added(self, added: list[tuple[Any, int]]) -> None:
        self.size += sum(size for _, size in added) + MESSAGE_COST * len(added)
        while self._waiters and self._messages:
            _hand(self._waiters.popleft(), self.take())
        self.in_use = bool(self._messages or self._waiters)
        if self.size > self._limits.inbox_high and not self._over:
            self._over = True
            self._source.hold(FULL)

    def take(self) -> Any:
        """The oldest message. There has to be one."""
        assert self._messages
        message, size = self._messages.popleft()
        self.size -= size + MESSAGE_COST
        if not self._messages:
            self._messages = None
            self.in_use = bool(self._waiters)
        if self._over and self.size <= self._limits.inbox_low:
            self._over = False
            self._source.let(FULL)
        return message

    def drain(self) -> Iterator[Any]:
        """Take the messages one by one for as long as there are any."""
        while self._messages:
            yield self.take()

    def receive(self) -> Deferred[Any]:
        """
        The next message, now or when it comes. Cancelled, it takes none.

        Fails with `NotConnected` once there is none left and none can come, and with an `UndecodableMessage` that is
        next in line (the one after it can be received as ever).
        """
        if self._messages and not self._waiters:
            message = self.take()
            return fail(message) if isinstance(message, UndecodableMessage) else succeed(message)
        if self._ended is not None:
            return fail(self._ended)
        if self._waiters is None:
            self._waiters = deque()
        waiter: Deferred[Any] = Deferred(self._leave)
        self._waiters.append(waiter)
        self.in_use = True
        return waiter

    def _leave(self, waiter: Deferred[Any]) -> None:
        """Who waits for it has cancelled it."""
        assert self._waiters is not None
        self._waiters.remove(waiter)
        self.in_use = bool(self._waiters or self._messages)

    def end(self, error: NotConnected) -> None:
        """No message will come any more: fail those who wait, and those who ask when all that came is taken."""
        if self._ended is None:
            self._ended = error
            while self._waiters:  # one that is told may cancel others
                self._waiters.popleft().errback(error)
            self._waiters = None
            self.in_use = bool(self._messages)


def _hand(waiter: Deferred[Any], message: Any) -> None:
    if isinstance(message, UndecodableMessage):
        waiter.errback(message)
    else:
        waiter.callback(message)
