"""
The tasks of a connection: coroutines that run beside its app, and end with it.

A task ends in one of three ways. It returns. It fails, which closes the connection as a failure of the app does; an
error that only says that the connection has ended is no failure. Or it is cancelled: by the caller, or at the end.
The connection waits for the end of its tasks before it tells its app that it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.outcomes import APP_FAILED, APP_IDLE, Settler
from tcpapp.connection.ticks import Ticks
from tcpapp.connection.unhandled import unlogged
from tcpapp.errors import InvalidOption, NotConnected, drop_frames

__all__ = ["MOMENT", "TASKS", "Tasks", "awaited_by", "check_coroutine"]

Result = TypeVar("Result")

MOMENT = 0.1
"""Seconds to end for a task that is cancelled again. Our choice: a task of asyncio takes some turns of the loop."""

TASKS = "tasks"
"""The wait for the end of the cancelled tasks, as the deadlines of a connection call it."""


def check_coroutine(coroutine: Any) -> None:
    """Raise `InvalidOption` for any other object."""
    if not isinstance(coroutine, Coroutine):
        near = "; call the function" if callable(coroutine) else ""
        raise InvalidOption(f"spawn({coroutine!r:.100}): takes a coroutine{near}")


def awaited_by(coroutine: Any) -> object:
    """The object that the innermost coroutine of `coroutine` awaits; `None` while it runs, or has ended."""
    while isinstance(coroutine, CoroutineType):
        coroutine = coroutine.cr_await
    return coroutine


class _Task:
    """One task: its `coroutine`, the Deferred of its end, and whether the connection waits for its work."""

    __slots__ = ("background", "coroutine", "notified", "running")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], background: bool) -> None:
        self.coroutine = coroutine
        self.background = background
        self.notified = False
        self.running: Deferred[Any] | None = None


class Tasks:
    """The tasks of one connection, and the `ticks` that it waits for. `len` is how many tasks run."""

    __slots__ = ("_cancelled_again", "_lifecycle", "_running", "_settler", "_when_ended", "ticks")

    def __init__(self, settler: Settler, lifecycle: Lifecycle, deadlines: Deadlines) -> None:
        self._settler = settler
        self._lifecycle = lifecycle
        self._running: dict[_Task, None] = {}  # in the order of their calls, as a set is not
        self._when_ended: Callable[[], None] | None = None
        self._cancelled_again = False
        self.ticks = Ticks(deadlines)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def working(self) -> bool:
        """Whether a task runs that the connection waits for."""
        return not all(task.background for task in self._running)

    @property
    def in_background(self) -> bool:
        """Whether a task runs that the connection does not wait for."""
        return any(task.background for task in self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, Result], background: bool) -> Deferred[Result]:
        """Run `coroutine` as a task, up to its first wait. Fires with its result."""
        task = _Task(coroutine, background)
        self._running[task] = None
        running = task.running = Deferred.fromCoroutine(coroutine)
        running.addBoth(self._ended, task, unlogged(running))
        return running

    # The end of the connection.

    def awaited(self) -> dict[_Task, object]:
        """What each task awaits now, for `notify` and `cancel`."""
        return {task: awaited_by(task.coroutine) for task in self._running}

    def notify(self, before: dict[_Task, object]) -> None:
        """Note the tasks that know of the end: they awaited something else `before` their calls failed."""
        for task, awaited in before.items():
            task.notified = task.notified or awaited_by(task.coroutine) is not awaited

    def end(self, when_ended: Callable[[], None]) -> None:
        """
        The connection has ended: cancel the tasks that do not know of it. `when_ended` is called once, when all tasks
        have ended, or by `stop_waiting`.
        """
        self.cancel()
        self._when_ended = when_ended
        if not self._running:
            self.stop_waiting()

    def cancel(self) -> None:
        """Cancel the tasks that do not know of the end."""
        for task in list(self._running):
            if not task.notified:
                self._cancel(task)

    def cancel_again(self) -> bool:
        """Cancel the tasks that still run. Returns whether they get a moment to end: only the first call gives one."""
        first = not self._cancelled_again
        self._cancelled_again = True
        for task in list(self._running):
            self._cancel(task)
        return first and bool(self._running)

    def stop_waiting(self) -> None:
        """Wait no longer for the end of the tasks."""
        when_ended, self._when_ended = self._when_ended, None
        if when_ended is not None:
            when_ended()

    def _cancel(self, task: _Task) -> None:
        """Cancel `task`, unless it is running right now, or ended when another task was cancelled."""
        if task in self._running and task.running is not None and awaited_by(task.coroutine) is not None:
            task.running.cancel()

    def _ended(self, result: Any, task: _Task, running: Deferred[Any]) -> Any:
        del self._running[task]
        if isinstance(result, Failure):
            unlogged(running, result.value)
            if result.check(CancelledError) or self._is_our_end(result.value):
                drop_frames(result)  # they would keep the coroutine, and this connection, in memory
            else:
                self._settler.settle(APP_FAILED, result)
        if self._when_ended is None:
            self._settler.settle(APP_IDLE)
        elif not self._running:
            self.stop_waiting()
        return result

    def _is_our_end(self, error: Any) -> bool:
        """Whether `error` only says that no more messages come on this connection, or that it has ended."""
        lifecycle = self._lifecycle
        return isinstance(error, NotConnected) and not lifecycle.stage.is_open and error.reason is lifecycle.cause
