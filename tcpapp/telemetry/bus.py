"""The bus that passes events to all listeners."""

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
    Passes events to its listeners. It is true while there is a listener: check that before making an event.

    `hears_routine` says whether a listener wants to know of connections that open, and of clean ends. A
    listener with a true attribute ``only_news``, as the log, does not: these events are not made for it alone.

    `seconds` is the clock for the log of listeners that fail: one traceback a second of each kind.
    """

    __slots__ = ("_failures", "_listeners", "hears_routine")

    def __init__(self, *listeners: Listener, seconds: Callable[[], float] = monotonic) -> None:
        self._set(listeners)
        self._failures = FailureLog(seconds)

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on. Returns a function that removes the listener again."""
        self._set((*self._listeners, listener))

        def stop() -> None:
            self._set(tuple(each for each in self._listeners if each is not listener))

        return stop

    def _set(self, listeners: tuple[Listener, ...]) -> None:
        self._listeners = listeners
        self.hears_routine = not all(getattr(each, "only_news", False) for each in listeners)

    def emit(self, event: Event) -> None:
        """
        Pass `event` to every listener. If a listener raises, the error is logged; the other listeners still get the
        event, and the caller sees no error.
        """
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                text = "a telemetry listener failed on {event!r}"
                self._failures.write(_log, text, Failure(), event=type(event).__name__)
