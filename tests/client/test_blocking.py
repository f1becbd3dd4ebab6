"""The client for programs that have no reactor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.threads import deferToThread

from tcpapp import blocking, listen
from tcpapp.client import loop_calls
from tcpapp.client.reconnecting import Stopped
from tcpapp.errors import InvalidOption, MaybeSent, NotConnected, TimedOut
from tests.processes import SECONDS

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
import sys
from twisted.internet.task import react
from twisted.internet.defer import Deferred
import tcpapp

async def main(reactor):
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", lambda message, _: message.upper(), reactor=reactor)
    print(server.port, flush=True)
    await Deferred()

react(main)
"""


def in_thread(function: Callable[..., Any]) -> Deferred[Any]:
    """Call a function in a thread, while the reactor goes on here, and return its result."""
    done: Deferred[Any] = deferToThread(function)
    return done.addTimeout(SECONDS, reactor)


@pytest.fixture
def server() -> Iterator[Any]:
    """Give a server that echoes, except for messages that begin with ``!``, and sends ``news`` on request."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message == b"news":
            connection.send(b"one")
            connection.send(b"two")
            return None
        return None if message.startswith(b"!") else message

    made: Any = pytest_twisted.blockon(listen("tcp:0:interface=127.0.0.1", app, reactor=reactor))
    yield made
    pytest_twisted.blockon(made.close(0))


@pytest_twisted.ensureDeferred
async def test_a_blocking_client_has_the_methods_of_a_client(server: Any) -> None:
    """Each method waits for its result. If a reactor runs already, the client uses it."""

    def program() -> list[Any]:
        with blocking.connect(f"tcp:127.0.0.1:{server.port}") as client:
            client.send(b"!sent")
            seen: list[Any] = [client.request(b"hello"), client.request(b"hello", 5, idempotent=True)]
            client.send(b"news")
            seen += [client.receive(), client.receive(5), client.undelivered(), type(client.state).__name__]
            with pytest.raises(TimedOut, match=r"receive timed out after 0.01 s"):
                client.receive(0.01)
            with pytest.raises(TimedOut, match="request timed out"):
                client.request(b"!", 0.01)
        with pytest.raises(NotConnected):
            client.receive()
        assert list(client) == []
        assert client.close() == 0
        return [*seen, client.state]

    assert await in_thread(program) == [b"hello", b"hello", b"one", b"two", [], "Connected", Stopped()]


@pytest_twisted.ensureDeferred
async def test_a_blocking_client_is_iterated_until_it_is_closed(server: Any) -> None:
    """The iteration gives messages until the client is closed, for example by another thread."""

    def program() -> list[Any]:
        client = blocking.connect(f"tcp:127.0.0.1:{server.port}")
        client.send(b"news")
        seen = []
        for message in client:
            seen.append(message)
            if message == b"two":
                threading.Thread(target=client.close).start()
        return seen

    assert await in_thread(program) == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_many_threads_use_one_client(server: Any) -> None:
    """Several threads can use one client, and each gets its own replies."""

    def program() -> list[bytes]:
        with blocking.connect(f"tcp:127.0.0.1:{server.port}") as client, ThreadPoolExecutor(8) as threads:
            return list(threads.map(client.request, [b"%d" % number for number in range(200)]))

    assert await in_thread(program) == [b"%d" % number for number in range(200)]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_cannot_be_made_raises(server: Any) -> None:
    """`connect()` raises if the server refuses, if the address is invalid, and if the time is over."""

    def program() -> None:
        with pytest.raises(ConnectionRefusedError):
            blocking.connect("tcp:127.0.0.1:1")
        with pytest.raises(ValueError, match="65536"):
            blocking.connect("tcp:127.0.0.1:65536")
        with pytest.raises(TimedOut, match=r"connect timed out after 0.05 s"):
            blocking.connect("tcp:127.0.0.1:1", connect_now=False, timeout=0.05)

    await in_thread(program)


@pytest_twisted.ensureDeferred
async def test_an_error_in_the_with_closes_at_once(server: Any) -> None:
    """After an error inside the ``with``, the client closes at once, and does not wait for requests."""

    def program() -> Any:
        results: list[Any] = []

        def ask(client: Any) -> None:
            try:
                client.request(b"!", 60)
            except MaybeSent as error:
                results.append(error.message)

        def fail_inside() -> None:
            with blocking.connect(f"tcp:127.0.0.1:{server.port}") as client:
                asking.append(threading.Thread(target=ask, args=(client,)))
                asking[0].start()
                while not client._client.unfinished:
                    client.send(b"!")
                raise ZeroDivisionError

        asking: list[threading.Thread] = []
        with pytest.raises(ZeroDivisionError):
            fail_inside()
        asking[0].join()
        return results

    assert await in_thread(program) == [b"!"]


@pytest_twisted.ensureDeferred
async def test_a_timeout_error_of_the_called_function_is_raised(server: Any) -> None:
    """A `TimeoutError` of the called function is raised as it is. Python 3.11's futures raise the same class."""

    def program() -> None:
        caller = loop_calls.Caller(reactor)

        def times_out() -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            caller.call("x", times_out)

    await in_thread(program)


