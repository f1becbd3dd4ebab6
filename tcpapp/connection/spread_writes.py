"""
Writes of many connections, spread over turns: one message to ten thousand connections must not hold up all others.

The bytes are in their outboxes already, so the order of the bytes of a connection does not depend on when its turn
comes. A write of a connection that comes before its turn takes these bytes with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime

from tcpapp.limits.fairness import turn_seconds

__all__ = ["SpreadWrites"]

AT_ONCE: Final = 16
"""The writes between two looks at the clock: our choice. They take half of a turn, and a turn has a cost of its own."""


class Writer(Protocol):
    """What has bytes to write."""

    def take_turn(self) -> None:
        """Write them now."""


class SpreadWrites:
    """
    The writes that wait for a turn: first come, first served. It sets a timer only while a write waits.

    Between two turns the event loop serves all connections once, as between two turns of a `FairShare`.
    """

    __slots__ = ("_due", "_is_scheduled")

    def __init__(self) -> None:
        self._due: deque[Writer] = deque()
        self._is_scheduled = False

    def __len__(self) -> int:
        """Return how many writes wait."""
        return len(self._due)

    def add(self, writers: Iterable[Writer], clock: IReactorTime, microseconds: int) -> None:
        """Give each of `writers` its turn, from the next one on: for about `microseconds` in each (0: no limit)."""
        self._due.extend(writers)
        if not self._is_scheduled:
            self._is_scheduled = True
            clock.callLater(0, self._run, clock, turn_seconds(microseconds))

    def _run(self, clock: IReactorTime, seconds: float) -> None:
        due = self._due
        ends = clock.seconds() + seconds
        try:
            while due:
                for _ in range(min(AT_ONCE, len(due))):
                    due.popleft().take_turn()
                if clock.seconds() >= ends:
                    break
        finally:
            self._is_scheduled = bool(due)
            if due:
                clock.callLater(0, self._run, clock, seconds)
