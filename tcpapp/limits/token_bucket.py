"""A token bucket (RFC 2697): how fast items can arrive. It only counts; its caller makes items wait."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """
    A token bucket: allows `rate` items a second, and as many at once after a quiet second, but at least one. 0 is no
    limit.

    It tells how long to wait, or how many items can come now. Items that come too early are counted, and make the next
    wait longer.
    """

    __slots__ = ("_tokens", "_updated_at", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._tokens = self._most
        self._updated_at = 0.0

    def take(self, now: float, count: int = 1) -> float:
        """
        Count `count` more items at `now` (seconds). Returns the seconds to wait before the next item; 0.0 for no wait.
        """
        if not self.rate:
            return 0.0
        self._tokens = self.available(now) - count
        return self.until_next()

    def available(self, now: float) -> float:
        """Return how many items can come at `now`."""
        passed = max(0.0, now - self._updated_at)  # a clock that is set back gives no credit
        self._updated_at = now
        self._tokens = min(self._most, self._tokens + passed * self.rate)
        return self._tokens

    def until_next(self, count: int = 1) -> float:
        """Return the seconds from the last call until the next item can come, or the next `count` items."""
        return max(0.0, (count - self._tokens) / self.rate)

    def load(self, now: float, tokens: float) -> None:
        """
        Continue at `now` with the `tokens` that were `available` in another bucket, but at most as many as after a
        quiet second.
        """
        self._updated_at = now
        self._tokens = min(tokens, self._most)

    @property
    def _most(self) -> float:
        """How many items can come after a quiet time."""
        return max(self.rate, 1.0) if self.rate else 0.0
