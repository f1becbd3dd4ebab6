"""
The retry budget: how many requests can be sent again. It is a part of the requests, and a few in each second, as in
Finagle.

Without it, clients that repeat each request three times would keep an overloaded server from recovering.
"""

from __future__ import annotations

from collections.abc import Callable

from tcpapp.limits import Recovery
from tcpapp.limits.token_bucket import TokenBucket

__all__ = ["RetryBudget"]

MOST_SAVED = 100.0
"""The most retries that can be saved up. Our choice: as many as 500 requests give."""


class RetryBudget:
    """Counts the retries that `Recovery` still allows. `seconds` is the clock."""

    def __init__(self, recovery: Recovery, seconds: Callable[[], float]) -> None:
        self._part = recovery.retry_percent / 100
        self._least = TokenBucket(recovery.retries_least)
        self._seconds = seconds
        self._saved = 0.0

    def earn(self) -> None:
        """Count a request: it adds a part of a retry to the budget."""
        self._saved = min(MOST_SAVED, self._saved + self._part)

    def take(self) -> bool:
        """Return whether one more request can be sent again, and count it if so."""
        if self._saved >= 1:
            self._saved -= 1
            return True
        if self._least.rate and self._least.available(self._seconds()) >= 1:
            self._least.take(self._seconds())
            return True
        return False
