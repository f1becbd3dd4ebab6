"""Middleware that measures how long an app takes for each message."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Final
from weakref import WeakKeyDictionary

from twisted.logger import Logger
from typing_extensions import override

from tcpapp.apps.middleware.wrapping import wrap
from tcpapp.connection.handlers import deferred_of
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.telemetry.log_lines import LineRates, log_suppressed
from tcpapp.transport.addresses import describe

__all__ = ["Timings", "timing"]

BOUNDS: Final = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds in seconds: the default buckets of Prometheus's clients (5 ms to 10 s), and such steps below them."""

LINES = 10
"""Lines a second of the log, and as many at once after a quiet second. Our choice: as for closed connections."""

log = Logger("tcpapp")
rates = LineRates()


class Timings:
    """
    A histogram of durations. Call it with each duration, in seconds.

    - `count`, `total` and `slowest`: how many there were, their sum and the longest of them.
    - `buckets`: how many durations were at most as long as each upper bound, as in a histogram of Prometheus.

    ``str()`` of it is one line for people.
    """

    __slots__ = ("_counts", "count", "slowest", "total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.count = 0
        self.total = 0.0
        self.slowest = 0.0

    def __call__(self, seconds: float) -> None:
        """Add a duration."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.count += 1
        self.total += seconds
        self.slowest = max(self.slowest, seconds)

    @property
    def buckets(self) -> dict[float, int]:
        """The cumulative counts by upper bound. The last bound is infinity."""
        found: dict[float, int] = {}
        so_far = 0
        for bound, count in zip((*BOUNDS, inf), self._counts, strict=True):
            so_far += count
            found[bound] = so_far
        return found

    def quantile(self, share: float) -> float:
        """
        Return a duration that at least this `share` (0 to 1) of the durations do not exceed: the upper bound of a
        bucket, or `slowest`. It is 0.0 without durations.
        """
        wanted = share * self.count
        bound = next(bound for bound, count in self.buckets.items() if count >= wanted)
        return min(bound, self.slowest)

    @override
    def __str__(self) -> str:
        if not self.count:
            return "no messages"
        mean, half, most = (_text(each) for each in (self.total / self.count, self.quantile(0.5), self.quantile(0.99)))
        return (
            f"{self.count} message(s), mean {mean}, half within {half}, 99% within {most}, "
            f"slowest {_text(self.slowest)}"
        )


def _text(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def timing(
    app: Any, record: Callable[[float], object] | None = None, *, seconds: Callable[[], float] = perf_counter
) -> Any:
    """
    Measure how long `app` takes for each message: until it returns, or until its Deferred or coroutine has its result.

    `record` is called with each duration, in seconds: give it a `Timings`, or the ``observe`` of a histogram of your
    metrics. Without it, each connection has a `Timings`, and the log gets its line at the end of the connection.

    A message that fails is measured, too. A batch is measured as one message, and a reply of many messages until the
    app gives its iterator. A conversation is done with a message when it asks for the next one. `seconds` is the clock.

    Raises `InvalidOption` for an object that is no app.
    """
    if record is not None and not callable(record):
        raise InvalidOption(f"timing: record={record!r}: takes a function of a number of seconds")
    of_connections: WeakKeyDictionary[Any, Timings] = WeakKeyDictionary()

    def received(message: Any, connection: Any, inner: Any) -> Any:
        note = record if record is not None else of_connections.setdefault(connection, Timings())
        return _measured(note, seconds, partial(inner, message, connection))

    def closed(connection: Any, reason: Any, inner: Any) -> Any:
        timings = of_connections.pop(connection, None)
        if timings is not None:
            _log(connection, timings)
        return inner(connection, reason)

    return wrap(app, received=received, received_all=received, closed=closed if record is None else None)


def _measured(note: Callable[[float], object], seconds: Callable[[], float], call: Callable[[], Any]) -> Any:
    """The result of `call`. `note` gets the seconds until it is there."""
    began = seconds()

    def done(result: Any) -> Any:
        note(seconds() - began)
        return result

    try:
        result = call()
    except BaseException:
        done(None)
        raise
    deferred = deferred_of(result)
    return done(result) if deferred is None else deferred.addBoth(done)


def _log(connection: Any, timings: Timings) -> None:
    """Log the timings of a connection, unless there were too many lines in the last second."""
    left_out = rates.take(Timings, LINES)
    if left_out is None:
        return
    log_suppressed(log, left_out)
    try:
        peer = describe(connection.peer)
    except NotConnected:  # a transport without addresses
        peer = "a peer"
    log.info("{peer}: {timings}", peer=peer, timings=str(timings))
