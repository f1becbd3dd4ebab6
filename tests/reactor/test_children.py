"""How the reactor learns that a process has ended, also when other code starts processes."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import process
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from tcpapp.reactor import children
from tests.reactor.conftest import Bench

test = pytest_twisted.ensureDeferred


class Child(ProcessProtocol):
    """A protocol of a process. `ended` fires with its exit code."""

    transport: Any

    def __init__(self) -> None:
        self.ended: Deferred[int] = Deferred()

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)


def spawn(bench: Bench, code: str = "exit 3") -> Child:
    """Start a shell with this code by the reactor, and return its protocol."""
    child = Child()
    bench.reactor.spawnProcess(child, "/bin/sh", ["sh", "-c", code])
    return child


async def of_asyncio(bench: Bench, code: str = "exit 4") -> int:
    """Run a process by asyncio, and return its exit code."""

    async def run() -> int:
        return await (await asyncio.create_subprocess_exec("/bin/sh", "-c", code)).wait()

    return int(await Deferred.fromFuture(bench.reactor._asyncioEventloop.create_task(run())))


@pytest.fixture(params=[True, False], ids=["pidfd", "no pidfd"])
def however(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test with descriptors of processes, and without."""
    if not request.param:
        monkeypatch.setattr(children, "pidfd_open", children.unavailable)
    elif children.pidfd_open is children.unavailable:
        pytest.skip("this system has no descriptors of processes")


# Beside asyncio's ----------------------------------------------------------------------------------------------------


@test
async def test_a_process_that_starts_after_one_of_asyncio_is_reaped(bench: Bench, however: None) -> None:
    """The reactor reports the end of a process that starts after a process of asyncio has ended."""
    assert await of_asyncio(bench) == 4
    assert await spawn(bench).ended == 3


@test
async def test_a_process_of_asyncio_is_reaped_after_one_of_the_reactor(bench: Bench, however: None) -> None:
    """asyncio reports the end of a process that starts after a process of the reactor has ended."""
    assert await spawn(bench).ended == 3
    assert await of_asyncio(bench) == 4


@test
async def test_processes_end_while_asyncio_has_one(bench: Bench, however: None) -> None:
    """Processes that start before or during a process of asyncio, and end before it, are noticed."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    try:
        before = spawn(bench, "read x; exit 3")

        async def run() -> int:
            started = await asyncio.create_subprocess_exec("/bin/sh", "-c", "read x; exit 4", stdin=reading)
            return await started.wait()

        running = Deferred.fromFuture(bench.reactor._asyncioEventloop.create_task(run()))
        await bench.until(lambda: bench.reactor._asyncioEventloop.processes)
        after = spawn(bench, "exit 5")
        before.transport.closeStdin()
        assert await before.ended == 3
        assert await after.ended == 5
        os.write(writing, b"\n")
        assert await running == 4
        assert await spawn(bench).ended == 3
    finally:
        os.close(reading)
        os.close(writing)


@test
async def test_a_child_that_the_reactor_did_not_start_is_reaped(bench: Bench, however: None) -> None:
    """
    A child that Twisted code starts without the reactor, as inetd does, is reaped once asyncio has no process any more.
    """
    process.Process(None, "/bin/true", ["true"], {}, None, None, childFDs={})
    assert await of_asyncio(bench) == 4
    await bench.until(lambda: not process.reapProcessHandlers)


# With handlers of the program -----------------------------------------------------------------------------------------


@test
async def test_a_program_can_have_a_sigchld_handler_of_its_own(bench: Bench) -> None:
    """The program's own SIGCHLD handler is called as well, and stays in place after processes of asyncio."""
    if children.pidfd_open is children.unavailable:
        pytest.skip("this system has no descriptors of processes")
    called: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, _: called.append(number))
    try:
        assert await spawn(bench).ended == 3
        await bench.until(lambda: called)
        await of_asyncio(bench)
        called.clear()
        assert await spawn(bench).ended == 3
        await bench.until(lambda: called)
    finally:
        signal.signal(signal.SIGCHLD, before)


# By itself -----------------------------------------------------------------------------------------------------------


class Plain:
    """A reactor with only the methods that these tests need."""

    def __init__(self) -> None:
        self._internalReaders: set[Any] = set()
        self.readers: list[Any] = []

    def callFromThread(self, call: Any) -> None:
        call()

    def _addInternalReader(self, reader: Any) -> None:
        self._internalReaders.add(reader)
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


@pytest.fixture
def signals() -> Any:
    """Give a `ChildSignals` with a fake reactor and a fake loop, and restore the signal handler after the test."""
    before = signal.getsignal(signal.SIGCHLD)
    made = children.ChildSignals(Plain(), SimpleNamespace(processes=0, on_processes=int, call_later=later))  # type: ignore[arg-type]
    yield made
    if made._is_installed:
        made.uninstall()
    signal.signal(signal.SIGCHLD, before)
    signal.siginterrupt(signal.SIGCHLD, False)


def later(delay: float, call: Any) -> Any:
    """Return a fake timer whose call is in `LATER` until it is cancelled."""
    return SimpleNamespace(cancel=lambda: LATER.remove(call), call=LATER.append(call))


LATER: list[Any] = []


def test_installed_signals_reap_processes_and_can_be_uninstalled(monkeypatch: pytest.MonkeyPatch, signals: Any) -> None:
    """`install` and each SIGCHLD reap the ended processes, and `uninstall` restores the default handler."""
    reaped: list[str] = []
    monkeypatch.setattr(children, "reapAllProcesses", lambda: reaped.append("reaped"))
    signals.follow()
    signals.install()
    assert reaped == ["reaped"]  # processes that ended before
    signal.raise_signal(signal.SIGCHLD)
    assert reaped == ["reaped"] * 2
    signals.uninstall()
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL


def test_a_process_is_watched_until_it_ends_or_until_uninstall(monkeypatch: pytest.MonkeyPatch, signals: Any) -> None:
    """
    The reactor reads a descriptor of a running process until the reader is lost, or until `uninstall` closes the
    descriptor.
    """
    if children.pidfd_open is children.unavailable:
        pytest.skip("this system has no descriptors of processes")
    monkeypatch.setattr(children, "reapProcessHandlers", {os.getpid(): None})
    signals.install()
    signals.follow()
    (reader,) = signals._reactor.readers
    os.fstat(reader.fileno())
    reader.connectionLost(None)
    reader.connectionLost(None)
    assert signals._reactor.readers == []
    signals.follow()
    (reader,) = signals._reactor.readers
    signals.uninstall()
    assert signals._reactor.readers == []
    with pytest.raises(OSError, match=os.strerror(9)):
        os.fstat(reader.fileno())


def test_without_pidfd_processes_are_polled_while_asyncio_has_some(
    monkeypatch: pytest.MonkeyPatch, signals: Any
) -> None:
    """Without pidfd, ended processes are reaped again and again while asyncio has a process; `uninstall` stops that."""
    reaped: list[str] = []
    monkeypatch.setattr(children, "pidfd_open", children.unavailable)
    monkeypatch.setattr(children, "reapProcessHandlers", {1: None, 2: None})
    monkeypatch.setattr(children, "reapAllProcesses", lambda: reaped.append("reaped"))
    signals.install()
    assert LATER == []
    signals._loop.processes = 1
    signals._loop.on_processes()
    assert len(LATER) == 1
    reaped.clear()
    LATER.pop()()
    assert reaped == ["reaped"]
    assert len(LATER) == 1
    signals.uninstall()
    assert LATER == []
