"""Periodic work of a connection: ticks at fixed times, on the connection's one timer."""

from __future__ import annotations

from collections.abc import Callable
from math import floor, inf
from typing import Final

from twisted.internet.defer import Deferred, succeed
from typing_extensions import Self

from tcpapp.connection.deadlines import RESOLUTION, Deadlines
from tcpapp.connection.waiters import fire_all
from tcpapp.errors import InvalidOption

__all__ = ["TICK", "Every", "Ticks"]

TICK: Final = "every"
"""The wait for the next tick, as the deadlines of a connection call it."""


class Ticks:
    """The ticks that one connection waits for. They share a wait of its `Deadlines`, which the first tick ends."""

    __slots__ = ("_deadlines", "_waiting")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._waiting: dict[Deferred[bool], float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def seconds(self) -> float:
        """The time, by the connection's clock."""
        return self._deadlines.seconds()

    def wait(self, at: float) -> Deferred[bool]:
        """Fires with `True` at the time `at`, or with `False` when no more ticks come."""
        waiter: Deferred[bool] = Deferred(self._leave)
        self._waiting[waiter] = at
        if at < self._deadlines.ends(TICK):
            self._start(at)
        return waiter

    def due(self) -> None:
        """The wait is over: fire the ticks whose time has come, and wait for the next one."""
        now = self._deadlines.seconds() + RESOLUTION
        due = [waiter for waiter, at in self._waiting.items() if at <= now]
        for waiter in due:
            del self._waiting[waiter]
        if self._waiting:
            self._start(min(self._waiting.values()))
        fire_all(due, True)

    def end(self) -> None:
        """No more ticks come."""
        waiting, self._waiting = self._waiting, {}
        fire_all(waiting, False)

    def _start(self, at: float) -> None:
        self._deadlines.start(TICK, max(0.0, at - self._deadlines.seconds()))

    def _leave(self, waiter: Deferred[bool]) -> None:
        self._waiting.pop(waiter, None)  # `due` and `end` have taken it out before they fire it
        if not self._waiting:
            self._deadlines.stop(TICK)


class Every:
    """
    Ticks every `seconds` of a connection. The first one is due `seconds` from now, or at once (`now`).

    It is an asynchronous iterator, of the number of ticks that were skipped before each tick. `is_open` says whether
    more ticks come.
    """

    __slots__ = ("_is_open", "_last", "_seconds", "_start", "_ticks")

    def __init__(self, seconds: float, ticks: Ticks, is_open: Callable[[], bool], *, now: bool = False) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < inf:
            raise InvalidOption(f"every({seconds!r}): takes a number of seconds, more than 0")
        self._seconds = seconds
        self._ticks = ticks
        self._is_open = is_open
        self._start = ticks.seconds()
        self._last = -1 if now else 0

    def __aiter__(self) -> Self:
        """Iterate over the ticks."""
        return self

    async def __anext__(self) -> int:
        """Wait for the next tick, and return how many were skipped."""
        skipped = await self.tick()
        if skipped is None:
            raise StopAsyncIteration
        return skipped

    def tick(self) -> Deferred[int | None]:
        """
        Fires at the next tick with the number of ticks before it that were skipped, because the work of the last tick
        took too long. Fires with `None` when no more ticks come. A cancelled tick comes in the next call.
        """
        if not self._is_open():
            return succeed(None)
        if self._last < 0:
            self._last = 0
            return succeed(0)
        skipped = max(0, floor((self._ticks.seconds() - self._start) / self._seconds) - self._last)
        number = self._last + skipped + 1

        def ticked(comes: bool) -> int | None:
            self._last = number
            return skipped if comes else None

        return self._ticks.wait(self._start + number * self._seconds).addCallback(ticked)
