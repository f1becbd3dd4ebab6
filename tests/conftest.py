"""
What every test is held to, and what any test may ask for.

No test may leave anything behind: a timer, a port, a connection, a socket, or an error that nobody took. Under
pytest-twisted those pass in silence, so `nothing_left` looks for them after each test and names them.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import greenlet
import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from twisted.python.failure import Failure

TURNS = [0.0] * 20 + [0.005] * 20
"""Seconds to wait in each turn of the reactor that a test's leavings are given to go: only a leak waits them all."""

LONGEST = 60.0
"""Seconds after which a test that waits for the reactor has failed; the longest takes a few."""

# How long an example takes depends on the machine, and on coverage; the tests that hold a time measure it themselves.
settings.register_profile("tcpapp", settings(), deadline=None)
settings.load_profile("tcpapp")


def collect_garbage() -> None:
    """
    Collect what the test dropped, and take what remains out of the collector's sight.

    So a collection costs no more than what a test made, however much was loaded before. A failure that nobody handled
    is logged when its Deferred is collected.
    """
    gc.collect()
    gc.freeze()


WITHOUT_A_REACTOR = ("framing", "simulated", "testing/simulation", "testing/test_check_", "testing/test_strategies")
"""Tests under these paths do not depend on the reactor: under another one they would say the same again."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what need not run a second time, under asyncio."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)).startswith(WITHOUT_A_REACTOR):
            item.add_marker(pytest.mark.once)


def pytest_collection_finish() -> None:
    """Begin with nothing in the collector's sight."""
    collect_garbage()


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

    pytest_twisted.blockon(deferLater(reactor, 0))  # pytest-twisted starts it when first it has to wait.
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


class LoggedErrors:
    """The failures that Twisted's log was given during a test, until they are taken."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def __call__(self, event: LogEvent) -> None:
        """Note the event's failure, as an observer of the log; `twisted.python.log` has it by another name."""
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            self.failures.append(failure)

    def take(self, *types: type[BaseException]) -> list[Failure]:
        """Return those of these types (all, if none is given) and forget them: the test expected them."""
        collect_garbage()
        taken = [each for each in self.failures if not types or each.check(*types)]
        self.failures = [each for each in self.failures if each not in taken]
        return taken


@pytest.fixture
def logged_errors() -> Iterator[LoggedErrors]:
    """Give the errors logged so far, for a test that expects some: ``logged_errors.take(ZeroDivisionError)``."""
    errors = LoggedErrors()
    globalLogPublisher.addObserver(errors)
    yield errors
    globalLogPublisher.removeObserver(errors)


# What every test is held to ------------------------------------------------------------------------------------------


def open_sockets() -> dict[tuple[int, int], str]:
    """Return this process's sockets by descriptor and inode; they show a connection that is paused, too."""
    found = {}
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are wanted, and all of them before any is looked at
        with suppress(OSError):  # The descriptor that listed the folder is gone by now.
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    found[int(name), status.st_ino] = f"descriptor {name}: {each}"
    return found


def held_by(reactor: Any) -> dict[object, str]:
    """Return all that the reactor has in hand, each with a description."""
    held: dict[object, str] = {call: f"timer: {call}" for call in reactor.getDelayedCalls()}
    held |= {each: f"open: {each!r}" for each in [*reactor.getReaders(), *reactor.getWriters()]}
    return held | open_sockets()


def settle(reactor: Any, before: dict[object, str]) -> list[str]:
    """Give what was not there before a few turns of the reactor to go, and return what is left then."""
    for seconds in TURNS:
        left = [text for each, text in held_by(reactor).items() if each not in before]
        if not left:
            break
        pytest_twisted.blockon(deferLater(reactor, seconds))
    return left


@pytest.fixture(autouse=True)
def nothing_hangs(global_reactor: Any) -> Iterator[None]:
    """Fail the test that waits too long, where it waits: the reactor, which it waits for, throws into it."""
    waiting = greenlet.getcurrent()
    text = f"the test waited for over {LONGEST:g} seconds"
    watchdog = global_reactor.callLater(LONGEST, lambda: waiting.throw(pytest.fail.Exception(text, pytrace=False)))
    yield
    if watchdog.active():
        watchdog.cancel()


@pytest.fixture(autouse=True)
def nothing_left(nothing_hangs: None, global_reactor: Any, logged_errors: LoggedErrors) -> Iterator[None]:
    """Fail the test that leaves a timer, a port, a connection, a socket, or a logged error that it did not take."""
    before = held_by(global_reactor)
    yield
    left = settle(global_reactor, before)
    left += [f"logged error: {each.getTraceback()}" for each in logged_errors.take()]
    if left:
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)
