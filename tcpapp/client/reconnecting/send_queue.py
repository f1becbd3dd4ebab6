"""The messages of a client that wait for a connection, and the messages that were sent and not confirmed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from tcpapp.connection.unhandled import unlogged
from tcpapp.limits import Recovery

__all__ = ["Outgoing", "SendQueue", "Unconfirmed"]


class Outgoing:
    """
    One message that a client sends. While it waits, `size` is its number of bytes as framed.

    `deferred` is the Deferred of the caller; `None` after it has fired, or without a caller. `timer` fires when the
    message's time is over. `under` is the Deferred of the connection that it was given to, as the message at
    `position`.
    """

    __slots__ = ("deferred", "idempotent", "is_request", "message", "position", "size", "timer", "under")

    def __init__(self, message: Any, *, is_request: bool, idempotent: bool = False) -> None:
        self.message = message
        self.size = 0
        self.deferred: Deferred[Any] | None = None
        self.is_request = is_request
        self.idempotent = idempotent
        self.timer: IDelayedCall | None = None
        self.under: Deferred[Any] | None = None
        self.position = 0

    def finish(self, result: Any) -> None:
        """Fire the caller's Deferred once, with a result, a `Failure` or an exception."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        deferred, self.deferred = self.deferred, None
        if deferred is None:
            return
        if isinstance(result, Exception):
            unlogged(deferred).errback(result)
        else:
            deferred.callback(result)


class SendQueue:
    """
    The messages that wait for a connection, in order. Messages that are sent again come first. `Recovery` bounds the
    queue.
    """

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._again: deque[Outgoing] = deque()
        self._new: deque[Outgoing] = deque()
        self.size = 0

    def __len__(self) -> int:
        """Return the number of waiting messages."""
        return len(self._again) + len(self._new)

    def __iter__(self) -> Iterator[Outgoing]:
        """Return an iterator of the waiting messages, the next one first."""
        yield from self._again
        yield from self._new

    def refusal(self, size: int) -> str:
        """Return why one more message of this size cannot wait; ``""`` if it can."""
        recovery = self._recovery
        if len(self) >= recovery.max_waiting:
            return f"{len(self)} messages wait for a connection, which is the limit (max_waiting)"
        if self.size + size > recovery.max_waiting_bytes:
            return (
                f"{self.size} bytes wait for a connection; at most {recovery.max_waiting_bytes} (max_waiting_bytes) can"
            )
        return ""

    def add(self, each: Outgoing, size: int, *, again: bool = False) -> None:
        """Add a message of `size` bytes as framed: at the end, or with `again` at the beginning."""
        (self._again if again else self._new).append(each)
        each.size = size
        self.size += size

    def next(self) -> Outgoing | None:
        """Return the next message, which stays in the queue; `None` if the queue is empty."""
        queue = self._again or self._new
        return queue[0] if queue else None

    def remove(self, each: Outgoing) -> bool:
        """Remove a message from the queue. Returns whether it was there."""
        for queue in (self._again, self._new):
            if each in queue:
                queue.remove(each)
                self.size -= each.size
                return True
        return False

    def take_all(self) -> list[Outgoing]:
        """Remove all messages from the queue, and return them."""
        found = [*self]
        self._again.clear()
        self._new.clear()
        self.size = 0
        return found


class Unconfirmed:
    """
    The messages that were sent on one connection, and that can be lost with it.

    The reply to a request proves that the peer has read all messages before it. Over the bounds of `Recovery`, the
    oldest messages are forgotten; `forgotten` counts them.
    """

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._messages: deque[tuple[int, Any, int]] = deque()
        self._size = 0
        self.forgotten = 0

    def add(self, position: int, message: Any) -> None:
        """Add a message that was sent at `position`."""
        size = len(message) if isinstance(message, bytes) else 0
        self._messages.append((position, message, size))
        self._size += size
        while len(self._messages) > self._recovery.max_waiting or self._size > self._recovery.max_waiting_bytes:
            self._drop_first()
            self.forgotten += 1

    def confirm(self, position: int) -> None:
        """Remove the message at `position` and all before it, because the peer has read them."""
        while self._messages and self._messages[0][0] <= position:
            self._drop_first()

    def take_all(self) -> list[Any]:
        """Remove all messages, and return them."""
        found = [message for _, message, _ in self._messages]
        self._messages.clear()
        self._size = 0
        return found

    def _drop_first(self) -> None:
        _, _, size = self._messages.popleft()
        self._size -= size
