"""
Deferreds that wait for the same thing, and all fire at once.

A callback is the user's code: it can wait again, cancel another waiter, or end the thing that all wait for. So
`Waiters` empties its list before it fires the first. A waiter that was cancelled by then is not fired.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp.connection.unhandled import unlogged
from tcpapp.errors import NotConnected

__all__ = ["Waiters", "fail_all", "fire_all"]

Result = TypeVar("Result")


def fire_all(waiters: Iterable[Deferred[Any]], result: Any) -> None:
    """Fire all `waiters` with `result`. The callback of one can cancel another, which is not fired then."""
    for waiter in waiters:
        if not waiter.called:
            waiter.callback(result)


def fail_all(waiters: Iterable[Deferred[Any]], error: BaseException, told: BaseException | None = None) -> None:
    """
    Fail all `waiters` with `error`. An unhandled `NotConnected`, or the error `told`, is not logged.

    Each waiter gets a `NotConnected` of its own, because one error object must not be raised twice.
    """
    for waiter in waiters:
        if not waiter.called:
            own = error.again() if type(error) is NotConnected else error
            unlogged(waiter, told).errback(own)


class Waiters(Generic[Result]):
    """Deferreds that wait for one `Result`, in the order of their calls. `len` is how many there are."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Deferred[Result]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> Deferred[Result]:
        """Add a waiter. It can be cancelled, and then waits no longer."""
        waiter: Deferred[Result] = Deferred(self._leave)
        self._waiting.append(waiter)
        return waiter

    def take(self) -> list[Deferred[Result]]:
        """Remove and return all waiters. The caller fires each with a result of its own."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def fire(self, result: Result) -> None:
        """Fire all of them with `result`."""
        fire_all(self.take(), result)

    def fire_first(self, result: Result) -> bool:
        """Fire the first waiter with `result`. Returns whether there was one."""
        if not self._waiting:
            return False
        self._waiting.pop(0).callback(result)
        return True

    def fail(self, error: BaseException | Failure) -> None:
        """Fail all of them with `error`, which Twisted logs where no errback takes it."""
        for waiter in self.take():
            if not waiter.called:
                waiter.errback(error)

    def fail_unlogged(self, error: BaseException, told: BaseException | None = None) -> None:
        """Fail all of them with `error`; see `fail_all`."""
        fail_all(self.take(), error, told)

    def _leave(self, waiter: Deferred[Result]) -> None:
        if waiter in self._waiting:  # false once `take` has emptied the list
            self._waiting.remove(waiter)
