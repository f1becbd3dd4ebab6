"""
Alarms for limits that are nearly reached: one alarm each time, while there is still time to react.

It does no I/O, and remembers only the limits that are near now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tcpapp.limits.networks import Place

__all__ = ["Notify", "Thresholds"]

NEAR = 0.8
"""
The part of a limit from which on it is near. Memory of all connections counts as short from the same part on
(`tcpapp.limits.memory_budget`).
"""

LEFT_BEHIND = 0.7
"""The part at which a limit is no longer near: below `NEAR`, so that a change by one does not repeat the alarm."""


class Notify(Protocol):
    """
    A listener: it gets the limit's name, the current number, the limit, and the place if the limit is for one place.
    """

    def __call__(self, name: str, value: int, limit: int, where: str = "") -> None:
        """The limit is near."""


class Thresholds:
    """
    Calls `notify` when a number comes near its limit. A limit of 0 is no limit, and limits below 5 have no near state.

    A limit holds for the whole server, or for each place. `where` names the place, and is called only for an alarm.
    """

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._near: set[tuple[str, Place | None]] = set()

    def increased(
        self, name: str, value: int, limit: int, place: Place | None = None, where: Callable[[], str] = lambda: ""
    ) -> None:
        """The count of `limit` rose by one, to `value`."""
        if limit * NEAR <= value < limit and (name, place) not in self._near:
            self._near.add((name, place))
            self._notify(name, value, limit, where())

    def decreased(self, name: str, value: int, limit: int, place: Place | None = None) -> None:
        """The count of `limit` fell by one."""
        if value <= limit * LEFT_BEHIND:
            self._near.discard((name, place))
