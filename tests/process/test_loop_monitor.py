"""The event loop monitor: how late a turn of the loop is, and one report of the place where it stalls."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

from twisted.internet.task import Clock

from tcpapp.process.loop_monitor import LoopMonitor, _main_thread_frame
from tests.patience import PATIENCE


class Reactor(Clock):
    """A reactor in memory whose time can pass without a turn, as when an app blocks."""

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.callLater(0, function, *arguments)

    def block(self, seconds: float) -> None:
        self.rightNow += seconds


def here() -> FrameType | None:
    """Return the frame of this function."""
    return sys._getframe()


def test_a_stall_is_reported_once_with_its_place(said: list[str]) -> None:
    """A stall of the loop is reported once, with the place where the loop stalls; the next stall is reported again."""
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


def test_the_monitor_keeps_the_delay_of_a_turn() -> None:
    """`lag` is the delay of the last turn, and `longest` is the longest delay."""
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
    """With loop_stall=0, the monitor starts no thread and sets no timer."""
    reactor = Reactor()
    monitor = LoopMonitor(reactor, 0)
    monitor.start()
    assert reactor.getDelayedCalls() == []
    monitor.stop()


def test_a_monitor_has_one_thread() -> None:
    """A monitor that is started twice has one thread; `stop` ends the thread, and can be repeated."""
    before = threading.active_count()
    monitor = LoopMonitor(Reactor(), 1000.0)
    monitor.start()
    monitor.start()
    assert threading.active_count() == before + 1
    monitor.stop()
    monitor.stop()
    assert threading.active_count() == before


def test_the_thread_reports_a_stall(said: list[str]) -> None:
    """The thread of the monitor finds the stall, because the reactor cannot."""
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
    assert "test_the_thread_reports_a_stall" in said[0]
