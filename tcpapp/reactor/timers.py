"""
Timers and calls from threads, in turns of the loop.

Twisted's asyncio reactor gives the loop a timer for the soonest call, and another whenever the soonest call is another
one: a handle is made and closed for nearly every ``callLater``. Here the calls stay in Twisted's own heap. A turn runs
what is due, as in Twisted's own reactors: first what threads have asked for, then the timed calls. A call that is due
at once has a turn in the loop's queue of callbacks; for all later calls the loop has one timer, which is left alone
while no call is due before it.
"""

from __future__ import annotations

from math import ceil, inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from typing_extensions import override

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable
    from contextvars import Context

__all__ = ["TimedReactor"]

AT_ONCE = 0.0
"""When the next turn is, where it is in the loop's queue already, or under way."""

TICK = 0.001
"""Seconds: libuv's timers count milliseconds. A call that is due before the next one has a turn at once."""

CANCELLED = 50
"""Cancelled calls that are kept in any case: Twisted's own number, in ``runUntilCurrent``."""


class TimedReactor(AsyncioSelectorReactor):
    """
    A reactor on a loop of uvloop's, whose timers are in Twisted's heap.

    Promised is the order of Twisted's own reactors: calls in the order of their times, and those of one time in the
    order they were made; a ``callLater(0)`` made in a turn is called in the next turn, and between two turns the loop
    looks at every socket; what ``callFromThread`` was given comes before the timed calls, in the order it was given.
    """

    def __init__(self, loop: Any, turns_in: Context) -> None:
        """Make one on a loop, all of whose turns are in one context: what one call sets the next one finds."""
        self._turns_at = inf
        """When the next turn is, by the monotonic clock: `AT_ONCE`, or when the loop's timer ends."""
        self._timer: TimerHandle | None = None
        self._timer_ends = inf
        self._goes_on = False
        """Whether a call was made in this turn that is due in the next one."""
        self._is_woken = False
        """Whether a thread has had a turn put into the loop's queue, that has not begun."""
        self._turns_in = turns_in
        super().__init__(loop)

    # Timed calls ---------------------------------------------------------------------------------------------------

    @override
    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        """See `twisted.internet.interfaces.IReactorTime.callLater`."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        call = DelayedCall(
            self.seconds() + delay, callable, args, kw, self._cancelCallLater, self._moveCallLaterSooner, self.seconds
        )
        self._newTimedCalls.append(call)
        if self._turns_at:
            self._turn_within(delay)
        elif not delay:
            self._goes_on = True
        return call

    @override
    def _moveCallLaterSooner(self, call: DelayedCall) -> None:
        ReactorBase._moveCallLaterSooner(self, call)
        if self._turns_at:
            self._turn_within(call.time - self.seconds())

    @override
    def _cancelCallLater(self, call: DelayedCall) -> None:
        """Count it; where most of the calls that are kept are cancelled, a turn drops them."""
        self._cancellations += 1
        if self._cancellations > CANCELLED and self._turns_at:
            kept = len(self._pendingTimedCalls) + len(self._newTimedCalls)
            if self._cancellations > kept >> 1:
                self._turn_soon()

    # Calls from threads --------------------------------------------------------------------------------------------

    @override
    def callFromThread(  # type: ignore[override]  # the asyncio reactor has another name for it
        self, f: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """See `twisted.internet.interfaces.IReactorFromThreads.callFromThread`."""
        assert callable(f), f"{f} is not callable"
        self.threadCallQueue.append((f, args, kwargs))
        self.wakeUp()

    @override
    def wakeUp(self) -> None:
        """Have a turn soon; called in any thread, and by handlers of signals."""
        if not self._is_woken:
            self._is_woken = True
            self._asyncioEventloop.call_soon_threadsafe(self._woken_turn, context=self._turns_in)

    def _woken_turn(self) -> None:
        self._is_woken = False  # first: what a thread adds from now on wakes again
        if self._turns_at:  # else there is a turn in the queue, behind this
            self._turns_at = AT_ONCE
            self._turn()

    # Turns ---------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Run what is due, and see to the next turn."""
        self._goes_on = False
        try:
            self.runUntilCurrent()
        finally:
            if self._goes_on or (wait := self.timeout()) == 0:
                self._turn_soon()
            elif wait is None:
                self._turns_at = self._timer_ends
            else:
                self._turn_after(wait)

    def _turn_within(self, delay: float) -> None:
        """See that there is a turn, when a call is due after so many seconds; there is none at once."""
        if delay < TICK:
            self._turn_soon()
        elif monotonic() + delay < self._turns_at:
            self._turn_after(delay)

    def _turn_soon(self) -> None:
        """Have a turn in the loop's next round."""
        self._turns_at = AT_ONCE
        self._asyncioEventloop.call_soon(self._turn, context=self._turns_in)

    def _turn_after(self, delay: float) -> None:
        """Have a turn in so many seconds, or before."""
        at = monotonic() + delay
        if at < self._timer_ends:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ends = at
            self._timer = self._asyncioEventloop.call_at(ceil(at / TICK) * TICK, self._end_timer)
        self._turns_at = self._timer_ends

    def _end_timer(self) -> None:
        """The loop's timer has ended. A turn in the loop's queue, since what it calls may want another one at once."""
        self._timer, self._timer_ends = None, inf
        if self._turns_at:
            self._turn_soon()
