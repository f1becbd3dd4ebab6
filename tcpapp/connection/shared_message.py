"""
One message that many connections send.

Its bytes are one object, which waits in many outboxes while peers read slowly. So the memory budget counts the object
once, and not again for each connection. ``max_unsent`` counts it in full for each connection.
"""

from __future__ import annotations

from typing import Final

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.outcomes import MEMORY_SHORT, Settler
from tcpapp.limits.memory_budget import MemoryBudget

__all__ = ["LEAST_SHARED", "PLACE_COST", "SharedMessage"]

LEAST_SHARED: Final = 1024
"""Shorter messages are copied where they wait: joined with their neighbours they take less memory than places do."""

PLACE_COST: Final = 128
"""Bytes that count for the place of a message that waits without being copied; it takes 100 bytes on CPython 3.11."""


class SharedMessage:
    """
    The framed bytes (`data`) of a `message` that many connections of one factory send.

    It holds bytes of the `budget` from the first `wait` to the last `leave`, and while it is `gathered`.
    """

    __slots__ = ("_budget", "_gathered", "_waiting", "data", "message")

    def __init__(self, message: bytes, data: bytes, budget: MemoryBudget) -> None:
        self.message = message
        self.data = data
        self._budget = budget
        self._waiting: dict[Settler, None] = {}
        self._gathered = False

    def wait(self, connection: Settler) -> None:
        """The message waits in the outbox of `connection`, which does not count it."""
        first = not self._waiting
        self._waiting[connection] = None
        if first and not self._gathered:
            self._budget.update(self, len(self.data))

    def leave(self, connection: Settler) -> None:
        """The message does not wait there any more. Does nothing if it did not."""
        if connection in self._waiting:
            del self._waiting[connection]
            self._forget()

    def begin_gathering(self) -> None:
        """The message waits for a turn in outboxes that do not count it."""
        self._gathered = True
        if not self._waiting:
            self._budget.update(self, len(self.data))

    def take_turn(self) -> None:
        """All of these outboxes have had their turn."""
        self._gathered = False
        self._forget()

    def _forget(self) -> None:
        if not self._waiting and not self._gathered:
            self._budget.forget(self)

    # What the memory budget calls.

    @property
    def held_bytes(self) -> int:
        """The bytes that it holds now."""
        return len(self.data) if self._waiting or self._gathered else 0

    @property
    def connections(self) -> int:
        """How many connections would end for these bytes."""
        return max(1, len(self._waiting))

    def pause_reading(self) -> None:
        """Nothing is read for it."""

    def resume_reading(self) -> None:
        """Nothing is read for it."""

    def shed(self, held_bytes: int, limit: int) -> None:
        """There is no memory left: end the connections whose peers do not take the message."""
        text = (
            f"all connections together held more than {limit} bytes (max_buffered), {held_bytes} of them for a message "
            f"that this one and {len(self._waiting) - 1} others have not taken"
        )
        for connection in list(self._waiting):
            connection.settle(MEMORY_SHORT, CloseReason(EndedBy.US, "memory-short", text, held_bytes, limit))
