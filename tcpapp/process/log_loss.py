"""
Counts lines that the log could not write, because its disk is full or the reader of its pipe does not read.

Twisted drops such lines, and the server continues, because serving matters more than logging. But an operator must
learn that lines are missing. So the lines are counted, and reported as soon as the log can be written again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from zope.interface import implementer

from tcpapp.spec import line_of

__all__ = ["LogLoss"]

TRY_AGAIN = 1.0
"""Seconds after a lost line until the next attempt to write a line. Our choice."""

_log = Logger(namespace="tcpapp")


@implementer(ILogObserver)
class LogLoss:
    """
    An observer of Twisted's log that counts the lines that other observers could not write. `count` is their number.

    Until it has reported the lost lines, it tries to write the report once a second on `clock`. The report itself is
    not counted when it is lost.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._unreported = 0
        self._reporting = False
        self._error = ""
        self.count = 0

    def start(self) -> None:
        """Begin to observe the log."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Stop observing the log. No timer is left."""
        globalLogPublisher.removeObserver(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def __call__(self, event: dict[str, Any]) -> None:
        """Count a line that another observer could not write. Twisted calls this for each event of its log."""
        if event.get("log_namespace") == "twisted.logger._observer" and "log_failure" in event:
            self.count += not self._reporting
            self._unreported += not self._reporting
            self._reporting = False
            self._error = line_of(event["log_failure"].getErrorMessage())
            if self._timer is None:
                self._timer = self._clock.callLater(TRY_AGAIN, self._report)

    def _report(self) -> None:
        """Log the number of lost lines. If that line is lost, too, try again later."""
        self._timer = None
        self._reporting = True
        _log.warn("the log could not write {count} line(s): {error}", count=self._unreported, error=self._error)
        if self._reporting:  # the line was not lost
            self._reporting, self._unreported = False, 0
