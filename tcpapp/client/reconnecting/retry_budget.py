"""
How many requests may be sent again: a part of those that are made, and a few in each second (Finagle's retry budget).

Where a server fails under its load, clients that ask each question three times see to it that it goes on failing.
"""

from __future__ import annotations

from collections.abc import Callable

from tcpapp.limits import Recovery
from tcpapp.limits.token_bucket import Pace

__all__ = ["Budget"]

MOST = 100.0
"""Retries that may be saved up: our choice, as many as 500 requests give."""


class Budget:
    """Retries that may still be made, by `Recovery`, at the time that `seconds` gives."""

    def __init__(self, recovery: Recovery, seconds: Callable[[], float]) -> None:
        self._part = recovery.retry_percent / 100
        self._least = Pace(recovery.retries_least)
        self._seconds = seconds
        self._saved = 0.0

    def earn(self) -> None:
        """A request is made."""
        self._saved = min(MOST, self._saved + self._part)

    def take(self) -> bool:
        """Whether one more may be sent again, which then counts."""
        if self._saved >= 1:
            self._saved -= 1
            return True
        if self._least.rate and self._least.credit(self._seconds()) >= 1:
            self._least.wait(self._seconds())
            return True
        return False
