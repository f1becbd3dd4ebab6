"""
Lines of the log about failures of peers and apps: their text, and their rate.

The text of an exception can hold bytes of a peer, and a peer can make an app fail any number of times. So the text of a
failure is escaped and cut. Lines of one kind have a rate limit; lines over the limit are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure, format_frames
from twisted.python.log import logerr
from twisted.python.reflect import qual, safe_str
from typing_extensions import override

from tcpapp.limits.token_bucket import TokenBucket
from tcpapp.spec import line_of

__all__ = ["FAILURES", "FailureLog", "LineRates", "LoggedFailure", "kind_of", "log_suppressed"]

FAILURES = 1
"""Tracebacks a second of one kind. Our choice: each has about 1,500 bytes, and a second one says nothing new."""

MOST_KINDS = 200
"""Kinds with a rate of their own. Our choice: an app has a few dozen, and a peer cannot fill memory with more."""

MOST_FRAMES = 30
"""The most calls that a traceback shows. Our choice: an endless recursion has a thousand, in 100 kB."""

FIRST_FRAMES = 10
"""How many of the `MOST_FRAMES` calls are the outermost ones."""


class LineRates:
    """Rates of log lines: how many lines of each kind can be written. `seconds` is the clock."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._buckets: dict[Hashable, TokenBucket] = {}
        self._suppressed: Counter[Hashable] = Counter()

    def take(self, kind: Hashable, rate: float) -> int | None:
        """
        Return how many lines of this `kind` were left out since the last one, if a line can be written now; otherwise
        `None`.

        `rate` is the number of lines a second, and as many at once after a quiet second. A line that cannot be written
        is counted.
        """
        if kind not in self._buckets and len(self._buckets) >= MOST_KINDS:
            kind = None
        bucket = self._buckets.setdefault(kind, TokenBucket(rate))
        now = self._seconds()
        if bucket.available(now) < 1:
            self._suppressed[kind] += 1
            return None
        bucket.take(now)
        return self._suppressed.pop(kind, 0)


class LoggedFailure(Failure):
    """
    A failure for the log. Its text is escaped and cut, however it is printed. All other attributes are unchanged.

    An observer that sends exceptions elsewhere finds the original exception in `value`.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)

    @override
    def getErrorMessage(self) -> str:
        """Return the exception's text, in one line."""
        return line_of(super().getErrorMessage())

    @override
    def printTraceback(self, file: Any = None, elideFrameworkCode: object = False, detail: str = "default") -> None:
        """Write the traceback to `file` (`None`: the log). All other ways to print the failure call this method."""
        write = (logerr if file is None else file).write
        last = f"{qual(type(self.value))}: {line_of(safe_str(self.value))}\n"
        if detail == "brief":
            write(f"Traceback: {last}")
            return
        write("Traceback (most recent call last):\n")
        self._print_frames(write)
        write(last)

    def _print_frames(self, write: Callable[[str], object]) -> None:
        frames = self.frames
        suppressed = len(frames) - MOST_FRAMES
        if suppressed > 0:
            format_frames(frames[:FIRST_FRAMES], write)
            write(f"  ({suppressed} calls are left out here)\n")
            frames = frames[FIRST_FRAMES + suppressed :]
        format_frames(frames, write)


class FailureLog:
    """Logs the failures of the user's functions: with a safe text, and at most `FAILURES` a second of one kind."""

    def __init__(self, seconds: Callable[[], float] = monotonic) -> None:
        self._rates = LineRates(seconds)

    def write(self, to: Logger, text: str, failure: Failure, **fields: Any) -> None:
        """Log `text` with its `fields` and the traceback of `failure`, unless there were too many like it."""
        suppressed = self._rates.take(kind_of(failure), FAILURES)
        if suppressed is not None:
            log_suppressed(to, suppressed)
            to.failure(text, LoggedFailure(failure), **fields)


def log_suppressed(to: Logger, count: int) -> None:
    """Log that `count` lines like the next one were left out. Does nothing for 0."""
    if count:
        to.warn("left out {count} line(s) like the next one", count=count)


def kind_of(failure: Failure) -> tuple[object, ...]:
    """Return a key that is equal for similar failures: the exception's type, and the line that raised it."""
    traceback = failure.tb
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = () if traceback is None else (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    return (failure.type, *where)
