"""
The event loop monitor: it notices when the event loop stalls, and logs what blocks it.

An app that blocks (a slow query, an endless loop) blocks all clients: no message is read, no timer fires, no signal is
handled. A timer of the reactor notes the time at short intervals. A thread checks that note. When it is too old, the
thread takes the stack of the main thread for the log. This costs nothing per message.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["LoopMonitor"]

CHECKS_PER_STALL = 4
"""Checks within the seconds of `stall`: a stall is noticed at most a quarter of that time late."""

STACK_DEPTH = 8
"""The calls of the stack that are logged: the innermost ones, which show what blocks the thread."""

_log = Logger(namespace="tcpapp")


def _main_thread_frame() -> FrameType | None:
    return sys._current_frames().get(threading.main_thread().ident or 0)


class LoopMonitor:
    """
    Watches `reactor`. A turn that takes longer than `stall` seconds (0: no limit) is logged, once for each stall.

    `lag` is the delay of the last timer and `longest` the longest delay so far, in seconds. The reactor writes the
    warning, so it appears after the stall. A process that stalls for ever needs the watchdog of its service manager.
    """

    def __init__(
        self,
        reactor: Any,
        stall: float,
        *,
        frame: Callable[[], FrameType | None] = _main_thread_frame,
    ) -> None:
        self._reactor = reactor
        self._stall = stall
        self._frame = frame
        self._turn = 0.0
        self._reported = False
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = reactor
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.lag = 0.0
        self.longest = 0.0

    @property
    def interval(self) -> float:
        """The interval in seconds at which the reactor notes the time."""
        return self._stall / CHECKS_PER_STALL

    def start(self) -> None:
        """Begin to watch. Does nothing if `stall` is 0, or if it watches already."""
        if self._stall and self._thread is None:
            self._turn = self._reactor.seconds()
            self._ticks.start(self.interval, now=False)
            self._over.clear()
            self._thread = threading.Thread(target=self._check_repeatedly, name="tcpapp-loop-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching. No timer and no thread is left."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._ticks.stop()
            self._over.set()
            thread.join()

    def check(self) -> None:
        """Report where the main thread is, if the reactor has not run for too long. Any thread can call this."""
        since = self._reactor.seconds() - self._turn
        if since < self._stall or self._reported:
            return
        self._reported = True
        stack = "".join(traceback.format_stack(self._frame())[-STACK_DEPTH:])
        self._reactor.callFromThread(self._report, stack)

    def _tick(self) -> None:
        now = self._reactor.seconds()
        self.lag = max(0.0, now - self._turn - self.interval)
        self.longest = max(self.longest, self.lag)
        self._turn = now
        self._reported = False

    def _report(self, stack: str) -> None:
        _log.warn(
            "the event loop stalled for more than {seconds:g} s (loop_stall): the main thread was here, and all "
            "clients waited\n{stack}",
            seconds=self._stall,
            stack=stack,
        )

    def _check_repeatedly(self) -> None:
        while not self._over.wait(self.interval):
            self.check()
