"""The service as a process: errors of listening, signals, reloads, descriptors, and the garbage collector."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from socket import gaierror
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from tcpapp.plugin import Options
from tcpapp.process import twistd_service
from tcpapp.process.twistd_service import TwistdService, raise_descriptor_limit, run_on_monotonic_time
from tcpapp.transport.socket_activation import NothingHandedOver
from tests.peers import NO_IPV6

BUSY = CannotListenError("127.0.0.1", 7007, OSError(98, "Address already in use"))


def parsed(*words: str) -> Options:
    """Return the options of this command line."""
    options = Options()
    options.parseOptions(words)
    return options


@implementer(IStreamServerEndpoint)
class Busy:
    """An endpoint that cannot be listened on, for the reason `error`."""

    def __init__(self, error: Exception = BUSY) -> None:
        self.error = error

    def listen(self, factory: Any) -> Deferred[Any]:
        return fail(self.error)


class Reactor(MemoryReactorClock):
    """
    A reactor in memory with one thread, which the test runs and stops.

    A simulated reactor is always run by its simulation.
    """

    iterated = 0

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.callLater(0, function, *arguments)

    def iterate(self, delay: float = 0) -> None:
        self.iterated += 1


class Reacting(TwistdService):
    """The service, which keeps the reactor that it was given."""

    def __init__(self, options: Any, reactor: Any) -> None:
        super().__init__(options, reactor)
        self.reactor = reactor


def service_on(*endpoints: Any, twistd: dict[str, Any] | None = None, words: tuple[str, ...] = ()) -> Any:
    """Return a service on these endpoints, with these options of twistd and this command line."""
    options = parsed(*words)
    options.endpoints = list(endpoints)
    options.parent = twistd
    return Reacting(options, Reactor())


@pytest.fixture(autouse=True)
def signals() -> Any:
    """Restore the handlers of signals after each test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, before)


