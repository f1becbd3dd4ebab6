"""What goes wrong during a run without an exception that anyone sees: logged failures, Deferreds nobody listened to."""

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
    The failures of a run, in order: `failures`, and apart from them, `expected`, those of the `types` that are.

    While it is `on`, Twisted's log is listened to, what Python draws at random follows `chance`, TLS takes no global
    reactor, and garbage is collected only when `collect` is called: a Deferred's unhandled failure is logged when it is
    collected, and that has to happen at the same moment in every run.
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
        """Note a failure, among those that were expected if it is one of them."""
        (self.expected if failure.check(*self.types) else self.failures).append(failure)

    def __call__(self, event: LogEvent) -> None:
        """Note the event's failure, as an observer of the log."""
        failure = event.get("log_failure")
        if failure is not None:
            self.add(failure)
