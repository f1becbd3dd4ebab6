"""What a client has to send: what waits for a connection, and what was given to one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from tcpapp.connection.unhandled import unlogged
from tcpapp.limits import Recovery

__all__ = ["Outgoing", "Queue", "Unconfirmed"]


class Outgoing:
    """
    One message that a client is to send; while it waits, of `size` bytes as it stands on the wire.

    `deferred` is its caller's, `None` once that has been told, or where nobody is to be; `timer` ends its time, and
    `under` is what the connection gave that it was written to, as the one at `position`.
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
        """Tell the caller, unless it has been told: ``result`` may be a `Failure` or an exception."""
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


class Queue:
    """What waits for a connection, in order: those that are sent again come first. It is bounded by `Recovery`."""

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._again: deque[Outgoing] = deque()
        self._new: deque[Outgoing] = deque()
        self.size = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._again) + len(self._new)

    def __iter__(self) -> Iterator[Outgoing]:
        """Those that wait, the next one first."""
        yield from self._again
        yield from self._new

    def refusal(self, size: int) -> str:
        """Why a further one of this size may not wait; ``""`` where it may."""
        recovery = self._recovery
        if len(self) >= recovery.max_waiting:
            return f"{len(self)} messages wait for a connection, which is the limit (max_waiting)"
        if self.size + size > recovery.max_waiting_bytes:
            return (
                f"{self.size} bytes wait for a connection; at most {recovery.max_waiting_bytes} (max_waiting_bytes) may"
            )
        return ""

    def add(self, each: Outgoing, size: int, *, again: bool = False) -> None:
        """One more waits, which takes so many bytes on the wire."""
        (self._again if again else self._new).append(each)
        each.size = size
        self.size += size

    def next(self) -> Outgoing | None:
        """The one that comes next; it waits on."""
        queue = self._again or self._new
        return queue[0] if queue else None

    def remove(self, each: Outgoing) -> bool:
        """It does not wait any more. Whether it did."""
        for queue in (self._again, self._new):
            if each in queue:
                queue.remove(each)
                self.size -= each.size
                return True
        return False

    def take_all(self) -> list[Outgoing]:
        """None waits any more."""
        found = [*self]
        self._again.clear()
        self._new.clear()
        self.size = 0
        return found


class Unconfirmed:
    """
    The messages that were sent on one connection, and may be lost with it.

    A reply to a request says that the peer has read all that was sent before it. Those that are too many, by
    `Recovery`, are forgotten, the oldest first: `forgotten` counts them.
    """

    def __init__(self, recovery: Recovery) -> None:
        self._recovery = recovery
        self._messages: deque[tuple[int, Any, int]] = deque()
        self._size = 0
        self.forgotten = 0

    def add(self, position: int, message: Any) -> None:
        """One more was sent, as the one at `position`."""
        size = len(message) if isinstance(message, bytes) else 0
        self._messages.append((position, message, size))
        self._size += size
        while len(self._messages) > self._recovery.max_waiting or self._size > self._recovery.max_waiting_bytes:
            self._drop_first()
            self.forgotten += 1

    def confirm(self, position: int) -> None:
        """The one at `position` was read, and so was all before it."""
        while self._messages and self._messages[0][0] <= position:
            self._drop_first()

    def take_all(self) -> list[Any]:
        """The messages, which are forgotten."""
        found = [message for _, message, _ in self._messages]
        self._messages.clear()
        self._size = 0
        return found

    def _drop_first(self) -> None:
        _, _, size = self._messages.popleft()
        self._size -= size
