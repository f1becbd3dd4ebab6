"""What all connections of a factory count: how much comes in, and how fast; and what was not sent."""

from __future__ import annotations

from collections import deque

__all__ = ["RECENT", "Traffic"]

RECENT = 10
"""Seconds that a rate is reckoned over: our choice; long enough for a rate of one in a few seconds to be seen."""


class Traffic:
    """
    What came in on all connections of a factory: `messages` and `bytes`, which connections add to; `late_replies`, for
    which nobody waited; and `failed_sends`, the messages whose ``send`` failed as there was no connection (any more).

    For a chunk that is two additions and a comparison: whoever adds at `until` or later calls `mark` first.
    """

    __slots__ = ("_marks", "bytes", "failed_sends", "late_replies", "messages", "until")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.late_replies = 0
        self.failed_sends = 0
        self.until = 0.0
        self._marks: deque[tuple[float, int, int]] = deque()

    def mark(self, now: float) -> None:
        """A second has begun: remember what came before it."""
        self._marks.append((now, self.messages, self.bytes))
        self.until = now + 1
        while now - self._marks[0][0] > RECENT:
            self._marks.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """How many messages and bytes came a second, over the last ten."""
        recent = ((messages, size) for at, messages, size in self._marks if now - at <= RECENT)
        messages, size = next(recent, (self.messages, self.bytes))
        return (self.messages - messages) / RECENT, (self.bytes - size) / RECENT
