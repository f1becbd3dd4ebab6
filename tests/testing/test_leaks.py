"""`Leaks` names every leak, but neither things that were there before nor errors that the test takes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import pytest_twisted
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.python import log
from twisted.python.failure import Failure

from tcpapp import Timeouts, connect, listen
from tcpapp.telemetry import Telemetry
from tcpapp.testing.leaks import Leaks, described
from tests.patience import PATIENCE
from tests.peers import outcome


def tick(*args, **kwargs):
    """Do nothing."""


class Ticker:
    """An object that can be called, with a repr of its own."""

    def __call__(self):
        """Do nothing."""

    def tick(self):
        """Do nothing."""

    def __repr__(self):
        return "<a ticker>"


def left_by(make):
    """Return the report of the leak check after `make` was called with its clock."""
    clock = Clock()
    leaks = Leaks(clock, sockets=False)
    make(clock)
    with pytest.raises(AssertionError) as caught:
        leaks.check()
    return str(caught.value)


# Timers


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((tick,), "tests.testing.test_leaks.tick()"),
        ((tick, 1, "a"), "tests.testing.test_leaks.tick(1, 'a')"),
        ((print, "x"), "print('x')"),
        ((Ticker(),), "<a ticker>()"),
        ((Ticker().tick,), "tests.testing.test_leaks.Ticker.tick of <a ticker>()"),
    ],
    ids=["a function", "with arguments", "a built-in", "an object", "a method"],
)
def test_a_timer_is_named_by_what_it_calls(call, name):
    """The report names a timer by the function, object or method that it calls, with its arguments."""
    assert left_by(lambda clock: clock.callLater(3, *call)) == f"left behind:\ntimer: {name}, due in 3 s"


def test_a_timer_is_named_with_its_keywords():
    """The report names the keyword arguments of a timer's call."""
    assert "tick(a=1), due in 3 s" in left_by(lambda clock: clock.callLater(3, tick, a=1))


def test_the_report_shows_where_a_timer_was_made_in_debug_mode(monkeypatch):
    """With `DelayedCall.debug`, the report shows the code that made a timer."""
    monkeypatch.setattr(DelayedCall, "debug", True)
    text = left_by(lambda clock: clock.callLater(3, tick))
    assert "made in:" in text
    assert "test_leaks.py" in text


def test_a_timer_that_was_set_before_is_no_leak():
    """A timer from before the start of the check is no leak."""
    clock = Clock()
    clock.callLater(3, tick)
    Leaks(clock, sockets=False).check()


# The log


def test_a_logged_failure_is_a_leak(logged_errors):
    """A failure that a `Logger` logs is reported as a leak."""
    leaks = Leaks()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        Logger().failure("it failed")
    with pytest.raises(AssertionError, match=r"(?s)left behind:\nlogged error: .*ZeroDivisionError"):
        leaks.check()
    logged_errors.take(ZeroDivisionError)


@pytest.mark.parametrize(
    "arguments", [(), (Failure(ZeroDivisionError()),), (Failure(ZeroDivisionError()), "why")], ids=len
)
def test_an_error_in_the_old_log_is_a_leak(arguments, logged_errors):
    """
    A failure that ``twisted.python.log.err`` logs is a leak; Twisted's older parts and many programs use that log.
    """
    leaks = Leaks(sockets=False)
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.err(*arguments)
    log.msg("no error", failure=Failure(KeyError()))
    with pytest.raises(AssertionError, match="ZeroDivisionError") as caught:
        leaks.check()
    assert "KeyError" not in str(caught.value)
    logged_errors.take(ZeroDivisionError)


def test_an_unhandled_failure_is_a_leak(logged_errors):
    """The failure of a Deferred that nothing handled is reported as a leak."""
    leaks = Leaks(sockets=False)
    fail(ZeroDivisionError())
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        leaks.check()
    logged_errors.take(ZeroDivisionError)


def test_a_failure_that_the_test_takes_is_no_leak():
    """`take` returns the logged failures of a type, or all, and these are no leaks any more."""
    publisher = LogPublisher()
    leaks = Leaks(publisher=publisher, sockets=False)
    log = Logger(observer=publisher)
    for kind in (ZeroDivisionError, KeyError):
        try:
            raise kind
        except kind:
            log.failure("it failed")
    log.error("no failure")
    assert [each.type for each in leaks.take(KeyError)] == [KeyError]
    assert [each.type for each in leaks.take()] == [ZeroDivisionError]
    leaks.check()


def test_the_log_is_not_watched_after_the_check():
    """A failure that is logged after `check` is not collected; `stop` can be called again."""
    publisher = LogPublisher()
    leaks = Leaks(publisher=publisher, sockets=False)
    leaks.check()
    leaks.stop()
    try:
        raise KeyError
    except KeyError:
        Logger(observer=publisher).failure("it failed")
    assert leaks.failures == []


# With


def test_with_checks_at_the_end():
    """A `with` statement checks for leaks when its block ends."""
    clock = Clock()
    with pytest.raises(AssertionError, match="due in 1 s"), Leaks(clock, sockets=False):
        clock.callLater(1, tick)


def test_an_exception_is_not_hidden_by_its_leaks():
    """When the block of a `with` statement raises, its exception is raised, and not a report of leaks."""
    clock = Clock()
    with pytest.raises(KeyError), Leaks(clock, sockets=False):
        raise KeyError(clock.callLater(1, tick))


