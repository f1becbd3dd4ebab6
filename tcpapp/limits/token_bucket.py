"""How fast something may come: a token bucket (RFC 2697), which holds nobody back itself."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """
    So many a second (`rate`), and as many at once after a quiet second; 0: any number.

    It says how long to wait, or how many may come now. Those who come all the same are reckoned up, and the wait is the
    longer.
    """

    __slots__ = ("_at", "_credit", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._credit = rate
        self._at = 0.0

    def wait(self, now: float, count: int = 1) -> float:
        """So many more came at `now` (seconds): how many seconds are to pass before the next one; 0.0 if none."""
        if not self.rate:
            return 0.0
        self._credit = self.credit(now) - count
        return self.until_next()

    def credit(self, now: float) -> float:
        """How many may come at `now`."""
        passed = max(0.0, now - self._at)  # a clock that is set back gives no credit
        self._at = now
        self._credit = min(self.rate, self._credit + passed * self.rate)
        return self._credit

    def until_next(self, count: int = 1) -> float:
        """How many seconds are to pass before the next one may come, or `count`, from when it was last asked."""
        return max(0.0, (count - self._credit) / self.rate)
