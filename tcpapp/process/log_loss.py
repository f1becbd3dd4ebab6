"""
Lines that the log could not take: its disk is full, or nobody reads its pipe.

Twisted goes on without a word then, and so does a server: to serve is more than to tell. But that lines are missing has
to be known, so they are counted, and told as soon as the log takes lines again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from zope.interface import implementer

from tcpapp.spec import line_of

__all__ = ["LostLines"]

TRY_AGAIN = 1.0
"""Seconds after a line was lost until the log is tried with another."""

_log = Logger(namespace="tcpapp")


@implementer(ILogObserver)
class LostLines:
    """
    An observer of Twisted's log that counts what the others could not take: `count`, in all.

    While some are to be told of, a line a second is tried, on `clock`; those lines are not counted.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._untold = 0
        self._telling = False
        self._error = ""
        self.count = 0

    def start(self) -> None:
        """Listen."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Listen no more; no timer is left."""
        globalLogPublisher.removeObserver(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def __call__(self, event: dict[str, Any]) -> None:
        """Twisted tells every other observer of one that failed."""
        if event.get("log_namespace") == "twisted.logger._observer" and "log_failure" in event:
            self.count += not self._telling
            self._untold += not self._telling
            self._telling = False
            self._error = line_of(event["log_failure"].getErrorMessage())
            if self._timer is None:
                self._timer = self._clock.callLater(TRY_AGAIN, self._tell)

    def _tell(self) -> None:
        """Tell it in a line, which may be lost in turn: then it is tried later."""
        self._timer = None
        self._telling = True
        _log.warn("the log could not take {count} line(s): {error}", count=self._untold, error=self._error)
        if self._telling:  # it was not lost
            self._telling, self._untold = False, 0
