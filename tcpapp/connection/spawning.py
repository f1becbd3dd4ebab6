"""The steps of a connection that has tasks: how one starts, and how all of them end with the connection."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from tcpapp.connection.parts import Parts
from tcpapp.connection.tasks import MOMENT, TASKS, Tasks, check_coroutine
from tcpapp.errors import TooManyTasks
from tcpapp.telemetry import TasksLeft

__all__ = ["Spawning"]


class Spawning(Parts):
    """A connection that can have tasks."""

    __slots__ = ()

    def _spawn(self, coroutine: Coroutine[Any, Any, Any], background: bool) -> Deferred[Any]:
        """Run `coroutine` as a task. Close it where that cannot be, so that Python does not warn."""
        check_coroutine(coroutine)
        most = self._settings.limits.max_tasks
        if not self._lifecycle.stage.sends:
            coroutine.close()
            raise self._lifecycle.error
        if most and self._tasks is not None and len(self._tasks) >= most:
            coroutine.close()
            raise TooManyTasks(f"{most} tasks of this connection run, which is the limit (max_tasks)")
        return self._own_tasks().spawn(coroutine, background)

    def _end_tasks(self, tasks: Tasks, when_ended: Callable[[], None]) -> None:
        """Cancel the `tasks`, and wait for their end as long as for a flush."""
        deadlines = self._deadlines
        deadlines.no_more_input()
        for wait in deadlines.started:
            deadlines.stop(wait)
        if self._clock is not None:
            deadlines.start(TASKS, self._settings.timeouts.grace)
        self._dispatcher.cancel_handler()  # it does not wait for the tasks
        tasks.end(when_ended)
        if self._clock is None:
            self._leave_tasks(tasks)

    def _leave_tasks(self, tasks: Tasks) -> None:
        """The tasks had their time: cancel the tasks that still run, and then leave them."""
        if tasks.cancel_again() and self._clock is not None:
            self._deadlines.start(TASKS, MOMENT)
            return
        if tasks:
            self._emit(TasksLeft, len(tasks), self._settings.timeouts.grace)
        tasks.stop_waiting()
