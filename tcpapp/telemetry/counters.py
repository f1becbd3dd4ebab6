"""Counters of all connections of a factory: how much they receive, how fast, and what was not sent."""

from __future__ import annotations

from collections import deque

__all__ = ["RECENT", "Counters"]

RECENT = 10
"""Seconds that a rate is averaged over: our choice; long enough to show a rate of one in a few seconds."""


class Counters:
    """
    What all connections of a factory received: `messages` and `bytes`, which connections add to.

    `late_replies` counts replies that no request waited for. `failed_sends` counts messages whose ``send`` failed
    because the connection was not open (any more).

    A chunk costs two additions and a comparison: a connection that adds at `until` or later calls `mark` first.
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
        """A new second has begun: remember the counts before it."""
        self._marks.append((now, self.messages, self.bytes))
        self.until = now + 1
        while now - self._marks[0][0] > RECENT:
            self._marks.popleft()

    def rates(self, now: float) -> tuple[float, float]:
        """Messages and bytes received per second, over the last ten seconds."""
        recent = ((messages, size) for at, messages, size in self._marks if now - at <= RECENT)
        messages, size = next(recent, (self.messages, self.bytes))
        return (self.messages - messages) / RECENT, (self.bytes - size) / RECENT
