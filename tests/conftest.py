"""
Fixtures for all tests, and the checks that run after each test.

A test must leave nothing behind: no timer, port, connection or socket, and no logged error that it did not take. The
kit's own plugin checks that after each test, because ``tcpapp_leaks`` is set in pyproject.toml. A test that hangs
fails.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _pytest.unittest
import greenlet
import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet.defer import Deferred

import tcpapp
from tests.patience import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tcpapp.testing.leaks import Leaks
    from tcpapp.testing.simulation import Simulation
    from tests.peers import Hosts
    from tests.processes import Run

# How long an example takes depends on the machine and on coverage. Tests of a duration measure it themselves.
# Half of Hypothesis's default number of examples, because these tests run very often.
settings.register_profile("tcpapp", settings(), deadline=None, max_examples=50)
settings.load_profile("tcpapp")


# For each test pytest asks for Twisted's version, and reads all of the package's metadata, which takes milliseconds.
_pytest.unittest._get_twisted_version = functools.cache(_pytest.unittest._get_twisted_version)

WITHOUT_A_REACTOR = (
    "framing",
    "proxy_protocol",
    "simulated",
    *("testing/simulation", "testing/oracles", "testing/test_strategies", "testing/contract/test_fakes"),
    *(f"testing/faultproxy/test_{name}" for name in ("connection", "kinds", "pipe", "proxy", "stages")),
)
"""Paths of tests that do not depend on the reactor. Under a second reactor they would show nothing new."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need not run a second time, under asyncio. Skip tests of the Python sources where needed."""
    here = Path(__file__).parent
    for item in items:
        if tcpapp.accelerated and item.get_closest_marker("source"):
            item.add_marker(pytest.mark.skip(reason="tcpapp is compiled here: this looks at its Python sources"))
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(WITHOUT_A_REACTOR):
            item.add_marker(pytest.mark.once)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """
    After each Hypothesis test, restore the function that pytest-twisted replaced.

    pytest-twisted wraps the function so that the reactor runs it. It would wrap it again for each further parameter of
    the test.
    """
    handle = getattr(pyfuncitem.obj, "hypothesis", None)
    inner_test = handle and handle.inner_test
    try:
        return (yield)
    finally:
        if handle:
            handle.inner_test = inner_test


class Exhaustive:
    """Calls the tests that are marked as exhaustive, in a third of the time."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Call the test without the reactor, which pytest-twisted enters for each example, and without coverage."""
        if not pyfuncitem.get_closest_marker("exhaustive"):
            return None
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        with untraced():
            assert pyfuncitem.obj(**arguments) is None, "a test that is marked as exhaustive waits for nothing"
        return True


@contextmanager
def untraced() -> Iterator[None]:
    """Trace nothing inside the block. Up to Python 3.13, coverage traces each line of tcpapp."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests that are marked as exhaustive be called in their own way."""
    config.pluginmanager.register(Exhaustive())


# Fixtures ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def global_reactor() -> Any:
    """Return the global reactor, running. The option ``--reactor`` chooses it."""
    from twisted.internet import reactor

    running: Deferred[None] = Deferred()
    reactor.callWhenRunning(running.callback, None)
    pytest_twisted.blockon(running)  # pytest-twisted starts the reactor at the first wait.
    return reactor


@pytest.fixture(scope="session")
def requires_program() -> Callable[[str], str]:
    """
    Return a function that returns the path of a program.

    Where the program is missing, the function skips the test. With ``CI=true`` in the environment, it fails the test.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed, and with CI=true no test is skipped", pytrace=False)
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
    Return the start of a command line that runs twistd.

    After a signal, twistd ends by sending the signal to itself, so coverage has no time to save its data. This command
    saves the data first. It writes no pid file.
    """
    return [sys.executable, "-c", SAVE_COVERAGE_THEN_RUN_TWISTD, "--pidfile="]


@pytest.fixture
def hosts(simulation: Simulation) -> Iterator[Hosts]:
    """
    Give `Hosts`: a host for servers and one for clients.

    After the test, close both, and check that nothing is left.
    """
    from tests.peers import Hosts  # late: --reactor chooses a reactor first

    hosts = Hosts(simulation)
    yield hosts
    hosts.end()
    assert simulation.left() == []


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give an empty current directory. Modules that the test imports from it are forgotten afterwards."""
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
    """Give the errors logged so far, for a test that expects errors: ``logged_errors.take(ZeroDivisionError)``."""
    return leaks


@pytest.fixture
def said() -> Iterator[list[str]]:
    """Give the list of the lines that tcpapp logs during the test."""
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
    """Turn off Python's garbage collector during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Checks of every test ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_hangs(global_reactor: Any) -> Iterator[None]:
    """
    Fail a test that waits too long: raise the failure in the test, at the line where it waits for the reactor.

    The time is real, because a hanging test causes no event. No passing test waits for this time.
    """
    waiting = greenlet.getcurrent()
    text = f"the test waited for over {LONGEST:g} seconds"
    watchdog = global_reactor.callLater(LONGEST, lambda: waiting.throw(pytest.fail.Exception(text, pytrace=False)))
    yield
    if watchdog.active():
        watchdog.cancel()


@pytest.fixture
def run(twistd: list[str], tmp_path: Path) -> Iterator[Run]:
    """
    Give ``run(*options, before=[…])``: it starts twistd, which serves tcpapp in the foreground, in an empty folder.
    """
    from tests.processes import Process

    processes: list[Process] = []

    def start(*options: str, before: tuple[str, ...] = ("-n",), **more: Any) -> Process:
        processes.append(Process([*twistd, *before, "tcpapp", *options], tmp_path, **more))
        return processes[-1]

    yield start
    for each in processes:
        each.clean_up()
