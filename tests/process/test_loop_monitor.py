"""The event loop monitor: the delay of the loop, and one report of where it is blocked."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from twisted.internet.task import Clock

from tcpapp.process.loop_monitor import LoopMonitor, _main_thread_frame
from tests.patience import PATIENCE


class Reactor(Clock):
    """A clock whose time passes while nothing is done, as when an app blocks."""

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.callLater(0, function, *arguments)

    def block(self, seconds: float) -> None:
        self.rightNow += seconds


def here() -> FrameType | None:
    return sys._getframe()


def test_a_blockage_is_told_of_once_with_where_it_stands(said: list[str]) -> None:
    """And the next one again."""
    reactor = Reactor()
    monitor = LoopMonitor(reactor, 1.0, frame=here)
    monitor.start()
    reactor.pump([0.25] * 8)
    monitor.check()
    assert said == []
    for count in (1, 2):
        reactor.block(1.5)
        monitor.check()
        monitor.check()
        reactor.advance(0)
        assert len(said) == count
        reactor.pump([0.25] * 4)
    assert "the event loop stalled for more than 1 s (loop_stall)" in said[0]
    assert "in here" in said[0]
    monitor.stop()
    assert reactor.getDelayedCalls() == []


def test_how_late_a_turn_was_is_kept() -> None:
    """The last one, and the latest of all."""
    reactor = Reactor()
    monitor = LoopMonitor(reactor, 1.0)
    monitor.start()
    reactor.pump([0.25] * 2)
    assert (monitor.lag, monitor.longest) == (0.0, 0.0)
    reactor.block(0.75)
    reactor.advance(0)
    assert (monitor.lag, monitor.longest) == (0.5, 0.5)
    reactor.pump([0.25] * 2)
    assert (monitor.lag, monitor.longest) == (0.0, 0.5)
    monitor.stop()


def test_a_monitor_that_is_switched_off_watches_nothing() -> None:
    """0 is any number of seconds: there is no thread, and no timer."""
    reactor = Reactor()
    monitor = LoopMonitor(reactor, 0)
    monitor.start()
    assert reactor.getDelayedCalls() == []
    monitor.stop()


def test_one_thread_looks_however_often_it_is_started() -> None:
    """And is gone when it is stopped, any number of times."""
    before = threading.active_count()
    monitor = LoopMonitor(Reactor(), 1000.0)
    monitor.start()
    monitor.start()
    assert threading.active_count() == before + 1
    monitor.stop()
    monitor.stop()
    assert threading.active_count() == before


def test_the_thread_looks_again_and_again(said: list[str]) -> None:
    """It reports the stall, because the reactor cannot."""
    reactor = Reactor()
    asked = threading.Event()

    def frame() -> FrameType | None:
        asked.set()
        return _main_thread_frame()

    monitor = LoopMonitor(reactor, 0.004, frame=frame)
    monitor.start()
    reactor.block(1.0)
    assert asked.wait(PATIENCE)
    monitor.stop()
    reactor.advance(0)
    assert "test_the_thread_looks_again_and_again" in said[0]
