"""Failures of a run that raise no exception: logged failures, and unhandled failures of Deferreds."""

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
    Collects the failures of a run, in order: `expected` are the failures of the expected `types`, and `failures` all
    others.

    While it is `on`, it observes Twisted's log, Python's random values follow `chance`, and TLS does not use the global
    reactor. Garbage is collected only when `collect` is called, because the unhandled failure of a Deferred is logged
    when the Deferred is collected. That must happen at the same moment in every run.
    """

    def __init__(self, chance: Chance) -> None:
        self.failures: list[Failure] = []
        self.expected: list[Failure] = []
        self.types: tuple[type[BaseException], ...] = ()
        self._chance = chance
        self._depth = 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch in the block."""
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
        """Collect garbage, to find the failures of dropped Deferreds."""
        gc.collect()

    def add(self, failure: Failure) -> None:
        """Note a failure, as expected if it is of an expected type."""
        (self.expected if failure.check(*self.types) else self.failures).append(failure)

    def __call__(self, event: LogEvent) -> None:
        """Note the failure of an event. The log calls it."""
        failure = event.get("log_failure")
        if failure is not None:
            self.add(failure)
