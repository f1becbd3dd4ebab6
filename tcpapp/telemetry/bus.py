"""Events, passed on to all listeners."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger
from twisted.python.failure import Failure

from tcpapp.telemetry.events import Event, Listener
from tcpapp.telemetry.log_lines import FailureLog

__all__ = ["Telemetry"]

_log = Logger(namespace="tcpapp")


class Telemetry:
    """
    Passes events on. True while there is a listener: ask before making an event.

    `seconds` is the clock for logging failures of listeners: one a second of each kind.
    """

    __slots__ = ("_failures", "_listeners")

    def __init__(self, *listeners: Listener, seconds: Callable[[], float] = monotonic) -> None:
        self._listeners = listeners
        self._failures = FailureLog(seconds)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns a function that ends it."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

        return stop

    def emit(self, event: Event) -> None:
        """
        Pass `event` to every listener. A listener that raises is logged, without harm to other listeners or the caller.
        """
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                text = "a telemetry listener failed on {event!r}"
                self._failures.write(_log, text, Failure(), event=type(event).__name__)
