"""Clients that reconnect on real ports: through faults and after a killed server, but not after a wrong certificate."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import pytest_twisted
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tcpapp import Client, Pool, Recovery
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Stopped, Waiting
from tcpapp.errors import MaybeSent, NeverSent, TimedOut
from tests.peers import outcome
from tests.processes import TCP, Run, ends

from .accounts import Accounts, account

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

QUICK = Recovery(first_wait=0.02, longest_wait=0.05)


@pytest_twisted.ensureDeferred
async def test_each_message_is_accounted_for(global_reactor: Any) -> None:
    """Through the faults of a proxy, each message gets one result, and none is lost without being reported."""
    accounts = await account(global_reactor, 2.0, seed=3)
    assert accounts.faults() == []
    assert accounts.count(bytes) > 500
    assert accounts.count(MaybeSent) > 0


def test_the_accounts_find_every_kind_of_error() -> None:
    """The accounts report every kind of error: lost, doubled and wrong results."""
    accounts = Accounts(0)
    never, timed_out = Failure(NeverSent("no", None, b"")), Failure(TimedOut("request", 1))  # type: ignore[arg-type]
    accounts.number = 8
    accounts.words = {
        0: [None],
        1: [b"r2"],
        2: [never],
        3: [None, None],
        4: [None],
        5: [timed_out],
        6: [Failure(ValueError())],
    }
    accounts.came.update([1, 2, 4, 4, 7])
    accounts.words[7] = [b"r7"]
    assert [fault.split(" ", 1)[0] for fault in accounts.faults()] == ["0", "1", "2", "3", "4", "6"]


@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name_stops_the_client(
    certificates: Any, serve: Any, global_reactor: Any
) -> None:
    """
    A client stops at once when the server's certificate is for another name, and its error says so. The right name
    connects.
    """
    key, cert, roots = certificates / "key.pem", certificates / "cert.pem", certificates / "roots" / "authority.pem"
    server = await serve(echo, f"tls:0:interface=127.0.0.1:certificate={cert}:privateKey={key}")

    def client(name: str) -> Client[bytes, bytes]:
        endpoint = f"tls:127.0.0.1:{server.port}:hostname={name}:trustRoots={roots}"
        return Client(endpoint, reactor=global_reactor, recovery=QUICK)

    wrong = client("other.example")
    with pytest.raises(VerificationError) as caught:
        await wrong.start()
    assert wrong.state == Stopped(caught.value)
    assert not wrong.running
    with pytest.raises(NeverSent, match="gave up: TLS failed: the certificate is for other names than other"):
        await wrong.send(b"hello")
    right = client("localhost")
    async with right:
        assert await right.request(b"hello") == b"hello"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", [Client, Pool])
async def test_a_with_that_is_cancelled_leaves_nothing_that_connects(
    kind: Any, serve: Any, global_reactor: Any
) -> None:
    """
    A cancelled ``async with`` stops the client, both inside the block and while the client still waits to connect.
    """
    server = await serve(echo)
    port = server.port
    waits: Deferred[None] = Deferred()

    async def use(client: Any, inside: Deferred[None]) -> None:
        async with client:
            inside.callback(None)
            await Deferred()

    async def given_up(client: Any, when: Deferred[None]) -> list[Any]:
        using = Deferred.fromCoroutine(use(client, when))
        told = outcome(using)
        using_is_over: Deferred[None] = Deferred()
        using.addBoth(using_is_over.callback)
        await when
        await deferLater(global_reactor, 0)  # the Deferred fired inside a call of the client
        using.cancel()
        members = getattr(client, "members", [client])
        await using_is_over
        assert [each.state for each in members] == [Stopped()] * len(members)
        return told

    assert [CancelledError] == [type(each) for each in await given_up(kind(f"tcp:127.0.0.1:{port}"), Deferred())]
    await server.close(0)
    client = kind(f"tcp:127.0.0.1:{port}", recovery=QUICK)
    first = getattr(client, "members", [client])[0]
    first.watch(lambda state: waits.callback(None) if isinstance(state, Waiting) and not waits.called else None)
    assert [CancelledError] == [type(each) for each in await given_up(client, waits)]


@pytest.mark.once
@pytest_twisted.ensureDeferred
async def test_a_client_reconnects_to_a_server_that_was_killed(run: Run, global_reactor: Any) -> None:
    """
    When a server is killed and started again on its port, the client reconnects, and its idempotent requests are
    answered.
    """
    first = run("--listen", TCP)
    port = first.port()
    client: Client[bytes, bytes] = Client(f"tcp:127.0.0.1:{port}", reactor=global_reactor, recovery=QUICK)
    async with client:
        assert await client.request(b"hello") == b"hello"
        first.signal(signal.SIGKILL)
        first.end()
        waits = DeferredList([client.request(b"%d" % number, 30, idempotent=True) for number in range(10)])
        second = run("--listen", f"tcp:{port}:interface=127.0.0.1")
        second.port()
        assert [reply for _, reply in await waits] == [b"%d" % number for number in range(10)]
    ends(second)
