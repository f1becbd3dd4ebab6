"""
The service as a process: what twistd runs, what signals do to it, what its manager is told.

========= ==================================================================================================
SIGTERM   drain, and exit with 0; a second one cuts what still drains. SIGINT (Ctrl-C) is the same
SIGHUP    read the options file and the environment anew, and the certificates; what is wrong changes nothing
========= ==================================================================================================
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tcpapp.connection.settings import CHANGEABLE
from tcpapp.process.configuration.checking import Checked
from tcpapp.process.configuration.options import OPTIONS
from tcpapp.process.configuration.problems import Problems
from tcpapp.process.configuration.showing import switched_off
from tcpapp.process.log_loss import LostLines
from tcpapp.process.loop_monitor import LoopWatch
from tcpapp.process.nonblocking_log import tell
from tcpapp.process.systemd import Systemd
from tcpapp.server.factory import MessageServerFactory
from tcpapp.server.listener import why_not
from tcpapp.server.service import MessageService
from tcpapp.telemetry.statistics import Info
from tcpapp.transport.addresses import describe

__all__ = ["Configured", "TwistdService", "raise_descriptor_limit", "run_on_monotonic_time"]

STOPS = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop the service."""

RESERVE = 100
"""Descriptors for all but connections: logs, ports, pipes, what the app opens. Our choice; nginx advises no number."""

_log = Logger(namespace="tcpapp")


class Configured(Protocol):
    """Whose service it is: the options, which can be looked at again."""

    parent: Any
    checked: Checked
    doubts: list[str]
    endpoints: list[Any]
    factory: MessageServerFactory

    @property
    def command(self) -> str:
        """What the command is called."""
        ...

    def look(self) -> Checked:
        """What holds now. Raises `Problems`."""
        ...


