"""Failures of a run that raise no visible exception: logged failures, and failed Deferreds that nobody handled."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.testing.simulation.chance import Chance
from tcpapp.testing.simulation.tls import without_a_reactor

__all__ = ["Watch"]


@implementer(ILogObserver)
class Watch:
    """
    The failures of a run, in order: `failures`, and separately `expected`, the failures of the expected `types`.

    While it is `on`, it listens to Twisted's log, Python's random values follow `chance`, and TLS takes no global
    reactor. Garbage is collected only when `collect` is called. A Deferred's unhandled failure is logged when it is
    collected, and that must happen at the same moment in every run.
    """

    def __init__(self, chance: Chance) -> None:
        self.failures: list[Failure] = []
        self.expected: list[Failure] = []
        self.types: tuple[type[BaseException], ...] = ()
        self._chance = chance
        self._depth = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch, as long as this lasts."""
        if self._depth:
            yield
            return
        collecting = gc.isenabled()
        gc.disable()
        globalLogPublisher.addObserver(self)
        self._depth = 1
        try:
            with without_a_reactor(), self._chance.on():
                yield
        finally:
            self._depth = 0
            globalLogPublisher.removeObserver(self)
            if collecting:
                gc.enable()

    def collect(self) -> None:
        """Find the failures of Deferreds that were dropped."""
        gc.collect()

    def add(self, failure: Failure) -> None:
        """Note a failure, as expected if it is of such a type."""
        (self.expected if failure.check(*self.types) else self.failures).append(failure)

    def __call__(self, event: LogEvent) -> None:
        """Note the event's failure, as an observer of the log."""
        failure = event.get("log_failure")
        if failure is not None:
            self.add(failure)
