"""The one order of all events in a simulation: a heap of events, and a clock that jumps between them."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.base import DelayedCall

__all__ = ["Later", "Timeline", "Turns"]

Entry = tuple[float, int, int, "Turns", Callable[[Any], object], Any]
"""
The time, the place among the events of that moment, a number that settles the rest; its owner, its call, the argument.
"""

TIES = 256
"""Places among the events of one moment."""

MANY_STALE = 1024
"""Cancelled events for which the heap is cleaned, once they are half of it."""


class Turns:
    """
    The owner of events: a process, which can die, or the world, which cannot.

    `place` gives an event's place among all events of its moment. Events that one process schedules at one moment for
    another keep their order. So do timers on a real clock, where time passes between one `callLater` and the next.
    `name` is the name of the process's host; ``""``: the world's.
    """

    __slots__ = ("_draw", "_moment", "_place", "alive", "name")

    def __init__(self, draw: Callable[[int], int], name: str = "") -> None:
        self.name = name
        self._draw = draw
        self._moment = -1.0
        self._place = 0
        self.alive = True

    def place(self, now: float) -> int:
        """The place for an event that is scheduled now."""
        if now != self._moment:
            self._moment = now
            self._place = self._draw(TIES)
        return self._place

    def io_place(self) -> int:
        """The place for an event from outside, without any order."""
        return self._draw(TIES)


class Later:
    """An event that has not happened yet, and that can be cancelled until then."""

    __slots__ = ("_active", "_arguments", "_call")

    def __init__(self, call: Callable[..., object], *arguments: Any) -> None:
        self._call = call
        self._arguments = arguments
        self._active = True

    def cancel(self) -> None:
        """Cancel it."""
        self._active = False

    def active(self) -> bool:
        """Whether it will happen."""
        return self._active

    def happen(self) -> None:
        """Let it happen, now."""
        self._active = False
        self._call(*self._arguments)


CANCELLABLE = DelayedCall, Later


def is_stale(entry: Entry) -> bool:
    """Whether the event was cancelled, or its process is gone."""
    argument = entry[5]
    return not entry[3].alive or (isinstance(argument, CANCELLABLE) and not argument.active())


class Timeline:
    """Events in virtual time. `now` is in seconds since the simulation began; `whose` code runs (`None`: nobody's)."""

    __slots__ = ("_heap", "_number", "_stale", "happened", "now", "whose")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._number = 0
        self._stale = 0
        self.now = 0.0
        self.whose: Turns | None = None
        self.happened = 0

    def at(self, when: float, place: int, whose: Turns, call: Callable[[Any], object], argument: Any) -> int:
        """Let ``call(argument)`` happen; the number of the event."""
        self._number = number = self._number + 1
        heappush(self._heap, (when, place, number, whose, call, argument))
        return number

    def withdrawn(self) -> None:
        """One more event was cancelled; if there are many, they are removed from the heap."""
        self._stale += 1
        if self._stale > MANY_STALE and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not is_stale(entry)]
            heapify(self._heap)
            self._stale = 0

    def next_time(self) -> float | None:
        """When the next event is due; `None` without one."""
        heap = self._heap
        while heap and is_stale(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def step(self) -> None:
        """Let the next event, which must be there, happen."""
        when, _, _, self.whose, call, argument = heappop(self._heap)
        self.now = max(self.now, when)
        self.happened += 1
        try:
            call(argument)
        finally:
            self.whose = None

    def __len__(self) -> int:
        return len(self._heap)
