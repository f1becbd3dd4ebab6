"""
Detecting that a child process has ended.

Twisted gives the descriptor of its own pipe to ``signal.set_wakeup_fd``. uvloop sets another one when it begins to run,
because signals must wake it. So this module uses a handler of ``SIGCHLD``, which reaps the processes.

The handler is not always installed. libuv replaces it while a process that asyncio started runs, and installs none when
the last of these has ended. A program can also set its own handler. So the reactor also watches each process that it
starts by a descriptor (``pidfd_open``), if the system supports that. Otherwise it checks its processes ten times a
second while asyncio has some.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Any

from twisted.internet.process import reapAllProcesses, reapProcessHandlers
from twisted.python.log import Logger

if TYPE_CHECKING:
    from tcpapp.reactor.loop import Loop

__all__ = ["ChildSignals"]

LOOK_AFTER = 0.1
"""Seconds between two checks if nothing reports the end. Our choice: less than a person notices."""


def unavailable(_: int) -> int:
    """Raise `OSError`, because the system has no descriptors for processes."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


pidfd_open: Any = getattr(os, "pidfd_open", unavailable)


class ChildExit(Logger):
    """A reader for the reactor, which becomes readable when a process ends."""

    def __init__(self, children: ChildSignals, process: int) -> None:
        self._children = children
        self.process = process
        self._descriptor = pidfd_open(process)

    def fileno(self) -> int:
        """Return the descriptor of the process."""
        return int(self._descriptor)

    def doRead(self) -> None:  # noqa: N802 - called by the reactor
        """Reap the process, and all others that have ended."""
        self._children.leave(self)
        reapAllProcesses()

    def connectionLost(self, reason: object) -> None:
        """Stop watching the process."""
        self._children.leave(self)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class ChildSignals:
    """A ``SignalHandling`` for ``SIGCHLD``, as in Twisted's reactors."""

    def __init__(self, reactor: Any, loop: Loop) -> None:
        """Prepare for a reactor on a loop; `install` begins the detection."""
        self._reactor = reactor
        self._loop = loop
        self._is_installed = False
        self._watched: dict[int, ChildExit] = {}
        self._look: Any = None

    def install(self) -> None:
        """Detect ended children from now on, and reap children that have ended before."""
        self._is_installed = True
        self._loop.on_processes = self._other_processes
        self._take_signal(self._reap)
        reapAllProcesses()
        self.follow()

    def _take_signal(self, handler: Any) -> None:
        signal.signal(signal.SIGCHLD, handler)
        signal.siginterrupt(signal.SIGCHLD, False)

    def _reap(self, *_: object) -> None:
        self._reactor.callFromThread(reapAllProcesses)

    def uninstall(self) -> None:
        """Stop the detection."""
        self._is_installed = False
        self._loop.on_processes = int
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for each in list(self._watched.values()):
            self.leave(each)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _other_processes(self) -> None:
        """Restore our handler when asyncio has started or ended a process, because libuv changes the handler then."""
        self.follow()
        if not self._loop.processes:
            self._take_signal(signal.getsignal(signal.SIGCHLD) or self._reap)  # the program can have its own
            self._reap()

    def follow(self) -> None:
        """Watch each process that is not watched yet."""
        if self._is_installed:
            for process in [*reapProcessHandlers]:
                if process not in self._watched:
                    self._watch(process)

    def _watch(self, process: int) -> None:
        try:
            watched = self._watched[process] = ChildExit(self, process)
        except OSError:  # no descriptor is left, or the system has none for processes
            if self._loop.processes and self._look is None:
                self._look = self._loop.call_later(LOOK_AFTER, self._look_after)
        else:
            self._reactor._addInternalReader(watched)

    def _look_after(self) -> None:
        self._look = None
        self._reap()
        self.follow()

    def leave(self, child_exit: ChildExit) -> None:
        """Stop watching a process."""
        if self._watched.pop(child_exit.process, None) is not None:
            self._reactor._internalReaders.discard(child_exit)
            self._reactor.removeReader(child_exit)
            child_exit.close()
