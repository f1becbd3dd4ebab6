"""The messages of a client: messages that wait for a connection, and messages that were given to one."""

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
    One message that a client sends; while it waits, of `size` bytes as framed.

    `deferred` is the caller's; `None` once it has fired, or without a caller. `timer` ends its time. `under` is the
    Deferred of the connection it was written to, as the message at `position`.
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
        """Fire the caller's Deferred, once: ``result`` can be a `Failure` or an exception."""
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
    """Messages that wait for a connection, in order; messages that are sent again come first. `Recovery` bounds it."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._again: deque[Outgoing] = deque()
        self._new: deque[Outgoing] = deque()
        self.size = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._again) + len(self._new)

    def __iter__(self) -> Iterator[Outgoing]:
        """The waiting messages, the next one first."""
        yield from self._again
        yield from self._new

    def refusal(self, size: int) -> str:
        """Why one more message of this size cannot wait; ``""`` if it can."""
        recovery = self._recovery
        if len(self) >= recovery.max_waiting:
            return f"{len(self)} messages wait for a connection, which is the limit (max_waiting)"
        if self.size + size > recovery.max_waiting_bytes:
            return (
                f"{self.size} bytes wait for a connection; at most {recovery.max_waiting_bytes} (max_waiting_bytes) can"
            )
        return ""

    def add(self, each: Outgoing, size: int, *, again: bool = False) -> None:
        """Add a message, which takes this many bytes as framed."""
        (self._again if again else self._new).append(each)
        each.size = size
        self.size += size

    def next(self) -> Outgoing | None:
        """The next message, which stays in the queue."""
        queue = self._again or self._new
        return queue[0] if queue else None

    def remove(self, each: Outgoing) -> bool:
        """Remove it from the queue. Returns whether it was there."""
        for queue in (self._again, self._new):
            if each in queue:
                queue.remove(each)
                self.size -= each.size
                return True
        return False

    def take_all(self) -> list[Outgoing]:
        """Take all messages out of the queue."""
        found = [*self]
        self._again.clear()
        self._new.clear()
        self.size = 0
        return found


class Unconfirmed:
    """
    The messages that were sent on one connection, and can be lost with it.

    A reply to a request proves that the peer has read everything sent before it. Over the bounds of `Recovery`, the
    oldest messages are forgotten: `forgotten` counts them.
    """

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._messages: deque[tuple[int, Any, int]] = deque()
        self._size = 0
        self.forgotten = 0

    def add(self, position: int, message: Any) -> None:
        """Add a message that was sent, at `position`."""
        size = len(message) if isinstance(message, bytes) else 0
        self._messages.append((position, message, size))
        self._size += size
        while len(self._messages) > self._recovery.max_waiting or self._size > self._recovery.max_waiting_bytes:
            self._drop_first()
            self.forgotten += 1

    def confirm(self, position: int) -> None:
        """The message at `position` was read, and all before it."""
        while self._messages and self._messages[0][0] <= position:
            self._drop_first()

    def take_all(self) -> list[Any]:
        """Take all messages out."""
        found = [message for _, message, _ in self._messages]
        self._messages.clear()
        self._size = 0
        return found

    def _drop_first(self) -> None:
        _, _, size = self._messages.popleft()
        self._size -= size
