"""
When a limit is near: told while there is still time to do something, and once for each time that it comes near.

It does no I/O, and remembers no more than the limits that are near now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tcpapp.limits.networks import Place

__all__ = ["Alarm", "Tell"]

NEAR = 0.8
"""
The part of a limit from which on it is near: where the memory of all connections is short, too
(`tcpapp.limits.memory_budget`).
"""

LEFT = 0.7
"""The part at which it has been left behind: below `NEAR`, so that one more or less is not told again and again."""


class Tell(Protocol):
    """Who is told: the limit's name, how many there are, how many there may be, and where, if it is not everywhere."""

    def __call__(self, name: str, value: int, limit: int, where: str = "") -> None:
        """The limit is near."""


class Alarm:
    """
    Calls `tell` when a number comes near its limit. A limit of 0 is none, and below 5 there is nothing near to full.

    A limit holds in all, or for each place; `where` names it, and is called only if it is told.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._near: set[tuple[str, Place | None]] = set()

    def rose(
        self, name: str, value: int, limit: int, place: Place | None = None, where: Callable[[], str] = lambda: ""
    ) -> None:
        """There is one more: `value` of `limit`."""
        if limit * NEAR <= value < limit and (name, place) not in self._near:
            self._near.add((name, place))
            self._tell(name, value, limit, where())

    def fell(self, name: str, value: int, limit: int, place: Place | None = None) -> None:
        """There is one less."""
        if value <= limit * LEFT:
            self._near.discard((name, place))
