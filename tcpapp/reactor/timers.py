"""
Timers and calls from threads, in turns of the loop.

Twisted's asyncio reactor gives the loop a timer for the next call, and a new timer whenever another call becomes the
next. So nearly every ``callLater`` makes and closes a handle. Here the calls stay in Twisted's own heap. A turn runs
the calls that are due, as in Twisted's own reactors: first the calls from threads, then the timed calls.

For a call that is due at once, a turn is put into the loop's queue of callbacks. All later calls share one timer of the
loop, which stays unchanged while no call is due before it.
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
"""The time of the next turn if that is in the loop's queue already, or is running."""

TICK = 0.001
"""Seconds. libuv's timers count milliseconds, so a call that is due earlier gets a turn at once."""

CANCELLED = 50
"""Up to this number, cancelled calls are kept. Source: Twisted's own number, in ``runUntilCurrent``."""


class TimedReactor(AsyncioSelectorReactor):
    """
    A reactor on a loop of uvloop, with its timers in Twisted's heap.

    It keeps the order of Twisted's own reactors. Calls run in the order of their times, and calls of the same time in
    the order in which they were made. A ``callLater(0)`` made in a turn runs in the next turn, and between two turns
    the loop polls every socket. Functions given to ``callFromThread`` run before the timed calls, in the order in which
    they were given.
    """

    def __init__(self, loop: Any, turns_in: Context) -> None:
        """
        Run on a loop, with all turns in one context, so that context variables that one call sets hold for the next.
        """
        self._turns_at = inf
        """The time of the next turn on the monotonic clock: `AT_ONCE`, or the end of the loop's timer."""
        self._timer: TimerHandle | None = None
        self._timer_ends = inf
        self._goes_on = False
        """Whether a call that was made in this turn is due in the next turn."""
        self._is_woken = False
        """Whether a turn that a thread has put into the loop's queue has not begun."""
        self._turns_in = turns_in
        super().__init__(loop)

    # Timed calls ---------------------------------------------------------------------------------------------------

    @override
    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:
        """Call a function after `delay` seconds. See `twisted.internet.interfaces.IReactorTime.callLater`."""
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
        """Count a cancelled call. When most of the kept calls are cancelled, a turn drops them."""
        self._cancellations += 1
        if self._cancellations > CANCELLED and self._turns_at:
            kept = len(self._pendingTimedCalls) + len(self._newTimedCalls)
            if self._cancellations > kept >> 1:
                self._turn_soon()

    # Calls from threads --------------------------------------------------------------------------------------------

    @override
    def callFromThread(  # type: ignore[override]  # the asyncio reactor names the parameter differently
        self, f: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """Call a function in the next turn. See `twisted.internet.interfaces.IReactorFromThreads.callFromThread`."""
        assert callable(f), f"{f} is not callable"
        self.threadCallQueue.append((f, args, kwargs))
        self.wakeUp()

    @override
    def wakeUp(self) -> None:
        """Take a turn soon. Any thread and any handler of a signal can call it."""
        if not self._is_woken:
            self._is_woken = True
            self._asyncioEventloop.call_soon_threadsafe(self._woken_turn, context=self._turns_in)

    def _woken_turn(self) -> None:
        self._is_woken = False  # first: calls that a thread adds from now on wake the loop again
        if self._turns_at:  # otherwise the queue has a turn after this one
            self._turns_at = AT_ONCE
            self._turn()

    # Turns ---------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Run the calls that are due, and schedule the next turn."""
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
        """Make sure that there is a turn after `delay` seconds, if no turn is in the queue."""
        if delay < TICK:
            self._turn_soon()
        elif monotonic() + delay < self._turns_at:
            self._turn_after(delay)

    def _turn_soon(self) -> None:
        """Take a turn in the loop's next iteration."""
        self._turns_at = AT_ONCE
        self._asyncioEventloop.call_soon(self._turn, context=self._turns_in)

    def _turn_after(self, delay: float) -> None:
        """Take a turn in `delay` seconds, or earlier."""
        at = monotonic() + delay
        if at < self._timer_ends:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ends = at
            self._timer = self._asyncioEventloop.call_at(ceil(at / TICK) * TICK, self._end_timer)
        self._turns_at = self._timer_ends

    def _end_timer(self) -> None:
        """Queue a turn when the loop's timer ends, because the calls of that turn can need another turn at once."""
        self._timer, self._timer_ends = None, inf
        if self._turns_at:
            self._turn_soon()
