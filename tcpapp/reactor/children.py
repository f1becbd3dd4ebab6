"""
How the reactor hears that a child process has ended.

Twisted gives the descriptor of a pipe of its own to ``signal.set_wakeup_fd``. uvloop gives another, as it begins to
run, to be woken by signals at all; so ``SIGCHLD`` has a handler here that has the processes reaped.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from twisted.internet.process import reapAllProcesses

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ChildSignals"]


class ChildSignals:
    """A ``SignalHandling``, as Twisted's reactors are made of, for ``SIGCHLD``."""

    def __init__(self, call_from_signal: Callable[[Callable[[], None]], object]) -> None:
        self._call_from_signal = call_from_signal

    def install(self) -> None:
        """Hear of children from now on, and look after those that ended before."""
        signal.signal(signal.SIGCHLD, lambda *_: self._call_from_signal(reapAllProcesses))
        signal.siginterrupt(signal.SIGCHLD, False)
        reapAllProcesses()

    def uninstall(self) -> None:
        """Hear of them no more."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
