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
    Write an event to Twisted's log, if an operator must know about it. It is a listener for `Telemetry`.

    A connection that opens or ends cleanly makes no line. Bytes of a peer are in a line only escaped and cut, also
    inside the text of an exception. When an app fails, the field ``log_failure`` is the failure with a safe text, and
    its ``value`` is the original exception. A reply that cannot be sent makes one line, without a traceback.
    """
    if event.kind() is not None:
        for line in event.lines():
            _log.emit(LogLevel.levelWithName(line.level), line.text, **line.fields)


class RateLimitedLog:
    """
    Writes events as `log` does, with a rate limit: a number of lines a second for each kind of event and each rule.

    Events over the rate are counted, and their number is logged before the next line of that kind. A server's `info()`
    counts all events.
    """

    only_news = True
    """A connection that opens, or that ends cleanly, makes no line, so it needs no event."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._rates = LineRates(seconds)

    def __call__(self, event: Event) -> None:
        """Write the line of `event`, unless there were too many like it."""
        kind = event.kind()
        if kind is None:
            return
        suppressed = self._rates.take(kind, event.rate)
        if suppressed is not None:
            log_suppressed(_log, suppressed)
            log(event)