@pytest_twisted.ensureDeferred
async def test_a_result_at_the_last_moment_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is there when the time is over is returned, and is no timeout."""

    class Late(loop_calls.Call):
        """A call whose thread finds that the time is over, when the result is there."""

        def wait(self, seconds: float | None) -> bool:
            if seconds is None:
                return True
            super().wait(SECONDS)
            return False

    monkeypatch.setattr(loop_calls, "Call", Late)
    assert await in_thread(lambda: loop_calls.Caller(reactor).call("x", lambda: "late", 0)) == "late"


@pytest_twisted.ensureDeferred
async def test_the_reactors_own_thread_cannot_wait() -> None:
    """In the reactor's own thread a call raises, because the thread would wait for itself."""
    with pytest.raises(InvalidOption, match="this is the reactor's own thread"):
        blocking.connect("tcp:127.0.0.1:1")


# Programs in processes of their own -----------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[str]:
    """Give the port of a server in another process, which replies in capitals."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.once
def test_a_plain_script_needs_no_reactor_and_no_close(port: str) -> None:
    """A script or a notebook starts the reactor with its first client, and need not close a client at its end."""
    program = """
import sys
from tcpapp import blocking
with blocking.connect(f"tcp:127.0.0.1:{sys.argv[1]}") as client:
    print(client.request(b"hello"))
other = blocking.connect(f"tcp:127.0.0.1:{sys.argv[1]}")
for line in ("one", "two"):
    exec("print(other.request(line.encode()))")
"""
    ran = run(program, port)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("b'HELLO'\nb'ONE'\nb'TWO'\n", "", 0)


@pytest.mark.once
def test_a_reactor_that_ran_before_is_an_error(port: str) -> None:
    """If the reactor has run before, the error says that it cannot be started again."""
    program = """
from twisted.internet import reactor
from twisted.internet.defer import Deferred
reactor.callWhenRunning(reactor.stop)
reactor.run()
from tcpapp import blocking
try:
    blocking.connect("tcp:127.0.0.1:1")
except ValueError as error:
    print(error)
"""
    ran = run(program)
    assert (ran.stdout, ran.stderr) == ("blocking: Twisted's reactor was stopped, and cannot be started again\n", "")


@pytest.mark.once
def test_ctrl_c_interrupts_a_waiting_call(port: str) -> None:
    """Ctrl-C interrupts a call that waits, and the client can still be used."""
    # A process that is started in the background, as tests can be, ignores SIGINT from the start.
    program = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from tcpapp import blocking
client = blocking.connect(f"tcp:127.0.0.1:{sys.argv[1]}")
try:
    print("waiting", flush=True)
    client.receive()
except KeyboardInterrupt:
    print("interrupted", client.request(b"and goes on"))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, port], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        os.kill(process.pid, signal.SIGINT)
        try:
            assert process.communicate(timeout=SECONDS) == ("interrupted b'AND GOES ON'\n", "")
        finally:
            process.kill()
