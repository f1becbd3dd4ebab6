"""
The service that twistd runs, its signals, and its notifications to the service manager.

========= ==================================================================================================
SIGTERM   drain, and exit with 0; a second one cuts open connections. SIGINT (Ctrl-C) does the same
SIGHUP    reload the options file, the environment and the certificates; an error changes nothing
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
from tcpapp.process.log_loss import LogLoss
from tcpapp.process.loop_monitor import LoopMonitor
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
"""Descriptors for other things than connections: logs, ports, pipes, files of the app. Our choice."""

_log = Logger(namespace="tcpapp")


class Configured(Protocol):
    """The options of a service, which can be read again."""

    parent: Any
    checked: Checked
    warnings: list[str]
    endpoints: list[Any]
    factory: MessageServerFactory

    @property
    def command(self) -> str:
        """The name of the command."""
        ...

    def read_configuration(self) -> Checked:
        """Read the configuration again and return it. Raises `Problems`, which lists all errors."""
        ...


class TwistdService(MessageService):
    """
    The service that twistd runs. If it cannot listen, the program ends with one line and exit status 1. A signal ends
    it in an orderly way.

    It has its own handler of SIGTERM: Twisted's handler would end a drained process by the signal, as if it had been
    killed.
    """

    def __init__(self, options: Configured, reactor: Any) -> None:
        super().__init__(options.factory, options.endpoints, reactor)
        self._reactor = reactor
        self._options = options
        self._command = options.command
        self._twistd: dict[str, Any] = options.parent or {}
        self._terminating = False
        self._systemd = Systemd(os.environ)
        self._loop_monitor = LoopMonitor(reactor, options.factory.settings.timeouts.loop_stall)
        self._log_loss = LogLoss(reactor)
        self._alive = LoopingCall(self._systemd.alive)
        self._alive.clock = reactor

    def privilegedStartService(self) -> None:
        """Listen, or end the program if that fails. twistd calls it."""
        # now: another program can stop the service as soon as the port is open, before the reactor runs
        self._take_signals()
        for doubt in [*self._options.warnings, *switched_off(self._options.checked.given)]:
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
        """
        Clean up where twistd does not: remove its files and ours, and send `message` to a parent that waits for the
        daemon.
        """
        self._reactor.iterate(0)  # the reactor does not run yet, so the ports that were opened are closed here
        if self._twistd.get("pidfile"):
            Path(self._twistd["pidfile"]).unlink(missing_ok=True)
        if self._twistd.get("statusPipe") is not None:
            os.write(self._twistd["statusPipe"], f"1 {message}".encode("ascii", "backslashreplace")[:100])

    def info(self) -> Info:
        """
        Return the statistics of the server now, with the delays of its event loop and the number of lost log lines.
        """
        monitor, lost_lines = self._loop_monitor, self._log_loss.count
        return replace(super().info(), lag=monitor.lag, most_lag=monitor.longest, lost_lines=lost_lines)

    def startService(self) -> None:
        """Begin to serve. twistd calls it."""
        super().startService()
        # When the reactor starts, Twisted installs its own handlers. Signals are blocked until ours are installed
        # again.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        self._reactor.callWhenRunning(self._take_signals)
        self._reactor.callWhenRunning(self._report_ready)
        if self._twistd:
            self._reactor.callWhenRunning(leave_to_stay)

    def stopService(self) -> Deferred[None]:
        """Stop listening and drain; fires when no connection is left. twistd calls it."""
        self._systemd.stopping("draining")
        return super().stopService().addBoth(self._stop_watching)

    def _stop_watching(self, result: Any) -> Any:
        self._loop_monitor.stop()
        self._log_loss.stop()
        if self._alive.running:  # the watchdog must get notifications until the service has drained
            self._alive.stop()
        return result

    def _report_ready(self) -> None:
        self._log_loss.start()
        self._loop_monitor.start()
        self._systemd.ready(f"listening on {', '.join(describe(each) for each in self.addresses)}")
        if self._systemd.watchdog and not self._alive.running:
            self._alive.start(self._systemd.watchdog)

    # Signals.

    def _take_signals(self) -> None:
        for number in STOPS:
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGHUP, self._on_sighup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._terminate, signal.Signals(number).name)

    def _on_sighup(self, number: int, frame: FrameType | None) -> None:
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
        """Lower ``max_connections`` to the number of descriptors that the process can have."""
        limits = self.factory.settings.limits
        most = raise_descriptor_limit(limits.max_connections)
        if most < limits.max_connections:
            self.factory.change(max_connections=most)

    def reload(self) -> None:
        """
        Read the configuration again, and apply the settings that can change in a running process. On any error, nothing
        changes.
        """
        self._systemd.reloading()
        try:
            self._take_over(self._options.read_configuration())
        except Problems as problems:
            for text in problems.texts:
                _log.error("not reloaded: {text}", text=text)
        except Exception:  # noqa: BLE001 - an app's module and a plugin's endpoint can raise anything
            _log.failure("not reloaded")
        self._report_ready()

    def _take_over(self, checked: Checked) -> None:
        """Apply the settings of this configuration that can change in a running process."""
        before, self._options.checked = self._options.checked, checked
        self.factory.change(**{name: checked.arguments[name] for name in CHANGEABLE})
        self._fit_descriptors()
        for name, option in OPTIONS.items():
            if option.fixed and before.texts(name) != checked.texts(name):
                place = checked.place(name) or before.place(name)
                _log.warn("{place} is not changed: it needs a restart", place=place)
        for line in switched_off(checked.given):
            _log.warn("{line}", line=line)
        self.reload_certificates()
        _log.info("reloaded: limits, timeouts, policies and networks")


def leave_to_stay() -> None:
    """
    Exclude all present objects, which mostly stay for the lifetime of the process, from Python's garbage collector.

    A full collection of them blocked the event loop for 16 ms from time to time. Later objects are collected as before.
    """
    gc.collect()
    gc.freeze()


def run_on_monotonic_time(reactor: Any) -> None:
    """
    Make `reactor` use a monotonic clock for its timers. Twisted uses the wall clock, which can be set (twisted#2424).

    A reactor that runs or has timers already is left as it is.
    """
    if not getattr(reactor, "running", False) and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def raise_descriptor_limit(connections: int) -> int:
    """
    Raise the process's limit of descriptors for this many connections. Returns how many connections it can serve, and
    logs a warning if they are fewer.

    If the limit is very low, half of the descriptors are for connections.
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
            "max_connections is {connections}, but this process can have only {reached} descriptors and needs some for "
            "other things: max_connections becomes {most}; raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower "
            "max_connections",
            connections=connections,
            reached=reached,
            most=most,
        )
    return most


def _leave(text: str) -> NoReturn:
    tell(text)
    raise SystemExit(1)
