"""The listener that writes events to the log, and not more often than a person can read."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.logger import Logger, LogLevel

from tcpapp.telemetry.events import Event
from tcpapp.telemetry.log_lines import LineRates, tell_left_out

__all__ = ["CalmLog", "log"]

_log = Logger(namespace="tcpapp")


def log(event: Event) -> None:
    """
    The listener that writes to Twisted's log: what an operator has to know, a line each.

    Connections that open, and that end well, are not news and make no line. What a peer sent stands in a line only
    escaped and cut, also where it is in an exception's text: ``log_failure`` of an event is the app's failure, whose
    text is safe, and whose ``value`` is the exception as it was raised. A reply that cannot be sent is one line.
    """
    if event.kind() is not None:
        for line in event.lines():
            _log.emit(LogLevel.levelWithName(line.level), line.text, **line.fields)


class CalmLog:
    """
    `log`, but not as often as a flood of peers would have it: so many lines a second of one kind and one rule.

    What makes no line is counted, and told in the next line of that kind. A server's `info()` counts everything.
    """

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._rates = LineRates(seconds)

    def __call__(self, event: Event) -> None:
        """Write a line, or do not."""
        kind = event.kind()
        if kind is None:
            return
        left_out = self._rates.take(kind, event.rate)
        if left_out is not None:
            tell_left_out(_log, left_out)
            log(event)