class TwistdService(MessageService):
    """
    The service as twistd runs it: one line and a non-zero exit where it cannot listen, and orderly ends.

    Twisted's own handler of SIGTERM would end a drained process by the signal, as if it had been killed.
    """

    def __init__(self, options: Configured, reactor: Any) -> None:
        super().__init__(options.factory, options.endpoints, reactor)
        self._reactor = reactor
        self._options = options
        self._command = options.command
        self._twistd: dict[str, Any] = options.parent or {}
        self._terminating = False
        self._systemd = Systemd(os.environ)
        self._watch = LoopWatch(reactor, options.factory.settings.timeouts.blocked)
        self._lost_lines = LostLines(reactor)
        self._alive = LoopingCall(self._systemd.alive)
        self._alive.clock = reactor

    def privilegedStartService(self) -> None:
        """Listen, or end the program. twistd calls it."""
        self._take_signals()  # who sees it listen may stop it, though the reactor does not run yet
        for doubt in [*self._options.doubts, *switched_off(self._options.checked.given)]:
            _log.warn("{doubt}", doubt=doubt)
        self._fit_descriptors()
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:
            told = why_not(error)
            _log.critical("{told}", told=told)
            self._clean_up(told)
            _leave(f"twistd {self._command}: {told}")

    def _clean_up(self, message: str) -> None:
        """What twistd leaves undone on this way out: files of its own and ours, and telling who waits for a daemon."""
        self._reactor.iterate(0)  # which does not run yet, so that the ports that could be opened are closed here
        if self._twistd.get("pidfile"):
            Path(self._twistd["pidfile"]).unlink(missing_ok=True)
        if self._twistd.get("statusPipe") is not None:
            os.write(self._twistd["statusPipe"], f"1 {message}".encode("ascii", "backslashreplace")[:100])

    def info(self) -> Info:
        """What is to be known of it now, how late its loop goes round, and what the log could not take."""
        watch, lost_lines = self._watch, self._lost_lines.count
        return replace(super().info(), lag=watch.lag, most_lag=watch.most, lost_lines=lost_lines)

    def startService(self) -> None:
        """Serve. twistd calls it."""
        super().startService()
        # As the reactor starts, Twisted installs handlers of its own; a signal that comes then waits for ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self._reactor.callWhenRunning(self._take_signals)
        self._reactor.callWhenRunning(self._serves)
        if self._twistd:
            self._reactor.callWhenRunning(leave_to_stay)

    def stopService(self) -> Deferred[None]:
        """Drain. twistd calls it."""
        self._systemd.stopping("draining")
        return super().stopService().addBoth(self._rest)

    def _rest(self, result: Any) -> Any:
        self._watch.stop()
        self._lost_lines.stop()
        if self._alive.running:  # it lived while it drained, and was to be believed to
            self._alive.stop()
        return result

    def _serves(self) -> None:
        self._lost_lines.start()
        self._watch.start()
        self._systemd.ready(f"listening on {', '.join(describe(each) for each in self.addresses)}")
        if self._systemd.watchdog and not self._alive.running:
            self._alive.start(self._systemd.watchdog)

    # Signals.

    def _take_signals(self) -> None:
        for number in STOPS:
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._hung_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._terminate, signal.Signals(number).name)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.reload)

    def _terminate(self, name: str) -> None:
        if self._terminating or not self.running:
            _log.warn("{name}, while stopping: cutting every connection", name=name)
            self.cut()
        else:
            self._terminating = True
            _log.info("{name}: stopping", name=name)
            self._reactor.stop()

    def _fit_descriptors(self) -> None:
        """Have no more connections than there can be descriptors for."""
        limits = self.factory.settings.limits
        most = raise_descriptor_limit(limits.max_connections)
        if most < limits.max_connections:
            self.factory.change(max_connections=most)

    def reload(self) -> None:
        """Read the configuration anew. What can change while it runs changes; where anything is wrong, nothing does."""
        self._systemd.reloading()
        try:
            self._take_over(self._options.look())
        except Problems as problems:
            for text in problems.texts:
                _log.error("not reloaded: {text}", text=text)
        except Exception:  # noqa: BLE001 - an app's module, a plugin's endpoint: the service goes on as it was
            _log.failure("not reloaded")
        self._serves()

    def _take_over(self, checked: Checked) -> None:
        """Have everything of this configuration hold that can change while it runs."""
        before, self._options.checked = self._options.checked, checked
        self.factory.change(**{name: checked.arguments[name] for name in CHANGEABLE})
        self._fit_descriptors()
        for name, option in OPTIONS.items():
            if option.fixed and before.texts(name) != checked.texts(name):
                place = checked.place(name) or before.place(name)
                _log.warn("{place} is not changed: that takes a new start", place=place)
        for line in switched_off(checked.given):
            _log.warn("{line}", line=line)
        self.reload_certificates()
        _log.info("reloaded: limits, timeouts, policies and networks are as they stand now")


def leave_to_stay() -> None:
    """
    Have Python's collector look no more through what the process is made of, which stays as long as it does.

    A full pass through it held the loop for 16 ms, now and then; what comes later is looked through as ever.
    """
    gc.collect()
    gc.freeze()


def run_on_monotonic_time(reactor: Any) -> None:
    """
    Have `reactor` reckon its timers by a clock that is never set (Twisted's is the wall clock, twisted#2424).

    It is left as it is where it runs, or has timers already.
    """
    if not getattr(reactor, "running", False) and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def raise_descriptor_limit(connections: int) -> int:
    """
    Have the system allow descriptors for so many connections. Returns for how many it does, and warns if not for all.

    Where there are hardly any, half of them are for connections.
    """
    needed = connections + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    reached = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (reached, hard))
    most = min(connections, max(reached - RESERVE, reached // 2))
    if most < connections:
        _log.warn(
            "max_connections is {connections}, and this process may have {reached} descriptors, some of which it needs "
            "for other things: it will be {most}; raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower it",
            connections=connections,
            reached=reached,
            most=most,
        )
    return most


def _leave(text: str) -> NoReturn:
    tell(text)
    raise SystemExit(1)