def test_a_busy_port_ends_the_program(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """When a port is busy, the program exits with one line on stderr and removes twistd's pid file."""
    pidfile = tmp_path / "twistd.pid"
    pidfile.write_text("4711")
    with pytest.raises(SystemExit) as ended:
        service_on(Busy(), twistd={"pidfile": str(pidfile)}).privilegedStartService()
    assert ended.value.code == 1
    expected = "twistd tcpapp: Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use.\n"
    assert capfd.readouterr().err.endswith(expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BUSY, "Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use."),
        (
            NO_IPV6,
            "Couldn't listen on [::]:7007: [Errno 97] Address family not supported by protocol: this machine has no",
        ),
        (
            CannotListenError(None, b"/run/s", "Cannot acquire lock"),
            "Couldn't listen on unix:/run/s: Cannot acquire lock.",
        ),
        (
            CannotListenError("", 7007, OSError(98, "Address already in use")),
            "Couldn't listen on 0.0.0.0:7007: [Errno 98] Address already in use.",
        ),
        (
            CannotListenError("fe80::1%eth7", 7007, gaierror(-2, "Name or service not known")),
            "Couldn't listen on [fe80::1%eth7]:7007: this machine has no network interface 'eth7' ([Errno -2] Name",
        ),
        (
            NothingHandedOver("name=app"),
            "Couldn't listen on systemd:name=app: no socket was handed over to this process: systemd hands over",
        ),
        (
            PermissionError(13, "Permission denied", "/run/s.lock"),
            "Couldn't listen: [Errno 13] Permission denied: '/run/s",
        ),
    ],
)
def test_the_error_of_listening_names_the_address(
    error: Exception, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """When the service cannot listen, stderr gets the address, as operators write it, and the reason."""
    service = service_on(Busy(error))
    with pytest.raises(SystemExit):
        service.privilegedStartService()
    assert f"twistd tcpapp: {says}" in capfd.readouterr().err
    assert service.reactor.iterated == 1


@pytest.mark.parametrize("twistd", [None, {}, {"pidfile": ""}, {"pidfile": "/no/such/file", "statusPipe": None}])
def test_a_busy_port_ends_the_program_without_a_pid_file(twistd: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """When a port is busy and there is no pid file, the program exits all the same."""
    with pytest.raises(SystemExit):
        service_on(Busy(), twistd=twistd).privilegedStartService()
    assert "Couldn't listen" in capfd.readouterr().err


def test_a_busy_port_is_reported_to_the_parent_of_a_daemon(capfd: pytest.CaptureFixture[str]) -> None:
    """When a daemon cannot listen, it writes the error to the pipe at which twistd's first process waits."""
    reading, writing = os.pipe()
    with pytest.raises(SystemExit):
        service_on(Busy(), twistd={"pidfile": "", "statusPipe": writing}).privilegedStartService()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"1 Couldn't listen on 127.0.0.1:7007: [Errno 98] Address already in use."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_and_a_second_one_cuts(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first SIGTERM or SIGINT stops the reactor, and a second one cuts the open connections."""
    service = service_on()
    reactor, cuts = service.reactor, []
    monkeypatch.setattr(service, "cut", lambda: cuts.append(number))
    service.privilegedStartService()
    service.startService()
    signal.signal(number, signal.SIG_DFL)  # as Twisted does when the reactor starts
    reactor.run()
    reactor.hasStopped = False
    os.kill(os.getpid(), number)
    reactor.advance(0)
    assert (reactor.hasStopped, cuts) == (True, [])
    os.kill(os.getpid(), number)
    reactor.advance(0)
    assert cuts == [number]


def test_a_signal_before_the_reactor_runs_is_kept() -> None:
    """A signal that comes after the listening began and before the reactor runs stops the reactor once it runs."""
    service = service_on()
    service.privilegedStartService()
    os.kill(os.getpid(), signal.SIGTERM)
    service.startService()
    assert not service.reactor.hasStopped
    service.reactor.advance(0)
    assert service.reactor.hasStopped


def test_a_signal_while_the_reactor_starts_is_kept() -> None:
    """A signal that comes while the reactor starts stops it: Twisted's own handler does not get this signal."""
    service = service_on()
    service.privilegedStartService()
    service.startService()
    twisteds: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: twisteds.append(number))
    signal.raise_signal(signal.SIGTERM)  # to this thread: the threads of other tests do not block the signal
    service.reactor.run()
    service.reactor.hasStopped = False
    service.reactor.advance(0)
    assert (service.reactor.hasStopped, twisteds) == (True, [])


def test_a_signal_cuts_a_drain_that_the_app_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the app has stopped the service itself, the first signal cuts the open connections."""
    service = service_on()
    cuts: list[str] = []
    monkeypatch.setattr(service, "cut", lambda: cuts.append("cut"))
    service.startService()
    service.stopService()
    service._on_stop_signal(signal.SIGTERM, None)
    service.reactor.advance(0)
    assert (cuts, service.reactor.hasStopped) == (["cut"], False)


# Reloads --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give an options file."""
    path = tmp_path / "app.toml"
    path.write_text("max-connections = 10\n[timeouts]\nidle = 5\n")
    return path


def test_sighup_reloads_the_options_file(file: Path, said: list[str]) -> None:
    """SIGHUP reloads limits, timeouts, policies and networks; the command line still overrides the file."""
    service = service_on(words=(f"--config={file}", "--grace=1"))
    service._take_signals()
    settings = service.factory.settings
    assert (settings.limits.max_connections, settings.timeouts.idle) == (10, 5)
    file.write_text(
        'max-connections = 20\naccept-rate = 7\ngrace = 9\nover_max_connections = "wait"\ndeny = ["192.0.2.0/24"]'
    )
    os.kill(os.getpid(), signal.SIGHUP)
    service.reactor.advance(0)
    assert (settings.limits.max_connections, settings.timeouts.idle, settings.timeouts.grace) == (20, 600, 1)
    assert (settings.policies.over_max_connections, bool(settings.networks)) == ("wait", True)
    assert service.factory.admission.limits is settings.limits
    assert service.factory.admission.networks is settings.networks
    assert service.factory.accept_control.token_bucket.rate == 7
    assert said == ["reloaded: limits, timeouts, policies and networks"]


def test_an_invalid_file_changes_nothing(file: Path, said: list[str]) -> None:
    """A reload of an invalid file logs all its errors, and keeps the earlier values."""
    service = service_on(words=(f"--config={file}",))
    before = service.factory.settings.limits
    file.write_text("max-connections = 0\nmax-connection = 1\nidle = -1")
    service.reload()
    assert service.factory.settings.limits is before
    assert [each.partition("app.toml: ")[2].partition(":")[0] for each in said] == [
        "max-connection",
        "max-connections=0",
        "idle=-1.0",
    ]
    file.write_text("max-connections = ")
    service.reload()
    assert "not reloaded: " in said[-1]


def test_a_reload_reports_options_that_need_a_restart(file: Path, said: list[str]) -> None:
    """A reload reports changed options that need a restart by their names in the file, and changes the others."""
    service = service_on(words=(f"--config={file}",))
    file.write_text('app = "upper"\nlisten = ["tcp:0"]\nidle = 0')
    service.reload()
    assert said == [
        f"{file}: listen is not changed: it needs a restart",
        f"{file}: app is not changed: it needs a restart",
        f"{file}: idle=0: no limit (Close a server's connection after this long without data in either direction)",
        "reloaded: limits, timeouts, policies and networks",
    ]


def test_a_reload_reports_a_removed_option_by_its_former_name(file: Path, said: list[str]) -> None:
    """When an entry that needs a restart was removed from the file, the reload names this entry."""
    file.write_text('heartbeat-message = "ping"')
    service = service_on(words=(f"--config={file}", "--framing=line"))
    file.write_text("")
    service.reload()
    assert said[0] == f"{file}: heartbeat-message is not changed: it needs a restart"


def test_a_reload_that_raises_is_logged(
    file: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, logged_errors: Any
) -> None:
    """A reload that raises is logged, and systemd is notified that the service is ready again."""
    service = service_on(words=(f"--config={file}",))
    manager = service._systemd = Manager()

    def look() -> Any:
        raise RuntimeError

    monkeypatch.setattr(service._options, "read_configuration", look)
    service.reload()
    assert (said, manager.told) == (["not reloaded"], ["reloading", "ready"])
    assert len(logged_errors.take(RuntimeError)) == 1


def test_limits_that_are_off_are_logged_at_the_start(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, the log has each limit that is off, and each variable that is probably misspelt."""
    monkeypatch.setenv("TCPAPP_MAX_CONNECTION", "5")
    service = service_on(words=("--idle=0", "--request=0"))
    service.privilegedStartService()
    assert said == [
        "TCPAPP_MAX_CONNECTION: there is no such variable; did you mean 'TCPAPP_MAX_CONNECTIONS'?",
        "--idle=0: no limit (Close a server's connection after this long without data in either direction)",
        "--request=0: no limit (Wait this long for the reply to a request, unless the call sets its own timeout)",
    ]


# The service manager, the clock and the descriptors -------------------------------------------------------------------


class Manager:
    """A service manager that records its notifications."""

    def __init__(self, watchdog: float = 0.0) -> None:
        self.watchdog = watchdog
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *status: self.told.append(name)


def test_the_manager_gets_each_state_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager is notified that the service is ready, alive, reloading and stopping."""
    manager = Manager(watchdog=10.0)
    monkeypatch.setattr(twistd_service, "Systemd", lambda environ: manager)
    service = service_on()
    service.privilegedStartService()
    service.startService()
    assert manager.told == []
    service.reactor.run()
    service.reactor.hasStopped = False
    assert manager.told == ["ready", "alive"]
    service.reactor.advance(10)
    service.reload()
    service.stopService()
    service.stopService()
    service.reactor.advance(100)
    assert manager.told == ["ready", "alive", "alive", "reloading", "ready", "stopping", "stopping"]


def test_the_info_of_the_service_has_the_delay_of_the_loop() -> None:
    """`info()` has the delay of the event loop's last turn, and the longest one."""
    service = service_on("tcp:0")
    service._loop_monitor.lag, service._loop_monitor.longest = 0.5, 2.0
    assert (service.info().lag, service.info().most_lag) == (0.5, 2.0)


def test_timers_run_on_a_monotonic_clock() -> None:
    """`run_on_monotonic_time` gives a reactor the monotonic clock, unless it runs or has timers already."""
    made, running, used = Clock(), global_reactor, Clock()
    run_on_monotonic_time(made)
    assert made.seconds is time.monotonic
    before = running.seconds
    run_on_monotonic_time(running)
    assert running.seconds == before
    used.callLater(1, lambda: None)
    run_on_monotonic_time(used)
    assert used.seconds() == 0


@pytest.mark.parametrize(
    ("allowed", "connections", "asked", "most"),
    [
        ((1024, 4096), 100, None, 100),
        ((1024, 4096), 2000, 2100, 2000),
        ((1024, 4096), 5000, 4096, 3996),
        ((64, 120), 1000, 120, 60),
        ((64, 120), 50, 120, 50),
        ((1024, resource.RLIM_INFINITY), 5000, 5100, 5000),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 5000, None, 5000),
    ],
)
def test_the_descriptor_limit_is_raised_as_far_as_needed(
    allowed: tuple[int, int],
    connections: int,
    asked: int | None,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    """The limit of descriptors is raised as far as needed and possible; too low a limit is logged."""
    limits: list[Any] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: allowed)
    monkeypatch.setattr(resource, "setrlimit", lambda what, limit: limits.append(limit))
    assert raise_descriptor_limit(connections) == most
    assert limits == ([] if asked is None else [(asked, allowed[1])])
    assert bool(said) == (most < connections)


def test_no_more_connections_are_accepted_than_there_are_descriptors_for(
    file: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`max_connections` is lowered to what the descriptors allow, at the start and after a reload."""
    monkeypatch.setattr(resource, "getrlimit", lambda what: (64, 500))
    monkeypatch.setattr(resource, "setrlimit", lambda what, limit: None)
    file.write_text("max-connections = 1000")
    service = service_on("tcp:0", words=(f"--config={file}",))
    service._fit_descriptors()
    assert service.factory.admission.limits.max_connections == 400
    file.write_text("max-connections = 450")
    service.reload()
    assert service.factory.admission.limits.max_connections == 400


# The collector --------------------------------------------------------------------------------------------------------


def test_the_collector_skips_objects_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Under twistd, once the reactor runs, `gc.freeze` excludes all present objects from collections.

    Outside twistd, the program decides this itself.
    """
    frozen: list[str] = []
    monkeypatch.setattr(twistd_service.gc, "collect", lambda: frozen.append("collected"))
    monkeypatch.setattr(twistd_service.gc, "freeze", lambda: frozen.append("frozen"))
    twistd_service.leave_to_stay()
    assert frozen == ["collected", "frozen"]
    for twistd, calls in ((None, 0), ({"nodaemon": True}, 1)):
        reactor = Reactor()
        options = parsed("--listen=unix:/nowhere")
        options.parent = twistd
        monkeypatch.setattr(twistd_service.MessageService, "startService", lambda service: None)
        TwistdService(options, reactor).startService()
        # startService blocks the signals until the reactor runs, which it does not here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, twistd_service.STOPS)
        assert [call[0] for call in reactor.whenRunningHooks].count(twistd_service.leave_to_stay) == calls
