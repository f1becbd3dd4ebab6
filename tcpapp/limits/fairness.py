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
from typing import Final, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Steps", "Turns", "turn_of"]

READERS: Final = 4
"""
Busy connections that are read from after one turn. Our choice: 64 KiB of each take about as long as a turn lasts, and
most of what a read of a single one would add to the work is shared.
"""

_Queue: TypeAlias = "OrderedDict[Callable[[], None], tuple[IReactorTime, float]]"


@lru_cache(maxsize=64)
def turn_of(microseconds: int) -> float:
    """How many seconds of work a turn has; 0 is no limit. It is one object for all connections, which keep it."""
    return microseconds / 1e6 if microseconds else inf


class Turns:
    """
    The connections that wait for a turn, first come, first served. It sets a timer only while there is something to do.

    A turn is for a connection that is known to be busy, or for a new one, of which nobody knows what its messages take:
    where both wait, alternately. Every other turn is for those that are likely to be quick, which share it. In each, a
    few busy ones are read from, too. Between two turns the reactor looks at its sockets twice at the least: what others
    have said is read and answered, and the answers are sent.

    `used` is how many connections took longer than a turn lasts since the last turn, and at least 1 while any wait.
    """

    __slots__ = ("_busy", "_call", "_long", "_new", "_quick", "_readers", "_was_new", "_was_quick", "used")

    def __init__(self) -> None:
        self._busy: _Queue = OrderedDict()
        self._new: _Queue = OrderedDict()
        self._quick: _Queue = OrderedDict()
        self._readers: _Queue = OrderedDict()
        self._was_new = self._was_quick = False
        self._call: IDelayedCall | None = None
        self._long = 0
        self.used = 0

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues))

    def wait(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float = 0.0) -> None:
        """
        Call `go_on` of a busy connection, which raises nothing, in a later turn: once, at the place it has first.

        It has the turn for itself, or with others that wait now, until the turn `lasts` so many seconds.
        """
        self._busy.setdefault(go_on, (clock, lasts))
        self._go(clock, 1)

    def wait_as_new(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float) -> None:
        """`wait` of a connection whose messages nobody knows."""
        self._new.setdefault(go_on, (clock, lasts))
        self._go(clock, 1)

    def wait_as_quick(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float) -> None:
        """`wait` of a connection whose messages are likely to take little."""
        self._quick.setdefault(go_on, (clock, lasts))
        self._go(clock, 1)

    def wait_to_read(self, go_on: Callable[[], None], clock: IReactorTime) -> None:
        """Call `go_on`, which raises nothing and only has a busy connection read from, in a later turn."""
        self._readers.setdefault(go_on, (clock, 0.0))
        self._go(clock, 1)

    def use(self, clock: IReactorTime) -> None:
        """A connection took longer than a turn lasts."""
        self._long += 1
        self._go(clock, 2)

    def leave(self, go_on: Callable[[], None]) -> None:
        """Call it no more. Nothing is done for one that does not wait."""
        for queue in self._queues:
            queue.pop(go_on, None)
        if self._call is not None and not self:
            self.used = self._long
            if not self.used:
                call, self._call = self._call, None
                call.cancel()

    @property
    def _queues(self) -> tuple[_Queue, ...]:
        return self._quick, self._busy, self._new, self._readers

    def _go(self, clock: IReactorTime, looks: int) -> None:
        """See to it that there is a next turn, after so many more looks at the sockets than the one that follows."""
        self.used = max(self._long, 1 if self else 0)
        if self._call is None and self.used:
            self._call = clock.callLater(0, self._look_again, clock, looks)

    def _look_again(self, clock: IReactorTime, looks: int) -> None:
        after, given = (self._look_again, (clock, looks - 1)) if looks > 1 else (self._give_turn, (clock,))
        self._call = clock.callLater(0, after, *given)

    def _give_turn(self, clock: IReactorTime) -> None:
        self._call = None
        self._long = 0
        try:
            self._let_read()
            _serve(self._next())
        finally:
            self._go(clock, 1)  # the others have their turns whatever one of them brings about

    def _next(self) -> _Queue:
        """Whose turn it is. The answers of the quick ones are sent before one that takes long has its turn."""
        self._was_quick = bool(self._quick) and not (self._was_quick and (self._busy or self._new))
        if self._was_quick:
            return self._quick
        self._was_new = bool(self._new) and not (self._was_new and self._busy)
        return self._new if self._was_new else self._busy

    def _let_read(self) -> None:
        for _ in range(min(READERS, len(self._readers))):
            go_on, _ = self._readers.popitem(last=False)
            go_on()


def _serve(queue: _Queue) -> None:
    """The first that wait, until the turn lasts as long as it may."""
    if not queue:
        return
    clock = next(iter(queue.values()))[0]
    began = clock.seconds()
    for _ in range(len(queue)):
        go_on, (_, lasts) = queue.popitem(last=False)
        go_on()
        if not queue or clock.seconds() - began >= lasts:
            break


class Steps:
    """
    Work that is done in steps, such as TLS handshakes: a step cannot be cut, and takes longer than most messages.

    One step is done in a turn, and between two turns the reactor looks at its sockets twice, as between those of
    `Turns`. The next steps wait for later turns, first come, first served. Where all else between two turns takes
    longer than a step, as many steps are done in the next turn as take as long as that. So steps add to the wait of a
    connection one step, or as much as all other work does, and get half of the time at the least. It sets a timer only
    until the turn after a step, and while there are steps that wait.
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
            self._call = clock.callLater(0, self._look_again, clock)

    def leave(self, step: Callable[[], None]) -> None:
        """Call it no more. Nothing is done for a step that does not wait."""
        self._waiting.pop(step, None)

    def _look_again(self, clock: IReactorTime) -> None:
        self._call = clock.callLater(0, self._give_turn, clock)

    def _give_turn(self, clock: IReactorTime) -> None:
        self._call = None
        if not self._waiting:
            return
        now = clock.seconds()
        until = now + (now - self._ended)
        self._call = clock.callLater(0, self._look_again, clock)  # first: the others go on whatever a step brings about
        try:
            while self._waiting:
                step, _ = self._waiting.popitem(last=False)
                step()
                if clock.seconds() >= until:
                    break
        finally:
            self._ended = clock.seconds()
