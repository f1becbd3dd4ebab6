"""
The memory budget: how many bytes all connections hold together, and what happens when they hold too many.

A peer that sends and never reads, or that begins a long message and never ends it, makes us hold bytes. Each connection
has its own bounds, but five thousand connections can hold five thousand times as much. So there is one bound for all
connections together (``max_buffered``).

From four fifths of the bound on, connections that hold more than their share are not read from. Above the bound, the
connections that hold the most are cut, until all hold at most nine tenths of it. Connections that hold little are
served as before.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

__all__ = ["Holder", "MemoryBudget"]

HIGH_MARK = 0.8
"""From this part of the bound on, large holders are not read from. Our choice: a fifth is left for all others."""

SHED_MARK = 0.9
"""
The largest holders are cut until all hold at most this part of the bound. Below 1, so that not each further message
cuts a connection.
"""

LOW_MARK = 0.7
"""
At this part all connections are read from again. Below `HIGH_MARK`, so that one message does not pause them again.
"""


class Holder(Protocol):
    """A connection that holds bytes, or a message that several connections send."""

    @property
    def connections(self) -> int:
        """How many connections end when it is shed: at least 1."""
        ...

    @property
    def held_bytes(self) -> int:
        """The number of bytes that it holds now."""
        ...

    def pause_reading(self) -> None:
        """Read nothing more, so that it holds as little as possible."""

    def resume_reading(self) -> None:
        """Read as before."""

    def shed(self, held_bytes: int, limit: int) -> None:
        """
        End its connections and give up its `held_bytes`: all connections hold more than `limit` bytes, and these the
        most.
        """


class MemoryBudget:
    """
    Counts the bytes that all connections of one factory hold: at most `limit` bytes; 0 is no limit.

    When the first connection is no longer read from, `alarm` is called with the number of bytes and the limit. `shed`
    counts the connections that were cut.
    """

    def __init__(self, limit: int, alarm: Callable[[int, int], None]) -> None:
        self.limit = limit
        self.total = 0
        self.shed = 0
        self._alarm = alarm
        self._held: dict[Holder, int] = {}
        self._paused: dict[Holder, None] = {}

    def update(self, holder: Holder, amount: int) -> None:
        """Note that `holder` holds `amount` bytes now. Pauses, resumes and cuts connections as needed."""
        before = self._set(holder, amount)
        if self.total <= (self.limit or inf) * HIGH_MARK:
            if self._paused and self.total <= self.limit * LOW_MARK:
                self._resume_all()
        elif amount > before:
            self._pause_largest(holder, amount)

    def forget(self, holder: Holder) -> None:
        """Note that `holder` has ended, and holds nothing any more."""
        if holder in self._held or self._paused:
            self._paused.pop(holder, None)
            self.update(holder, 0)

    def _set(self, holder: Holder, amount: int) -> int:
        before = self._held.pop(holder, 0)
        if amount:
            self._held[holder] = amount
        self.total += amount - before
        return before

    def _pause_largest(self, holder: Holder, amount: int) -> None:
        if amount > self.limit * HIGH_MARK / len(self._held) and holder not in self._paused:
            if not self._paused:
                self._alarm(self.total, self.limit)
            self._paused[holder] = None
            holder.pause_reading()
        if self.total > self.limit:
            self._shed()

    def _shed(self) -> None:
        """
        Cut the holders with the most bytes for each of their connections. The noted amounts can be out of date, so each
        holder is asked first.
        """
        for each in list(self._held):
            self._set(each, each.held_bytes)
        for each, held_bytes in sorted(self._held.items(), key=lambda item: -item[1] / item[0].connections):
            if self.total <= self.limit * SHED_MARK:
                break
            if each not in self._held:  # a listener ended it, when it got the event of another cut
                continue
            self._set(each, 0)
            self._paused.pop(each, None)
            self.shed += 1
            each.shed(held_bytes, self.limit)

    def _resume_all(self) -> None:
        paused, self._paused = self._paused, {}
        for each in paused:
            each.resume_reading()
