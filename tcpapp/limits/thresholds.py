"""
Alarms for limits that are nearly reached: one alarm each time, early enough to react.

This module does no I/O, and remembers only the limits that are near now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tcpapp.limits.networks import Place

__all__ = ["NEAR", "Notify", "Thresholds"]

NEAR = 0.8
"""
From this part on a limit is near. The memory of all connections is short from the same part on
(`tcpapp.limits.memory_budget`).
"""

LEFT_BEHIND = 0.7
"""At this part a limit is no longer near. Below `NEAR`, so that a change by one does not repeat the alarm."""


class Notify(Protocol):
    """
    A function that is called with the limit's name, the current number, the limit, and the place of a limit for one
    place.
    """

    def __call__(self, name: str, value: int, limit: int, where: str = "") -> None:
        """Note that the limit `name` is near."""


class Thresholds:
    """
    Calls `notify` when a number comes near its limit. A limit of 0 is no limit. Limits below 5 cause no alarm.

    A limit holds for the whole server, or for each place. `where` returns the name of the place, and is called only for
    an alarm.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._near: set[tuple[str, Place | None]] = set()

    def __bool__(self) -> bool:
        """Return whether a limit is near."""
        return bool(self._near)

    def increased(
        self, name: str, value: int, limit: int, place: Place | None = None, where: Callable[[], str] = lambda: ""
    ) -> None:
        """Note that the count of the limit `name` rose by one, to `value`."""
        if limit * NEAR <= value < limit and (name, place) not in self._near:
            self._near.add((name, place))
            self._notify(name, value, limit, where())

    def decreased(self, name: str, value: int, limit: int, place: Place | None = None) -> None:
        """Note that the count of the limit `name` fell by one, to `value`."""
        if value <= limit * LEFT_BEHIND:
            self._near.discard((name, place))
