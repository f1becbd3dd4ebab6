"""
One timer for the waits of all connections of a factory: they share one delayed call of the clock.

Each connection has at most one time at which its `Deadlines` are to look again. The times of the present second are in
a heap, and later times wait in a list for each second. So a time costs a connection 8 bytes, and no delayed call.

A time that no longer counts stays where it is until its second comes, or until there are too many of these.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["SharedTimer"]

ROUNDING: Final = 1e-6
"""Seconds by which the call can come early: sums of floats are not exact."""

SPARE: Final = 64
"""Up to so many times that no longer count are kept in any case. Our choice: they take half a kilobyte."""

RUNNING: Final = -inf
"""The time of the call while the connections look: no other call is made then."""


class SharedTimer:
    """
    The timer of all connections of a factory that run on `clock`.

    `set` is called with the `Deadlines` of a connection, whose `timer_at` is the time by the clock at which their
    `on_timer` is called; infinity stands for no time. At most `SPARE` and twice as many times are kept as count. When
    the last one is unset, no delayed call is left.
    """

    __slots__ = (
        "_call",
        "_call_at",
        "_count",
        "_later",
        "_near",
        "_near_until",
        "_order",
        "_running",
        "_seconds",
        "clock",
        "seconds",
    )

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.seconds: Callable[[], float] = clock.seconds
        self._call: IDelayedCall | None = None
        self._call_at = inf
        self._near: list[tuple[float, int, Any]] = []
        self._near_until = 0.0
        self._later: dict[int, list[Any]] = {}
        self._seconds: list[int] = []
        self._order = 0
        self._count = 0
        self._running = 0

    def __len__(self) -> int:
        """How many times are kept, with the times that no longer count."""
        return self._count

    def set(self, deadlines: Any, at: float) -> None:
        """Call ``on_timer`` of these `deadlines` at this time, and not at the time that was set before."""
        if deadlines.timer_at == inf:
            self._running += 1
        deadlines.timer_at = at
        self._keep(deadlines, at)
        if at < self._call_at:
            self._call_by(at)
        if self._count > 2 * self._running + SPARE:
            self._sweep()

    def unset(self, deadlines: Any) -> None:
        """Do not call these `deadlines`. Does nothing where no time is set."""
        if deadlines.timer_at == inf:
            return
        deadlines.timer_at = inf
        self._running -= 1
        if not self._running:
            self._clear()
        elif self._count > 2 * self._running + SPARE:
            self._sweep()

    def _keep(self, deadlines: Any, at: float) -> None:
        self._count += 1
        if self._count == 1:
            self._near_until = int(at) + 1.0
        if at < self._near_until:
            self._order += 1
            heappush(self._near, (at, self._order, deadlines))
            return
        second = int(at)
        found = self._later.get(second)
        if found is None:
            self._later[second] = [deadlines]
            heappush(self._seconds, second)
        else:
            found.append(deadlines)

    def _call_by(self, at: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call_at = at
        self._call = self.clock.callLater(max(0.0, at - self.seconds()), self._on_call)

    def _on_call(self) -> None:
        self._call, self._call_at = None, RUNNING
        now = self.seconds() + ROUNDING
        due = []
        while self._has_near() and self._near[0][0] <= now:
            due.append(heappop(self._near))
            self._count -= 1
        done = 0
        try:
            for at, _, deadlines in due:  # a time that is set meanwhile has another turn
                done += 1
                if deadlines.timer_at == at:  # else an earlier one has ended it
                    deadlines.timer_at = inf
                    self._running -= 1
                    deadlines.on_timer(at)
        finally:
            for at, _, deadlines in due[done:]:  # one of them has raised an error
                if deadlines.timer_at == at:
                    self._keep(deadlines, at)
            self._call_at = inf
            if self._running:
                self._has_near()
                self._call_by(self._near[0][0])
            else:
                self._clear()

    def _has_near(self) -> bool:
        """Whether there is a time: then the first of the heap is the first that counts."""
        while True:
            near = self._near
            while near and near[0][2].timer_at != near[0][0]:
                heappop(near)
                self._count -= 1
            if near or not self._seconds:
                return bool(near)
            second = heappop(self._seconds)
            self._near_until = second + 1.0
            found = self._later.pop(second)
            self._count -= len(found)
            for each in _waiting(found, second):
                self._keep(each, each.timer_at)

    def _sweep(self) -> None:
        """Keep only the times that count."""
        near, later = self._near, self._later
        self._near = [each for each in near if each[2].timer_at == each[0]]
        heapify(self._near)
        self._later = {}
        self._count = len(self._near)
        for second, kept in later.items():
            found = _waiting(kept, second)
            if found:
                self._later[second] = found
                self._count += len(found)
        self._seconds = list(self._later)
        heapify(self._seconds)

    def _clear(self) -> None:
        call, self._call = self._call, None
        self._near, self._later, self._seconds = [], {}, []
        self._count = 0
        if self._call_at > RUNNING:
            self._call_at = inf
        if call is not None:
            call.cancel()


def _waiting(kept: list[Any], second: int) -> list[Any]:
    """Those of the deadlines that still wait for a time in this second, each once."""
    return list(dict.fromkeys([each for each in kept if each.timer_at < inf and int(each.timer_at) == second]))
