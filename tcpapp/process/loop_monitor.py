"""
Whether the reactor goes round, and where it stands when it does not.

An app that blocks (a slow query, a loop without end) blocks everyone: no message is read, no timer fires, no signal is
heard. The reactor notes that it goes round; a thread beside it looks, and says where the main thread stands where it
has not gone round for too long. It costs nothing for a message.
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
"""How often it is looked in the time that a blockage may last: one is told of no later than a quarter of it after."""

DEEPEST = 8
"""Calls of the stack that are told: the last ones, which is where it stands."""

_log = Logger(namespace="tcpapp")


def _where_the_main_thread_stands() -> FrameType | None:
    return sys._current_frames().get(threading.main_thread().ident or 0)


class LoopWatch:
    """
    Watches `reactor`: `blocked` seconds (0: any number) without a turn are told of, once for each blockage.

    `lag` is how late the last turn was that was asked for, and `most` the latest there was, in seconds. The warning
    comes through the reactor, so when it goes round again; a process that never does is for its manager's watchdog.
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
        """Every how many seconds the reactor is to go round."""
        return self._blocked / LOOKS

    def start(self) -> None:
        """Watch. Nothing is done where any blockage may last, or it watches already."""
        if self._blocked and self._thread is None:
            self._turn = self._reactor.seconds()
            self._beats.start(self.interval, now=False)
            self._over.clear()
            self._thread = threading.Thread(target=self._look_again_and_again, name="tcpapp-lag", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no more; no timer is left, and no thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._beats.stop()
            self._over.set()
            thread.join()

    def look(self) -> None:
        """Say where the main thread stands, if the reactor has not gone round for too long. Any thread may call it."""
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
            "nothing was done for more than {seconds:g} s (blocked): the main thread stood here, and held up everyone\n"
            "{stack}",
            seconds=self._blocked,
            stack=stack,
        )

    def _look_again_and_again(self) -> None:
        while not self._over.wait(self.interval):
            self.look()
