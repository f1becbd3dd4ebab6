"""
Fair shares: connections with more work than their share take turns, one in each turn of the event loop.

Between two turns the event loop serves all other connections. So a connection with little work waits for at most one
share, however many busy connections there are.

`FairShare` is for connections that have already had a share. `StepScheduler` is for work that consists of long steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Final, TypeAlias

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["FairShare", "StepScheduler", "turn_seconds"]

READERS_PER_TURN: Final = 4
"""
The number of busy connections that are read from in one turn. Our choice: 64 KiB of each take about as long as a turn
lasts, and the fixed cost of a read is mostly shared.
"""

_Queue: TypeAlias = "OrderedDict[Callable[[], None], tuple[IReactorTime, float]]"


@lru_cache(maxsize=64)
def turn_seconds(microseconds: int) -> float:
    """
    Return the seconds of work that a turn allows; infinity for 0, which is no limit. All connections share the returned
    object.
    """
    return microseconds / 1e6 if microseconds else inf


class FairShare:
    """
    The connections that wait for a turn: first come, first served. It sets a timer only while a connection waits.

    A turn belongs to one busy connection, or to one new connection, whose messages have an unknown cost. When both
    kinds wait, they alternate. Every second turn belongs to all connections whose messages are probably cheap. In each
    turn, a few busy connections are read from, too.

    Between two turns the event loop polls its sockets at least twice. So it reads and answers the messages of other
    connections, and sends the replies.

    `contention` is the number of connections that took longer than one turn since the last turn. It is at least 1 while
    any connection waits.
    """

    __slots__ = ("_busy", "_call", "_new", "_overruns", "_quick", "_readers", "_was_new", "_was_quick", "contention")

    def __init__(self) -> None:
        self._busy: _Queue = OrderedDict()
        self._new: _Queue = OrderedDict()
        self._quick: _Queue = OrderedDict()
        self._readers: _Queue = OrderedDict()
        self._was_new = self._was_quick = False
        self._call: IDelayedCall | None = None
        self._overruns = 0
        self.contention = 0

    def __len__(self) -> int:
        """Return how many connections wait."""
        return sum(map(len, self._queues))

    def wait(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float = 0.0) -> None:
        """
        Call `go_on` of a busy connection once, in a later turn. A connection that waits already keeps its place.
        `go_on` must not raise.

        With `lasts` 0.0 the connection has the turn to itself. Otherwise, connections that wait after it share the turn
        until `lasts` seconds are used up.
        """
        self._busy.setdefault(go_on, (clock, lasts))
        self._schedule(clock, 1)

    def wait_as_new(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float) -> None:
        """Do as `wait` does, for a connection whose messages have an unknown cost."""
        self._new.setdefault(go_on, (clock, lasts))
        self._schedule(clock, 1)

    def wait_as_quick(self, go_on: Callable[[], None], clock: IReactorTime, lasts: float) -> None:
        """Do as `wait` does, for a connection whose messages are probably cheap."""
        self._quick.setdefault(go_on, (clock, lasts))
        self._schedule(clock, 1)

    def wait_to_read(self, go_on: Callable[[], None], clock: IReactorTime) -> None:
        """Call `go_on`, which resumes reading from a busy connection, once in a later turn. It must not raise."""
        self._readers.setdefault(go_on, (clock, 0.0))
        self._schedule(clock, 1)

    def note_overrun(self, clock: IReactorTime) -> None:
        """Note that a connection took longer than one turn."""
        self._overruns += 1
        self._schedule(clock, 2)

    def cancel(self, go_on: Callable[[], None]) -> None:
        """Remove `go_on` from the waiting calls. Does nothing if it does not wait."""
        for queue in self._queues:
            queue.pop(go_on, None)
        if self._call is not None and not self:
            self.contention = self._overruns
            if not self.contention:
                call, self._call = self._call, None
                call.cancel()

    @property
    def _queues(self) -> tuple[_Queue, ...]:
        return self._quick, self._busy, self._new, self._readers

    def _schedule(self, clock: IReactorTime, polls: int) -> None:
        """Make sure that another turn follows: after the next poll of the sockets, and `polls` more of them."""
        self.contention = max(self._overruns, 1 if self else 0)
        if self._call is None and self.contention:
            self._call = clock.callLater(0, self._poll_again, clock, polls)

    def _poll_again(self, clock: IReactorTime, polls: int) -> None:
        after, given = (self._poll_again, (clock, polls - 1)) if polls > 1 else (self._run_turn, (clock,))
        self._call = clock.callLater(0, after, *given)

    def _run_turn(self, clock: IReactorTime) -> None:
        self._call = None
        self._overruns = 0
        try:
            self._resume_readers()
            _run_queue(self._next())
        finally:
            self._schedule(clock, 1)  # the other connections get their turns even if this call raises

    def _next(self) -> _Queue:
        """
        Choose the queue of the next turn. The replies to cheap messages are sent before a costly message has its turn.
        """
        self._was_quick = bool(self._quick) and not (self._was_quick and (self._busy or self._new))
        if self._was_quick:
            return self._quick
        self._was_new = bool(self._new) and not (self._was_new and self._busy)
        return self._new if self._was_new else self._busy

    def _resume_readers(self) -> None:
        for _ in range(min(READERS_PER_TURN, len(self._readers))):
            go_on, _ = self._readers.popitem(last=False)
            go_on()


def _run_queue(queue: _Queue) -> None:
    """Call the first waiting connections, until the time of the turn is used up."""
    if not queue:
        return
    clock = next(iter(queue.values()))[0]
    began = clock.seconds()
    for _ in range(len(queue)):
        go_on, (_, lasts) = queue.popitem(last=False)
        go_on()
        if not queue or clock.seconds() - began >= lasts:
            break


class StepScheduler:
    """
    Runs work in steps that cannot be divided and take longer than most messages, such as TLS handshakes.

    One step is done in a turn. Between two turns the event loop polls its sockets twice, as for `FairShare`. Other
    steps wait for later turns: first come, first served.

    When all other work between two turns takes longer than one step, the next turn does as many steps as fit into that
    time. So steps delay a connection by one step, or by as much as all other work does. They get at least half of the
    time. A timer is set only while steps wait, and until the turn after a step.
    """

    __slots__ = ("_call", "_ended", "_waiting")

    def __init__(self) -> None:
        self._waiting: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._call: IDelayedCall | None = None
        self._ended = 0.0

    def __len__(self) -> int:
        """Return how many steps wait."""
        return len(self._waiting)

    def run(self, step: Callable[[], None], clock: IReactorTime) -> None:
        """
        Call `step` at once if no step was done in this turn of `clock` and none waits; otherwise, in a later turn.

        A step that waits already keeps its place.
        """
        if self._call is not None:
            self._waiting[step] = None
            return
        self.note_step(clock)
        try:
            step()
        finally:
            self._ended = clock.seconds()

    def note_step(self, clock: IReactorTime) -> None:
        """Count other work that takes as long as a step: no further step is done in this turn."""
        if self._call is None:
            self._ended = clock.seconds()
            self._call = clock.callLater(0, self._poll_again, clock)

    def cancel(self, step: Callable[[], None]) -> None:
        """Remove `step` from the waiting steps. Does nothing if it does not wait."""
        self._waiting.pop(step, None)

    def _poll_again(self, clock: IReactorTime) -> None:
        self._call = clock.callLater(0, self._run_turn, clock)

    def _run_turn(self, clock: IReactorTime) -> None:
        self._call = None
        if not self._waiting:
            return
        now = clock.seconds()
        until = now + (now - self._ended)
        # first, so that other steps follow even if this step raises
        self._call = clock.callLater(0, self._poll_again, clock)
        try:
            while self._waiting:
                step, _ = self._waiting.popitem(last=False)
                step()
                if clock.seconds() >= until:
                    break
        finally:
            self._ended = clock.seconds()
