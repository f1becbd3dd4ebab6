"""
How many bytes all connections together hold, and what is done when it is too many.

One that sends and does not read, or begins a long message and does not end it, holds bytes of ours; each has its own
bounds, but five thousand of them have five thousand times as much. So there is a bound for all of them together
(``max_buffered``). From four fifths of it on, whoever holds more than its part is not read from; over it, those that
hold the most are cut, until it is nine tenths. Those who hold little are served as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

__all__ = ["Holder", "Memory"]

PRESSED = 0.8
"""The part of the bound from which on the greedy are not read from. Our choice: a fifth is left for all others."""

SHED_TO = 0.9
"""The part of the bound down to which the largest are cut, so that it is not one for each message that comes."""

RELIEVED = 0.7
"""The part at which all are read from again: below `PRESSED`, so that one message more or less makes no difference."""


class Holder(Protocol):
    """A connection, which holds bytes."""

    @property
    def holds(self) -> int:
        """How many bytes it holds now."""
        ...

    def squeeze(self) -> None:
        """Hold no more than can be helped: read nothing."""

    def relieve(self) -> None:
        """Read as ever."""

    def shed(self, holds: int, limit: int) -> None:
        """All together hold more than the `limit`, and this one, with so many bytes, the most: let go of them."""


class Memory:
    """
    The bytes of all connections of one factory: at most `limit` of them, 0 for any number.

    `alarm` is called with how many there are, and the limit, when the first is not read from any more; `shed` counts
    those that were cut.
    """

    def __init__(self, limit: int, alarm: Callable[[int, int], None]) -> None:
        self.limit = limit
        self.total = 0
        self.shed = 0
        self._alarm = alarm
        self._held: dict[Holder, int] = {}
        self._squeezed: dict[Holder, None] = {}

    @property
    def pressed(self) -> bool:
        """Whether somebody is not read from, for want of memory."""
        return bool(self._squeezed)

    def note(self, holder: Holder, amount: int) -> None:
        """`holder` holds `amount` bytes now."""
        before = self._set(holder, amount)
        if self.total <= (self.limit or inf) * PRESSED:
            if self._squeezed and self.total <= self.limit * RELIEVED:
                self._relieve()
        elif amount > before:
            self._press(holder, amount)

    def forget(self, holder: Holder) -> None:
        """`holder` is gone, and all that it held."""
        self._squeezed.pop(holder, None)
        self.note(holder, 0)

    def _set(self, holder: Holder, amount: int) -> int:
        before = self._held.pop(holder, 0)
        if amount:
            self._held[holder] = amount
        self.total += amount - before
        return before

    def _press(self, holder: Holder, amount: int) -> None:
        if amount > self.limit * PRESSED / len(self._held) and holder not in self._squeezed:
            if not self._squeezed:
                self._alarm(self.total, self.limit)
            self._squeezed[holder] = None
            holder.squeeze()
        if self.total > self.limit:
            self._shed()

    def _shed(self) -> None:
        """Cut those that hold the most. What is noted may be more than what there is by now, and is looked up first."""
        for each in list(self._held):
            self._set(each, each.holds)
        for each, holds in sorted(self._held.items(), key=lambda item: -item[1]):
            if self.total <= self.limit * SHED_TO:
                break
            if each not in self._held:  # it ended with another one, by what somebody does who was told of that
                continue
            self._set(each, 0)
            self._squeezed.pop(each, None)
            self.shed += 1
            each.shed(holds, self.limit)

    def _relieve(self) -> None:
        squeezed, self._squeezed = self._squeezed, {}
        for each in squeezed:
            each.relieve()
