"""
Calls from other threads into the reactor's thread.

A switch of threads takes longer than most calls. So the calls wait in one queue, and the reactor is woken once for all
that it finds there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp.errors import TimedOut
from tcpapp.transport.fork_check import check_fork

__all__ = ["Call", "Caller"]


class Call:
    """
    One call of `function`. A thread waits for its `result`, which is a `Failure` where the call failed.

    Either the thread gets the result, or it has given up before: then `unclaimed` gets it, in the reactor's thread.
    """

    __slots__ = ("_claim", "_deferred", "_function", "_running", "_unclaimed", "result")

    def __init__(self, function: Callable[[], Any], unclaimed: Callable[[Any], object]) -> None:
        self._function = function
        self._unclaimed = unclaimed
        self._deferred: Deferred[Any] | None = None
        self._claim = threading.Lock()  # taken by the end of the call, or by the thread that gives up before
        self._running = threading.Lock()  # held until the end: it wakes a thread in fewer steps than a Future does
        self._running.acquire()
        self.result: Any = None

    def begin(self) -> None:
        """Call the function, in the reactor's thread."""
        if self._claim.locked():  # nobody waits for it any more
            return
        try:
            result = self._function()
        except BaseException:  # noqa: BLE001 - the thread that waits gets it
            result = Failure()
        if isinstance(result, Deferred):
            self._deferred = result
            result.addBoth(self._end)
        else:
            self._end(result)

    def cancel(self) -> None:
        """Cancel what it waits for, in the reactor's thread."""
        if self._deferred is not None:
            self._deferred.cancel()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the result, for at most this many `seconds` (`None`: no limit). Returns whether it is there."""
        return self._running.acquire(timeout=-1 if seconds is None else min(max(seconds, 0), threading.TIMEOUT_MAX))

    def give_up(self) -> bool:
        """Wait no longer. Returns `False` if the result has come in the meantime: then it is there now, or at once."""
        return self._claim.acquire(blocking=False)

    def _end(self, result: Any) -> None:
        if self._claim.acquire(blocking=False):
            self.result = result
            self._running.release()
        elif not isinstance(result, Failure):
            self._unclaimed(result)


def _drop(result: Any) -> None:
    """Drop a result that nobody waits for any more."""


class Caller:
    """Calls functions in the thread of `reactor`, in the order in which each thread gives them, and waits for them."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def check(self, name: str) -> None:
        """Raise `Forked` for the call `name` in a forked child of the process in which the reactor runs."""
        check_fork(self._reactor, name)

    def post(self, function: Callable[[], object]) -> None:
        """Call `function` in the reactor's thread, and do not wait for it."""
        self._calls.append(function)
        if not self._woken:  # else `_run` has not begun, and will find it
            self._wake()

    def call(
        self,
        name: str,
        function: Callable[[], Any],
        timeout: float | None = None,
        unclaimed: Callable[[Any], object] = _drop,
    ) -> Any:
        """
        Call `function` in the reactor's thread. Return its result, or the result of the Deferred that it returns.

        Raises the errors of `function`, and `TimedOut` with `name` after `timeout` seconds (`None`: no limit). A call
        that times out or is interrupted cancels the Deferred. If a result comes nevertheless, `unclaimed` gets it, in
        the reactor's thread. Raises `Forked`, as `check`.
        """
        self.check(name)
        call = Call(function, unclaimed)
        self.post(call.begin)
        try:
            is_there = call.wait(timeout)
        except BaseException:  # Ctrl-C
            if call.give_up():
                self.post(call.cancel)
            raise
        if not is_there:
            if call.give_up():
                self.post(call.cancel)
                raise TimedOut(name, timeout or 0)
            call.wait(None)  # it came at the last moment
        result = call.result
        if isinstance(result, Failure):
            error: Any = result.value
            try:
                raise error
            finally:
                del result, call, error  # they hold the error, whose traceback holds this frame
        return result

    def _wake(self) -> None:
        self._woken = True
        self._reactor.callFromThread(self._run)

    def _run(self) -> None:
        """Make the calls that are there. Later ones are made in another turn of the reactor."""
        self._woken = False  # first: a call that comes from now on wakes the reactor again
        try:
            for _ in range(len(self._calls)):
                self._calls.popleft()()
        finally:
            if self._calls and not self._woken:
                self._wake()
