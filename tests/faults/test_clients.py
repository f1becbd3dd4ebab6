"""Faults that clients meet, and how the clients handle them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from tcpapp import Client, MessageClientFactory, Pool, blocking, connect, listen
from tcpapp.apps import echo
from tcpapp.client.reconnecting import Waiting
from tests.patience import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

WAYS = ["connect", "Client", "Pool", "blocking"]
"""The kinds of clients. Asyncio programs have tests of their own."""


@implementer(IHostnameResolver)
class Names:
    """A resolver that gives each name its addresses in `known`."""

    def __init__(self, known: dict[str, list[str]]) -> None:
        self.known = known

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *given: Any) -> Any:  # noqa: N803
        receiver.resolutionBegan(None)
        for host in self.known[name]:
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, portNumber))
        receiver.resolutionComplete()


@pytest.fixture
def names() -> Iterator[dict[str, list[str]]]:
    """Give the names that the reactor resolves: a dict that the test fills with addresses."""
    known: dict[str, list[str]] = {}
    before = reactor.installNameResolver(Names(known))  # type: ignore[attr-defined]  # every reactor has it
    yield known
    reactor.installNameResolver(before)  # type: ignore[attr-defined]  # as above


def asked_by_a_thread(endpoint: str) -> bytes:
    """Return the answer of a server to a blocking client, in a program without its own reactor."""
    with blocking.connect(endpoint, timeout=PATIENCE) as client:
        answer: bytes = client.request(b"hello", PATIENCE)
    return answer


async def asked(endpoint: str, way: str) -> bytes:
    """Return the answer of a server to a client of this kind."""
    if way == "connect":
        connection = await connect(endpoint)
        answer: bytes = await connection.request(b"hello")
        await connection.close()
        return answer
    if way == "blocking":
        return await deferToThread(asked_by_a_thread, endpoint)
    async with Client(endpoint) if way == "Client" else Pool(endpoint, size=1) as client:
        return await client.request(b"hello")  # type: ignore[no-any-return]  # bytes, without a codec


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", WAYS)
async def test_name_whose_first_address_is_dead(served: Any, names: dict[str, list[str]], way: str) -> None:
    """A client tries all addresses of a name, IPv4 and IPv6, so that it finds a server at any of them."""
    server = await served.start(echo)
    v6 = await listen(r"tcp:0:interface=\:\:1", echo)
    names.update(dead=["127.0.0.2", "127.0.0.1"], both=["127.0.0.2", "::1"], six=["::1"])
    for name, port in (("dead", server.port), ("both", v6.port), ("six", v6.port)):
        assert await asked(f"tcp:{name}:{port}", way) == b"hello"
    await v6.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tls", "ssl"])
async def test_tls_name_whose_first_address_is_dead(
    served: Any, names: dict[str, list[str]], kind: str, way: str, tmp_path: Path
) -> None:
    """Over TLS a client also tries all addresses of a name, and checks the certificate for the name at each."""
    authority, path, roots = trustme.CA(), tmp_path / "cert.pem", tmp_path / "roots"
    roots.mkdir()
    authority.issue_cert("right.test").private_key_and_cert_chain_pem.write_to_path(str(path))
    authority.cert_pem.write_to_path(str(roots / "root.pem"))
    server = await served.start(echo, f"tls:0:interface=127.0.0.1:certificate={path}")
    names.update({"right.test": ["127.0.0.2", "127.0.0.1"], "wrong.test": ["127.0.0.2", "127.0.0.1"]})

    def endpoint(name: str) -> str:
        trust = f"trustRoots={roots}" if kind == "tls" else f"caCertsDir={roots}:hostname={name}"
        return f"{kind}:{name}:{server.port}:{trust}"

    assert await asked(endpoint("right.test"), way) == b"hello"
    with pytest.raises(Exception, match=r"VerificationError|certificate|TLS"):
        await asked(endpoint("wrong.test"), way)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_client_that_connects_to_itself(served: Any, host: str) -> None:
    """When a connect reaches its own socket, since nothing listens there, every kind of client is refused."""
    await served.start(echo)
    opened: list[Any] = []
    refused: Deferred[Exception] = Deferred()

    class App:
        def opened(self, connection: Any) -> None:
            opened.append(connection)

    def free() -> int:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
            found.bind((host, 0))
            return int(found.getsockname()[1])

    def itself() -> TCP4ClientEndpoint:
        """Return an endpoint that connects from a port to the same port, where nothing listens."""
        port = free()
        return TCP4ClientEndpoint(reactor, host, port, bindAddress=(host, port))

    def told(state: Any) -> None:
        if isinstance(state, Waiting) and not refused.called:
            refused.callback(state.error)  # type: ignore[arg-type]  # it is an Exception

    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await connect(itself(), App())
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await Client(itself(), App(), connect_now=True).start()
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await deferToThread(blocking.connect, itself(), app=App())
    pool: Pool[bytes, bytes] = Pool(itself(), 1, app=App())
    pool.members[0].watch(told)
    pool.startService()
    assert "connected to itself" in str(await refused)
    await pool.stop()
    port, factory = free(), MessageClientFactory(App())
    reactor.connectTCP(host, port, factory, bindAddress=(host, port))  # type: ignore[attr-defined]
    with pytest.raises(ConnectionRefusedError, match="connected to itself"):
        await factory.when_connected()
    assert opened == []
