"""The timeline: one order of all events in a simulation, and a clock that jumps from event to event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.base import DelayedCall

__all__ = ["Later", "Timeline", "Turns"]

Entry = tuple[float, int, int, "Turns", Callable[[Any], object], Any]
"""
An event: its time, its place among the events of that moment, a serial number, its owner, its call, and the argument.
"""

TIES = 256
"""The number of places among the events of one moment."""

MANY_STALE = 1024
"""With this many cancelled events the heap is cleaned, if they are half of it."""


class Turns:
    """
    The owner of events: a process, which can end, or the world outside the processes.

    `place` returns the place of an event among all events of its moment. Events that one process schedules at one
    moment for another moment keep their order. So do timers on a real clock, where time passes between one `callLater`
    and the next. `name` is the name of the host of the process; ``""`` for the world.
    """

    __slots__ = ("_draw", "_moment", "_place", "alive", "name")

    def __init__(self, draw: Callable[[int], int], name: str = "") -> None:
        self.name = name
        self._draw = draw
        self._moment = -1.0
        self._place = 0
        self.alive = True

    def place(self, now: float) -> int:
        """Return the place of an event that the process schedules now."""
        if now != self._moment:
            self._moment = now
            self._place = self._draw(TIES)
        return self._place

    def io_place(self) -> int:
        """Return a random place for an event from outside the process, which keeps no order."""
        return self._draw(TIES)


class Later:
    """An event that can be cancelled until it happens: ``call(*arguments)``."""

    __slots__ = ("_active", "_arguments", "_call")

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...] = ()) -> None:
        self._call = call
        self._arguments = arguments
        self._active = True

    def cancel(self) -> None:
        """Cancel the event. Does nothing after it has happened."""
        self._active = False

    def active(self) -> bool:
        """Return whether the event will still happen."""
        return self._active

    def happen(self) -> None:
        """Let the event happen now."""
        self._active = False
        self._call(*self._arguments)


CANCELLABLE = frozenset({DelayedCall, Later})
"""The classes of arguments that can be cancelled."""


def is_stale(entry: Entry) -> bool:
    """Return whether an event will not happen: it was cancelled, or its process has ended."""
    argument = entry[5]
    return not entry[3].alive or (type(argument) in CANCELLABLE and not argument.active())


class Timeline:
    """
    The events, in virtual time. `now` is in seconds since the simulation began. `whose` is the owner of the running
    event.
    """

    __slots__ = ("_heap", "_number", "_stale", "happened", "now", "whose")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._number = 0
        self._stale = 0
        self.now = 0.0
        self.whose: Turns | None = None
        self.happened = 0

    def at(self, when: float, place: int, whose: Turns, call: Callable[[Any], object], argument: Any) -> int:
        """Schedule ``call(argument)`` for the time `when`. Returns the serial number of the event."""
        self._number = number = self._number + 1
        heappush(self._heap, (when, place, number, whose, call, argument))
        return number

    def withdrawn(self) -> None:
        """Count a cancelled event. If there are many, they are removed from the heap."""
        self._stale += 1
        if self._stale > MANY_STALE and self._stale * 2 > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if not is_stale(entry)]  # `run` holds the list
            heapify(self._heap)
            self._stale = 0

    def next_time(self) -> float | None:
        """Return the time of the next event; `None` if there is none."""
        heap = self._heap
        while heap and is_stale(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def run(self, until: float | None, last: int, ended: Sequence[object], failures: Sequence[object]) -> bool:
        """
        Let events happen until `ended` or `failures` has an item, or until `happened` is `last`.

        Returns `False` if no event is left, or the next one is after the time `until`.
        """
        heap = self._heap
        while not ended and not failures and self.happened < last:
            if not heap:
                return False
            entry = heappop(heap)
            when, _, _, whose, call, argument = entry
            if not whose.alive or (type(argument) in CANCELLABLE and not argument.active()):
                continue
            if until is not None and when > until:
                heappush(heap, entry)
                return False
            self.now = max(self.now, when)
            self.happened += 1
            self.whose = whose
            try:
                call(argument)
            finally:
                self.whose = None
        return True

    def __len__(self) -> int:
        return len(self._heap)
