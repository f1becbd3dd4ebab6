"""
Counts lines that the log could not write: its disk is full, or nobody reads its pipe.

Twisted then goes on without the lines, and so does a server, because serving matters more than logging. But an operator
must learn that lines are missing. So the lines are counted, and reported as soon as the log can be written again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from zope.interface import implementer

from tcpapp.spec import line_of

__all__ = ["LogLoss"]

TRY_AGAIN = 1.0
"""Seconds after a lost line until another line is tried."""

_log = Logger(namespace="tcpapp")


@implementer(ILogObserver)
class LogLoss:
    """
    An observer of Twisted's log that counts the lines that other observers could not write: `count`, in total.

    While lost lines are to be reported, it tries a line a second on `clock`; those lines are not counted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._unreported = 0
        self._reporting = False
        self._error = ""
        self.count = 0

    def start(self) -> None:
        """Start listening."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Stop listening; no timer is left."""
        globalLogPublisher.removeObserver(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def __call__(self, event: dict[str, Any]) -> None:
        """Count a failure of another observer. Twisted calls it."""
        if event.get("log_namespace") == "twisted.logger._observer" and "log_failure" in event:
            self.count += not self._reporting
            self._unreported += not self._reporting
            self._reporting = False
            self._error = line_of(event["log_failure"].getErrorMessage())
            if self._timer is None:
                self._timer = self._clock.callLater(TRY_AGAIN, self._report)

    def _report(self) -> None:
        """Report the lost lines in a line. If that line is lost too, it is tried later."""
        self._timer = None
        self._reporting = True
        _log.warn("the log could not write {count} line(s): {error}", count=self._unreported, error=self._error)
        if self._reporting:  # the line was not lost
            self._reporting, self._unreported = False, 0
