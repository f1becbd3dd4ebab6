"""A real HAProxy stands between tcpapp's client and server, and its PROXY headers are read and written."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.task import deferLater
from twisted.logger import formatEvent, globalLogPublisher

from tcpapp import MessageServerFactory, Telemetry, connect
from tcpapp.connection.protocol import protocol_of
from tcpapp.proxy_protocol import Command, Family, Header, InetAddress, SslClient
from tcpapp.telemetry import Closed, NeverOpened, Refused, log
from tcpapp.transport.endpoint_strings import server_endpoint
from tests.patience import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

CONFIGURATION = """
global
    maxconn 100
    stats timeout 5s
defaults
    mode tcp
    timeout connect 10s
    timeout client 20s
    timeout server 20s
frontend here
    bind fd@{descriptor} {bind}
    unique-id-format id-%ci
    default_backend there
backend there
    server app {server}
"""


class App:
    """An app that answers in capitals, and notes the header and the address of each peer."""

    def __init__(self) -> None:
        self.headers: list[Header | None] = []
        self.peers: list[Any] = []
        self.closed_by: list[str] = []
        self._moments: list[tuple[int, Deferred[None]]] = []

    def opened(self, connection: Any) -> None:
        self.headers.append(connection.proxy)
        self.peers.append(connection.peer)
        for count, moment in self._moments:
            if len(self.peers) == count:
                moment.callback(None)

    def received(self, message: bytes, connection: Any) -> bytes:
        return message.upper()

    def closed(self, connection: Any, reason: Any) -> None:
        self.closed_by.append(reason.rule)

    def has_opened(self, count: int) -> Deferred[None]:
        moment: Deferred[None] = Deferred()
        self._moments.append((count, moment))
        return moment


class Between:
    """Servers of tcpapp, and HAProxy processes in front of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = App()
        self.events: list[Any] = []
        self.factory = MessageServerFactory(self.app, telemetry=Telemetry(self.events.append), clock=reactor)
        self._ports: list[Any] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "roots.pem"))
        for name, options in (("server", {}), ("client", {"common_name": "ann"})):
            made = authority.issue_cert("localhost", "127.0.0.1", **options)
            blobs = [made.private_key_pem, *made.cert_chain_pems]
            (folder / f"{name}.pem").write_bytes(b"".join(each.bytes() for each in blobs))

    async def listen(self, endpoint: str) -> Any:
        """Listen at `endpoint`, and return the address."""
        port = await server_endpoint(reactor, endpoint).listen(self.factory)
        self._ports.append(port)
        return port.getHost()

    def proxy(self, server: str, bind: str = "") -> int:
        """Start an HAProxy in front of the server at `server`, and return the port at which it listens already."""
        program = shutil.which("haproxy")
        if program is None:
            if os.environ.get("CI") == "true":
                pytest.fail("haproxy is not installed")
            pytest.skip("haproxy is not installed")
        with socket.create_server(("127.0.0.1", 0)) as listening:
            path = self.folder / f"haproxy{len(self._processes)}.cfg"
            path.write_text(CONFIGURATION.format(descriptor=listening.fileno(), bind=bind, server=server))
            command = [program, "-db", "-q", "-f", str(path)]
            self._processes.append(subprocess.Popen(command, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL))
            port: int = listening.getsockname()[1]
            return port

    async def end(self) -> None:
        """Stop all servers and processes."""
        for port in self._ports:
            await port.stopListening()
        self.factory.abort()
        for process in self._processes:
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture
def between(tmp_path: Path) -> Iterator[Between]:
    """Give servers and proxies, and stop them after the test."""
    made = Between(tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()))
    while made.factory.admission:  # a cut is reported in another turn
        pytest_twisted.blockon(deferLater(reactor, 0, lambda: None))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("options", "version"),
    [
        ("send-proxy", 1),
        ("send-proxy-v2", 2),
        ("send-proxy-v2 proxy-v2-options crc32c", 2),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", 2),
    ],
)
async def test_the_true_peer_is_known(between: Between, options: str, version: int) -> None:
    """The connection's peer is the client and not HAProxy, with both header versions, with checksum and unique ID."""
    address = await between.listen("haproxy:tcp:0:interface=127.0.0.1")
    client = await connect(f"tcp:127.0.0.1:{between.proxy(f'127.0.0.1:{address.port} {options}')}")
    assert await client.request(b"hello") == b"HELLO"
    [header] = between.app.headers
    assert header is not None
    assert (header.version, header.command) == (version, Command.PROXY)
    assert between.app.peers == [client.host]
    assert (header.crc32c is not None) == ("crc32c" in options)
    assert header.unique_id == (b"id-127.0.0.1" if "unique-id" in options else None)
    await client.close()
    assert not any(isinstance(each, Refused) for each in between.events)


