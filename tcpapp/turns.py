"""
Taking turns: connections with more to do than is their share go on one after the other, one in a turn of the reactor.

Between two of them the reactor serves all others, and so the wait of one who has little to say is bounded by one share,
however many there are that have much.

`Turns` is for connections that have had a share already. `Steps` is for work of which each piece is long by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Steps", "Turns", "turn_of"]


@lru_cache(maxsize=64)
def turn_of(microseconds: int) -> float:
    """How many seconds of work a turn has; 0 is no limit. It is one object for all connections, which keep it."""
    return microseconds / 1e6 if microseconds else inf


class Turns:
    """
    Those who wait for a turn, first come, first served. It sets a timer only while there are any.

    `spent` says that a connection has taken as long as a turn is to last: until the next turn, nothing is begun that
    can take as long.
    """

    __slots__ = ("_call", "_waiting", "spent")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Callable[[], None], tuple[IReactorTime, float]] = OrderedDict()
        self._call: IDelayedCall | None = None
        self.spent = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float = 0.0) -> None:
        """
        Call `go_on`, which raises nothing, in a later turn of `clock`: once, and where it waits already, by then.

        It has the turn for itself, or with others that wait now, until the turn `lasts` so many seconds.
        """
        self._waiting.setdefault(go_on, (clock, lasts))
        self._go()

    def spend(self, clock: IReactorTime) -> None:
        """Be `spent` until the next turn of `clock`."""
        if not self.spent:
            self.spent = True
            clock.callLater(0, self._renew)

    def _renew(self) -> None:
        self.spent = False

    def leave(self, go_on: Callable[[], None]) -> None:
        """Call it no more. Nothing is done for one who does not wait."""
        self._waiting.pop(go_on, None)
        if self._call is not None and not self._waiting:
            call, self._call = self._call, None
            call.cancel()

    def _go(self) -> None:
        if self._call is None and self._waiting:
            self._call = next(iter(self._waiting.values()))[0].callLater(0, self._next)

    def _next(self) -> None:
        self._call = None
        clock = next(iter(self._waiting.values()))[0]
        began, left = clock.seconds(), len(self._waiting)
        try:
            while left and self._waiting:
                go_on, (_, lasts) = self._waiting.popitem(last=False)
                left -= 1
                go_on()
                if clock.seconds() - began >= lasts:
                    break
        finally:
            self._go()  # the others have their turns whatever one of them brings about


class Steps:
    """
    Work that is done in steps, such as TLS handshakes: a step cannot be cut, and takes longer than most messages.

    One step is done in a turn of the reactor. The next steps wait for later turns, first come, first served. Where the
    rest of a turn takes longer than a step, as many steps are done in the next turn as take as long as that. So steps
    add to the wait of a connection one step, or as much as all other work does, and get half of the time at the least.
    It sets a timer only for the turn after a step, and while there are steps that wait.
    """

    __slots__ = ("_call", "_ended", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._call: IDelayedCall | None = None
        self._ended = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def take(self, step: Callable[[], None], clock: IReactorTime) -> None:
        """
        Call `step`: at once if no step was done in this turn of `clock` and none waits, else in a later turn.

        A step that waits already keeps its place.
        """
        if self._call is not None:
            self._waiting[step] = None
            return
        self.count(clock)
        try:
            step()
        finally:
            self._ended = clock.seconds()

    def count(self, clock: IReactorTime) -> None:
        """Something that takes as long as a step is done in this turn: no step is done in it after that."""
        if self._call is None:
            self._ended = clock.seconds()
            self._call = clock.callLater(0, self._turn, clock)

    def leave(self, step: Callable[[], None]) -> None:
        """Call it no more. Nothing is done for a step that does not wait."""
        self._waiting.pop(step, None)

    def _turn(self, clock: IReactorTime) -> None:
        self._call = None
        if not self._waiting:
            return
        now = clock.seconds()
        until = now + (now - self._ended)
        self._call = clock.callLater(0, self._turn, clock)  # first: the others go on whatever a step brings about
        try:
            while self._waiting:
                step, _ = self._waiting.popitem(last=False)
                step()
                if clock.seconds() >= until:
                    break
        finally:
            self._ended = clock.seconds()
