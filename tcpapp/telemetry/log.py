"""The listener that writes events to the log, at a rate that a person can read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger, LogLevel

from tcpapp.telemetry.events import Event
from tcpapp.telemetry.log_lines import LineRates, log_suppressed

__all__ = ["RateLimitedLog", "log"]

_log = Logger(namespace="tcpapp")


def log(event: Event) -> None:
    """
    The listener that writes to Twisted's log: a line for each event that an operator must know of.

    Connections that open or end well make no line. Bytes of a peer stand in a line only escaped and cut, also inside
    the text of an exception. ``log_failure`` of an event is the app's failure with a safe text, and its ``value`` is
    the original exception. A reply that cannot be sent makes one line.
    """
    if event.kind() is not None:
        for line in event.lines():
            _log.emit(LogLevel.levelWithName(line.level), line.text, **line.fields)


class RateLimitedLog:
    """
    Like `log`, with a rate limit for floods: a number of lines a second for each kind and rule.

    Events without a line are counted, and the next line of that kind tells their number. A server's `info()` counts all
    events.
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._rates = LineRates(seconds)

    def __call__(self, event: Event) -> None:
        """Write a line, or do not."""
        kind = event.kind()
        if kind is None:
            return
        suppressed = self._rates.take(kind, event.rate)
        if suppressed is not None:
            log_suppressed(_log, suppressed)
            log(event)