@pytest_twisted.ensureDeferred
async def test_the_header_describes_the_tls_that_haproxy_has_ended(between: Between) -> None:
    """
    The header has the TLS version, the name in the client's certificate, and the host name that the client asked for.
    """
    address = await between.listen("haproxy:tcp:0:interface=127.0.0.1")
    options = "send-proxy-v2 proxy-v2-options crc32c,ssl,cert-cn,authority,ssl-cipher"
    folder = between.folder
    port = between.proxy(
        f"127.0.0.1:{address.port} {options}",
        f"ssl crt {folder}/server.pem ca-file {folder}/roots.pem verify required",
    )
    files = f"trustRoots={quoteStringArgument(f'{folder}/roots.pem')}"
    files += f":certificate={quoteStringArgument(f'{folder}/client.pem')}"
    client = await connect(f"tls:127.0.0.1:{port}:hostname=localhost:{files}")
    assert await client.request(b"hello") == b"HELLO"
    [header] = between.app.headers
    assert header is not None
    assert header.ssl is not None
    assert (header.authority, header.ssl.cn, header.ssl.version) == ("localhost", "ann", "TLSv1.3")
    assert header.ssl.verified
    assert SslClient.CERT_CONN in header.ssl.client
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_header_comes_before_tls(between: Between) -> None:
    """HAProxy sends its header in plain, and then speaks TLS with the server."""
    pem = quoteStringArgument(str(between.folder / "server.pem"))
    address = await between.listen(f"haproxy:tls:0:interface=127.0.0.1:certificate={pem}")
    port = between.proxy(f"127.0.0.1:{address.port} ssl verify none send-proxy-v2")
    client = await connect(f"tcp:127.0.0.1:{port}")
    assert await client.request(b"hello") == b"HELLO"
    assert between.app.peers == [client.host]
    await client.close()


@pytest_twisted.ensureDeferred
async def test_the_header_comes_through_a_unix_socket(between: Between) -> None:
    """Over a UNIX socket, which is of the same machine, HAProxy's header is trusted."""
    path = between.folder / "app"
    await between.listen(f"haproxy:unix:{path}")
    client = await connect(f"tcp:127.0.0.1:{between.proxy(f'unix@{path} send-proxy-v2')}")
    assert await client.request(b"hello") == b"HELLO"
    assert between.app.peers == [client.host]
    await client.close()


def news(events: list[Any]) -> list[Any]:
    """Return the lines that `events` write to the log."""
    lines: list[Any] = []

    def note(event: Any) -> None:
        if event["log_namespace"] == "tcpapp":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(note)
    for each in events:
        log(each)
    globalLogPublisher.removeObserver(note)
    return lines


@pytest_twisted.ensureDeferred
async def test_health_checks_with_a_header_are_not_logged(between: Between) -> None:
    """HAProxy's health checks send a LOCAL header. They write no line to the log, and a client is served meanwhile."""
    address = await between.listen("haproxy:tcp:0:interface=127.0.0.1")
    several = between.app.has_opened(3)
    port = between.proxy(f"127.0.0.1:{address.port} send-proxy-v2 check check-send-proxy inter 50ms")
    await several
    client = await connect(f"tcp:127.0.0.1:{port}")
    assert await client.request(b"hello") == b"HELLO"
    checks = [header for header in between.app.headers if header is not None and header.command is Command.LOCAL]
    assert len(checks) >= 3
    assert set(between.app.closed_by) <= {"end-of-stream", "lost"}
    assert news(between.events) == []
    await client.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("endpoint", "options"),
    [
        ("haproxy:tls:0:interface=127.0.0.1:certificate={pem}", "ssl verify none send-proxy-v2 check no-check-ssl"),
        ("haproxy:tls:0:interface=127.0.0.1:certificate={pem}", "ssl verify none send-proxy-v2 check check-ssl"),
        ("tls:0:interface=127.0.0.1:certificate={pem}", "ssl verify none check check-ssl"),
    ],
)
async def test_health_checks_that_only_connect_are_not_logged(between: Between, endpoint: str, options: str) -> None:
    """
    Health checks that send only a header or only set up TLS, and then reset, write no line to the log.

    A check that does neither resets before the server accepts it.
    """
    pem = quoteStringArgument(str(between.folder / "server.pem"))
    address = await between.listen(endpoint.format(pem=pem))
    port = between.proxy(f"127.0.0.1:{address.port} {options} inter 10s")  # the interval is also the time of a check
    client = await connect(f"tcp:127.0.0.1:{port}")
    while not any(isinstance(each, (Closed, NeverOpened)) for each in between.events):  # the first check is at once
        assert await client.request(b"hello") == b"HELLO"
    await client.close()
    assert news(between.events) == []


@pytest_twisted.ensureDeferred
async def test_haproxy_reads_the_header_of_a_tcpapp_client(between: Between) -> None:
    """HAProxy reads the header of a tcpapp client, and passes its source address on to the server."""
    address = await between.listen("haproxy:tcp:0:interface=127.0.0.1")
    port = between.proxy(f"127.0.0.1:{address.port} send-proxy-v2", "accept-proxy")
    source = InetAddress(ipaddress.IPv4Address("192.0.2.7"), 56324)
    header = Header(2, Command.PROXY, Family.TCP4, source, InetAddress(ipaddress.IPv4Address("192.0.2.1"), 443))
    client = await connect(f"tcp:127.0.0.1:{port}", proxy_header=header)
    assert await client.request(b"hello") == b"HELLO"
    [told] = between.app.headers
    assert told is not None
    assert told.source == source
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_half_close_comes_through_haproxy(between: Between) -> None:
    """A client that half-closes after its request still gets the reply through HAProxy."""
    address = await between.listen("haproxy:tcp:0:interface=127.0.0.1")
    client = await connect(f"tcp:127.0.0.1:{between.proxy(f'127.0.0.1:{address.port} send-proxy')}")
    reply = client.request(b"hello")
    protocol_of(client).transport.loseWriteConnection()
    assert await reply == b"HELLO"
    assert (await client.when_closed()).rule == "end-of-stream"
