"""
The event loop monitor: whether the reactor runs, and where the main thread is when it does not.

An app that blocks (a slow query, an endless loop) blocks all clients: no message is read, no timer fires, no signal is
handled. The reactor records that it runs. A thread watches the record, and reports where the main thread is when the
reactor has not run for too long. This costs nothing per message.
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

__all__ = ["LoopWatch"]

LOOKS = 4
"""Checks within the longest allowed stall: a stall is reported at most a quarter of that time late."""

DEEPEST = 8
"""Calls of the stack that are logged: the last ones, which show where the thread is."""

_log = Logger(namespace="tcpapp")


def _where_the_main_thread_stands() -> FrameType | None:
    return sys._current_frames().get(threading.main_thread().ident or 0)


class LoopWatch:
    """
    Watches `reactor`: a turn that takes longer than `blocked` seconds (0: no limit) is reported, once for each stall.

    `lag` is the delay of the last timer and `most` the longest delay so far, in seconds. The warning is logged through
    the reactor, so after the stall. A process that stalls for ever is the business of its manager's watchdog.
    """

    def __init__(
        self,
        reactor: Any,
        blocked: float,
        *,
        frame: Callable[[], FrameType | None] = _where_the_main_thread_stands,
    ) -> None:
        self._reactor = reactor
        self._blocked = blocked
        self._frame = frame
        self._turn = 0.0
        self._told = False
        self._beats = LoopingCall(self._beat)
        self._beats.clock = reactor
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.lag = 0.0
        self.most = 0.0

    @property
    def interval(self) -> float:
        """The interval in seconds at which the reactor records that it runs."""
        return self._blocked / LOOKS

    def start(self) -> None:
        """Watch. Does nothing if no stall is reported, or if it watches already."""
        if self._blocked and self._thread is None:
            self._turn = self._reactor.seconds()
            self._beats.start(self.interval, now=False)
            self._over.clear()
            self._thread = threading.Thread(target=self._look_again_and_again, name="tcpapp-lag", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching; no timer and no thread is left."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._beats.stop()
            self._over.set()
            thread.join()

    def look(self) -> None:
        """Report where the main thread is, if the reactor has not run for too long. Any thread can call it."""
        since = self._reactor.seconds() - self._turn
        if since < self._blocked or self._told:
            return
        self._told = True
        stack = "".join(traceback.format_stack(self._frame())[-DEEPEST:])
        self._reactor.callFromThread(self._tell, stack)

    def _beat(self) -> None:
        now = self._reactor.seconds()
        self.lag = max(0.0, now - self._turn - self.interval)
        self.most = max(self.most, self.lag)
        self._turn = now
        self._told = False

    def _tell(self, stack: str) -> None:
        _log.warn(
            "the event loop stalled for more than {seconds:g} s (blocked): the main thread was here, and all clients "
            "waited\n{stack}",
            seconds=self._blocked,
            stack=stack,
        )

    def _look_again_and_again(self) -> None:
        while not self._over.wait(self.interval):
            self.look()
