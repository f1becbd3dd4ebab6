"""
How many requests can be sent again: a part of the requests, and a few in each second (Finagle's retry budget).

If a server fails under its load, clients that repeat each request three times keep it failing.
"""

from __future__ import annotations

from collections.abc import Callable

from tcpapp.limits import Recovery
from tcpapp.limits.token_bucket import TokenBucket

__all__ = ["RetryBudget"]

MOST_SAVED = 100.0
"""Retries that can be saved up: our choice, as many as 500 requests give."""


class RetryBudget:
    """Retries that are still allowed by `Recovery`, on the clock `seconds`."""

    def __init__(self, recovery: Recovery, seconds: Callable[[], float]) -> None:
        self._part = recovery.retry_percent / 100
        self._least = TokenBucket(recovery.retries_least)
        self._seconds = seconds
        self._saved = 0.0

    def earn(self) -> None:
        """A request is made."""
        self._saved = min(MOST_SAVED, self._saved + self._part)

    def take(self) -> bool:
        """Whether one more request can be sent again; if so, it is counted."""
        if self._saved >= 1:
            self._saved -= 1
            return True
        if self._least.rate and self._least.available(self._seconds()) >= 1:
            self._least.take(self._seconds())
            return True
        return False