# A real reactor


@pytest.fixture
def watched(nothing_hangs, global_reactor):
    """Give a `Leaks` on the global reactor."""
    return Leaks(global_reactor)


async def left(leaks):
    """Return the lines of the report after the check has waited, or none if there is no leak."""
    try:
        await leaks.check_settled()
    except AssertionError as error:
        return str(error).splitlines()[1:]
    return []


@pytest_twisted.ensureDeferred
async def test_things_that_end_within_a_moment_are_no_leaks(watched, global_reactor):
    """A port that is closing and a timer without delay are no leaks, since `check_settled` waits for them."""
    server = await listen("tcp:0:interface=127.0.0.1", None, reactor=global_reactor)
    server.close()
    global_reactor.callLater(0, tick)
    assert await left(watched) == []


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, []), (0.01, []), (0.09, []), (0.2, ["timer"])])
def test_a_moment_is_a_tenth_of_a_second(seconds, lines):
    """`check_settled` waits a tenth of a second: a timer that has run by then is no leak, and a later one is."""
    clock = Clock()
    leaks = Leaks(clock, sockets=False)
    clock.callLater(seconds, tick)
    left_in_the_end = outcome(ensureDeferred(left(leaks)))
    clock.pump([0.001] * 150)
    assert [[line.partition(":")[0] for line in each] for each in left_in_the_end] == [lines]


def test_without_a_leak_the_check_does_not_wait():
    """When nothing is left, `check_settled` is done at once."""
    assert outcome(Leaks(Clock(), sockets=False).check_settled()) == [None]


@pytest_twisted.ensureDeferred
async def test_a_port_and_a_connection_are_named_with_their_owner(watched, global_reactor):
    """A port is named with its factory, and a connection with its protocol; no socket is listed twice."""
    taken_in = Deferred()
    telemetry = Telemetry(lambda event: None if taken_in.called else taken_in.callback(event))
    unwatched = Timeouts(first_message=0, idle=0)
    server = await listen("tcp:0:interface=127.0.0.1", None, timeouts=unwatched, telemetry=telemetry)
    client = await connect(f"tcp:127.0.0.1:{server.port}", reactor=global_reactor)
    await taken_in
    lines = sorted(await left(watched))
    client.abort()
    await client.when_closed()
    await server.close()
    assert len(lines) == 3
    assert [line.partition(":")[0] for line in lines] == ["connection", "connection", "port"]
    assert all("MessageProtocol object" in line for line in lines[:2])
    assert "MessageServerFactory" in lines[2]


@pytest_twisted.ensureDeferred
async def test_a_paused_connection_is_found(watched, global_reactor):
    """A paused connection, which the reactor does not list, is found by its socket."""
    factory = ServerFactory()
    factory.noisy = False
    factory.protocol = Protocol
    port = global_reactor.listenTCP(0, factory, interface="127.0.0.1")
    other = Factory.forProtocol(Protocol)
    other.noisy = False
    client = await TCP4ClientEndpoint(global_reactor, "127.0.0.1", port.getHost().port).connect(other)
    client.transport.pauseProducing()
    lines = await left(watched)
    client.transport.abortConnection()
    await port.stopListening()
    here = client.transport.getHost().port if client.transport.connected else "127.0.0.1"
    assert any(line.startswith("socket: descriptor ") and str(here) in line for line in lines)


def test_a_socket_is_named_by_its_addresses():
    """The report names each open socket by its descriptor, family and addresses, and a closed one is no leak."""
    leaks = Leaks()
    one, other = socket.socketpair()
    with one, other:
        lines = leaks.left()
        assert len(lines) == 2
        assert all(line.startswith("socket: descriptor ") and "AF_UNIX at " in line for line in lines)
    leaks.check()


def test_an_unknown_family_of_sockets_is_shown_as_a_number():
    """A socket of an unknown address family, without addresses, is shown by the number of the family."""

    class Unknown:
        family = 99

        def getsockname(self):
            raise OSError

        getpeername = getsockname

    assert described(Unknown()) == "99"


def test_without_a_list_of_descriptors_no_socket_is_found(monkeypatch):
    """On a system that does not list open descriptors, no socket is reported."""

    def nowhere(path):
        raise FileNotFoundError(path)

    leaks = Leaks()
    monkeypatch.setattr(os, "listdir", nowhere)
    one, other = socket.socketpair()
    with one, other:
        assert leaks.left() == []
    leaks.stop()


# trial

TRIAL = """
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from tcpapp.testing.leaks import Leaks

class Tests(TestCase):
    def setUp(self):
        self.leaks = Leaks(reactor)
        self.addCleanup(self.leaks.check_settled)

    def test_clean(self):
        reactor.callLater(0, int)

    def test_leaves_a_timer(self):
        self.call = reactor.callLater(60, int)
        self.addCleanup(self.call.cancel)
        self.addCleanup(self.leaks.check_settled)
"""


@pytest.mark.once
def test_leaks_works_in_trial(tmp_path):
    """In trial, a test that leaves a timer fails with its name, and a test that leaves nothing passes."""
    (tmp_path / "test_trial.py").write_text(TRIAL, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "test_trial"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert "FAILED (errors=1, successes=1)" in done.stdout, done.stdout + done.stderr
    assert "timer: builtins.int(), due in 59." in done.stdout
