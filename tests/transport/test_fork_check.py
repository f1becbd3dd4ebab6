"""A child of a process in which the reactor ran: every call that would wait raises `Forked` at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tcpapp import Client, Pool, aio, blocking, connect, listen
from tcpapp.apps import echo
from tcpapp.errors import Forked
from tcpapp.transport import fork_check
from tcpapp.transport.fork_check import check_fork, was_forked
from tests.peers import Hosts, outcome
from tests.processes import SECONDS


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Give ``forked(reactor)``: after the call, this process counts as a child of one in which that reactor ran."""
    monkeypatch.setattr(fork_check, "_stopped", [])

    def fork(stopped: Any) -> None:
        monkeypatch.setitem(sys.modules, "twisted.internet.reactor", stopped)
        fork_check._note_fork()

    return fork


class Stopped:
    """A reactor of the parent, as a child sees it."""

    running = True


def test_a_reactor_that_did_not_run_is_usable_in_a_child(forked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reactor that did not run before the fork, as under twistd, can be used in the child; one that ran cannot."""

    class NotRunning:
        running = False

    idle, ran = NotRunning(), Stopped()
    forked(idle)
    assert not was_forked(idle)
    monkeypatch.delitem(sys.modules, "twisted.internet.reactor")
    fork_check._note_fork()
    check_fork(idle, "send")
    forked(ran)
    assert (was_forked(ran), was_forked(idle)) == (True, False)
    with pytest.raises(Forked, match=r"^send: this process was forked while its parent ran Twisted's reactor"):
        check_fork(ran, "send")


async def enter(client: Any) -> None:
    async with client:
        raise AssertionError


@pytest.mark.parametrize("kind", [Client, Pool])
def test_each_call_of_a_client_fails_in_a_child(kind: Any, hosts: Hosts, forked: Any) -> None:
    """In the child, each call of a client or a pool fails with `Forked`; the parent's client goes on."""
    hosts.listen(echo)
    client = kind("tcp:server:7007", reactor=hosts.client.reactor)
    hosts.run(client.start())
    calls = {
        "send": lambda: client.send(b"x"),
        "request": lambda: client.request(b"x"),
        "receive": client.receive,
        "drain": client.drain,
        "stop": client.stop,
        "when_connected": client.when_connected,
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fork_check, "_stopped", [hosts.client.reactor])
        for name, call in calls.items():
            [error] = outcome(call())
            assert isinstance(error, Forked)
            assert error.what == name
        with pytest.raises(Forked, match="start: "):
            client.startService()
        for member in getattr(client, "members", [client]):
            with pytest.raises(Forked, match="states: "):
                member.states()
        [error] = outcome(Deferred.fromCoroutine(enter(client)))
        assert isinstance(error, Forked)
    assert hosts.run(client.request(b"x")) == b"x"
    hosts.run(client.stop())


def test_nothing_is_opened_in_a_child(forked: Any) -> None:
    """In the child, `connect`, `listen` and blocking calls raise `Forked` at once."""
    forked(reactor)
    for call in (
        lambda: connect("tcp:localhost:7007"),
        lambda: listen("tcp:0", echo),
        lambda: blocking.connect("tcp:localhost:7007"),
        lambda: blocking.Caller(reactor).call("request", lambda: None),
    ):
        with pytest.raises(Forked, match="connect after the fork"):
            call()


@pytest.mark.once
def test_aio_raises_in_a_child(forked: Any) -> None:
    """In the child, `aio.start` raises `Forked`, also on a new asyncio loop: the reactor is still the parent's."""
    forked(reactor)

    async def main() -> None:
        with pytest.raises(Forked, match="aio: this process was forked"):
            aio.start()

    asyncio.run(main())


SCRIPT = """
import os, signal, sys
from tcpapp import blocking
from tcpapp.errors import Forked

client = blocking.connect(sys.argv[1])
assert client.request(b"parent") == b"parent"
sys.stdout.flush()
child = os.fork()
if not child:
    signal.alarm(15)  # a child that hangs is killed, and prints nothing
    told = []
    for call in (lambda: client.request(b"child", timeout=1), lambda: blocking.connect(sys.argv[1]), client.close):
        try:
            call()
        except Forked as error:
            told.append(error.what)
    print(*told, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(client.request(b"parent").decode())
client.close(1)
"""


def test_a_blocking_client_raises_in_a_real_child(run: Any) -> None:
    """In a real child, the old client, a new one and the end of the old one raise `Forked`; the parent goes on."""
    process = run("--listen", "tcp:0:interface=127.0.0.1")
    where = f"tcp:127.0.0.1:{process.port()}"
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, where],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (script.stdout, script.returncode) == ("request connect close\nparent\n", 0), script.stderr


CLIENTS = """
import os, signal, sys
from twisted.internet import selectreactor

if sys.argv[2] == "uvloop":
    from tcpapp import reactor
    reactor.install()
else:
    selectreactor.install()
from twisted.internet.task import react

import tcpapp
from tcpapp.errors import Forked

async def main(reactor):
    clients = [tcpapp.Client(sys.argv[1]), tcpapp.Pool(sys.argv[1], 2)]
    for each in clients:
        await each.start()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.alarm(15)  # a child that hangs is killed, and prints nothing
        told = []
        for each in clients:
            each.request(b"child").addBoth(lambda failure: told.append(type(failure.value).__name__))
            try:
                await each.send(b"child")
            except Forked as error:
                told.append(error.what)
        print(*told, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    for each in clients:
        print((await each.request(b"parent")).decode())
        await each.stop()

react(main)
"""


@pytest.mark.once
@pytest.mark.parametrize("kind", ["select", "uvloop"])
def test_a_client_and_a_pool_fail_in_a_real_child(run: Any, kind: str) -> None:
    """In a real child of a program on the reactor, a client and a pool fail at once; the parent's go on."""
    process = run("--listen", "tcp:0:interface=127.0.0.1")
    where = f"tcp:127.0.0.1:{process.port()}"
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENTS, where, kind],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (script.stdout, script.returncode) == ("Forked send Forked send\nparent\nparent\n", 0), script.stderr
