"""
Taking turns: connections with more to do than is their share go on one after the other, one in a turn of the reactor.

Between two of them the reactor serves all others, and so the wait of one who has little to say is bounded by one share,
however many there are that have much.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Turns", "turn_of"]


@lru_cache(maxsize=64)
def turn_of(microseconds: int) -> float:
    """How many seconds of work a turn has; 0 is no limit. It is one object for all connections, which keep it."""
    return microseconds / 1e6 if microseconds else inf


class Turns:
    """Those who wait for a turn, first come, first served. It sets a timer only while there are any."""

    __slots__ = ("_call", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Callable[[], None], IReactorTime] = OrderedDict()
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, go_on: Callable[[], None], clock: IReactorTime) -> None:
        """Call `go_on`, which raises nothing, in a later turn of `clock`: once, and where it waits already, by then."""
        self._waiting.setdefault(go_on, clock)
        self._go()

    def leave(self, go_on: Callable[[], None]) -> None:
        """Call it no more. Nothing is done for one who does not wait."""
        self._waiting.pop(go_on, None)
        if self._call is not None and not self._waiting:
            call, self._call = self._call, None
            call.cancel()

    def _go(self) -> None:
        if self._call is None and self._waiting:
            self._call = next(iter(self._waiting.values())).callLater(0, self._next)

    def _next(self) -> None:
        self._call = None
        go_on, _ = self._waiting.popitem(last=False)
        try:
            go_on()
        finally:
            self._go()  # the others have their turns whatever one of them brings about
