"""
What every test is held to, and what any test may ask for.

No test may leave anything behind: a timer, a port, a connection, a socket, or an error that nobody took. The kit's own
plugin looks for them after each test, by ``tcpapp_leaks`` in pyproject.toml. Nor may a test hang.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _pytest.unittest
import greenlet
import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet.defer import Deferred

from tests.patience import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tcpapp.testing.leaks import Leaks
    from tcpapp.testing.simulation import Simulation
    from tests.peers import Hosts
    from tests.processes import Run

# How long an example takes depends on the machine, and on coverage; the tests that hold a time measure it themselves.
# Half of Hypothesis's examples: what is looked for here is looked for in every run.
settings.register_profile("tcpapp", settings(), deadline=None, max_examples=50)
settings.load_profile("tcpapp")


# pytest asks for Twisted's version at each test, and reads all of the package's metadata for it: milliseconds each.
_pytest.unittest._get_twisted_version = functools.cache(_pytest.unittest._get_twisted_version)

WITHOUT_A_REACTOR = (
    "framing",
    "proxy_protocol",
    "simulated",
    *("testing/simulation", "testing/oracles", "testing/test_strategies"),
    *(f"testing/faultproxy/test_{name}" for name in ("connection", "kinds", "pipe", "proxy", "stages")),
)
"""Tests under these paths do not depend on the reactor: under another one they would say the same again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need not run a second time, under asyncio."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(WITHOUT_A_REACTOR):
            item.add_marker(pytest.mark.once)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """
    Undo, after each property that hypothesis tests, what pytest-twisted did to its function.

    It wraps the function to be run by the reactor, and would wrap it again for each further parameter of the test.
    """
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    inner_test = handle and handle.inner_test
    try:
        return (yield)
    finally:
        if handle:
            handle.inner_test = inner_test


# What a test may ask for ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def global_reactor() -> Any:
    """Give the global reactor, running: the one that ``--reactor`` named."""
    from twisted.internet import reactor

    running: Deferred[None] = Deferred()
    reactor.callWhenRunning(running.callback, None)
    pytest_twisted.blockon(running)  # pytest-twisted starts it when first it has to wait.
    return reactor


@pytest.fixture(scope="session")
def requires_program() -> Callable[[str], str]:
    """
    Give a function from a program's name to its path.

    Where the program is missing, the test is skipped on a user's machine, and fails where ``CI=true``.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and CI leaves no test out", pytrace=False)
        return path or pytest.skip(f"{name} is not installed")

    return find


SAVE_COVERAGE_THEN_RUN_TWISTD = """
import os
import sys

def kill(pid, signal, kill=os.kill):
    coverage = sys.modules.get("coverage")
    current = coverage and coverage.Coverage.current()
    if current:
        current.stop()
        current.save()
    kill(pid, signal)

os.kill = kill
sys.argv[0] = "twistd"
from twisted.scripts.twistd import run
run()
"""


@pytest.fixture(scope="session")
def twistd() -> list[str]:
    """
    Give the start of a command line that runs twistd.

    twistd ends the signal that stopped it by sending it to itself, which leaves no time to save what coverage
    measured; this one saves it first. It leaves no pid file.
    """
    return [sys.executable, "-c", SAVE_COVERAGE_THEN_RUN_TWISTD, "--pidfile="]


@pytest.fixture
def hosts(simulation: Simulation) -> Iterator[Hosts]:
    """Give `Hosts`: a host for servers and one for clients. What is open after the test is cut, and nothing is left."""
    from tests.peers import Hosts  # late: --reactor chooses a reactor first

    hosts = Hosts(simulation)
    yield hosts
    hosts.end()
    assert simulation.left() == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a current directory with nothing in it; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def logged_errors(leaks: Leaks) -> Leaks:
    """Give the errors logged so far, for a test that expects some: ``logged_errors.take(ZeroDivisionError)``."""
    return leaks


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Give the lines that tcpapp logs during the test."""
    from twisted.logger import formatEvent, globalLogPublisher

    lines: list[str] = []

    def note(event: Any) -> None:
        if event.get("log_namespace") == "tcpapp":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Turn Python's collector off during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# What every test is held to ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_hangs(global_reactor: Any) -> Iterator[None]:
    """
    Fail a test that waits too long, where it waits: the reactor, which it waits for, throws into it.

    The time is real: a hanging test causes no event. No passing test waits for it.
    """
    waiting = greenlet.getcurrent()
    text = f"the test waited for over {LONGEST:g} seconds"
    watchdog = global_reactor.callLater(LONGEST, lambda: waiting.throw(pytest.fail.Exception(text, pytrace=False)))
    yield
    if watchdog.active():
        watchdog.cancel()


@pytest.fixture
def run(twistd: list[str], tmp_path: Path) -> Iterator[Run]:
    """Give ``run(*options, before=[…])``: twistd, in the foreground, in a folder of its own, serving tcpapp."""
    from tests.processes import Process

    processes: list[Process] = []

    def start(*options: str, before: tuple[str, ...] = ("-n",), **more: Any) -> Process:
        processes.append(Process([*twistd, *before, "tcpapp", *options], tmp_path, **more))
        return processes[-1]

    yield start
    for each in processes:
        each.clean_up()
