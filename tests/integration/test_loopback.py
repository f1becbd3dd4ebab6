"""Server and client on real loopback ports, through every kind of endpoint and without endpoints."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.error import CannotListenError, ConnectError, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout

from tcpapp import Limits, MessageClientFactory, MessageServerFactory, Timeouts, connect, listen
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected

from .peers import InHand, Noted, bounded

# Twisted itself uses pyOpenSSL in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

KINDS = ["tcp", "unix", "tls", "tls, wrapped"]


@pytest.fixture
def endpoints(kind: str, tmp_path: Path, certificates: Path, global_reactor: Any) -> Any:
    """Give the server's endpoint, and a function from the open port to the client's endpoint."""
    if kind == "tcp":
        return "tcp:0:interface=127.0.0.1", lambda server: f"tcp:127.0.0.1:{server.port}"
    if kind == "unix":
        return f"unix:{tmp_path}/socket", lambda server: f"unix:{tmp_path}/socket"
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificates}/key.pem:certKey={certificates}/cert.pem"
    if kind == "tls":
        return tls, lambda server: f"tls:localhost:{server.port}:trustRoots={certificates}/roots"
    root = ssl.Certificate.loadPEM((certificates / "roots" / "authority.pem").read_bytes())
    trust = ssl.optionsForClientTLS("localhost", trustRoot=ssl.trustRootFromCertificates([root]))
    return tls, lambda server: wrapClientTLS(trust, TCP4ClientEndpoint(global_reactor, "127.0.0.1", server.port))


# Both ways ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@bounded
async def test_messages_go_both_ways(endpoints: Any, serve: Any, join: Any) -> None:
    """Through every kind of endpoint, a request is answered, and either side can send without a request."""
    app = Noted()
    server = await serve(app, endpoints[0], framing="int32")
    client = await join(endpoints[1](server), framing="int32")
    assert await client.request(b"hello") == b"hello"
    big = bytes(range(256)) * 4000
    assert await client.request(big) == big
    [connection] = app.opened_by
    assert server.connections == {connection}
    await connection.send(b"unasked")
    assert await client.receive() == b"unasked"


class Hearing(Noted):
    """An app that sends nothing, since a reply that a closing peer leaves unread resets the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []

    def received(self, message: bytes, connection: Any) -> None:  # type: ignore[override]
        self.heard.append(message)


@pytest.mark.parametrize("kind", KINDS)
@bounded
async def test_both_sides_know_that_the_client_closed(
    endpoints: Any, serve: Any, join: Any, global_reactor: Any
) -> None:
    """
    When the client closes, messages sent before are handled. Both sides know that the client ended the connection
    cleanly.
    """
    app = Hearing()
    server = await serve(app, endpoints[0])
    client = await join(endpoints[1](server))
    await client.send(b"the last words")
    reason = await client.close()
    assert (str(reason.by), reason.rule, reason.clean) == ("us", "closed", True)
    await app.moment(lambda: app.reasons)
    assert app.heard == [b"the last words"]
    assert (str(app.reasons[0].by), app.reasons[0].rule) == ("peer", "end-of-stream")
    assert server.connections == frozenset()


@pytest.mark.parametrize("kind", KINDS)
@bounded
async def test_a_client_receives_earlier_messages_after_the_server_closed(
    endpoints: Any, serve: Any, join: Any
) -> None:
    """When the server closes, the client can still receive earlier messages; then its waiting `receive()` fails."""
    app = Noted()
    server = await serve(app, endpoints[0])
    client = await join(endpoints[1](server))
    await client.request(b"hello")
    app.opened_by[0].send(b"goodbye")
    closing = app.opened_by[0].close()
    assert await client.receive() == b"goodbye"
    with pytest.raises(NotConnected) as caught:
        await client.receive()
    assert caught.value.reason.rule == "end-of-stream"
    assert (await client.when_closed()).clean
    assert (await closing).rule == "closed"


@pytest.mark.parametrize("kind", KINDS)
@bounded
async def test_a_drain_of_the_server_answers_received_messages(
    endpoints: Any, serve: Any, join: Any, global_reactor: Any
) -> None:
    """Through every kind of endpoint, a drain answers received messages, and cuts no connection."""
    app = InHand()
    server = await serve(app, endpoints[0])
    client = await join(endpoints[1](server))
    reply = client.request(b"work")
    await app.moment(lambda: app.messages)
    drained = server.drain()
    app.answer_all()
    assert await reply == b"work"
    assert (await drained, (await client.when_closed()).rule) == (0, "end-of-stream")


@pytest.mark.parametrize("kind", KINDS)
@bounded
async def test_a_client_over_the_limit_is_closed(endpoints: Any, serve: Any, join: Any, global_reactor: Any) -> None:
    """
    Through every kind of endpoint, a client over the limit is closed and counted. After a close, a later client is
    served.
    """
    app = Noted()
    server = await serve(app, endpoints[0], limits=Limits(max_connections=2))
    first, second = [await join(endpoints[1](server)) for _ in range(2)]
    assert [await each.request(b"here") for each in (first, second)] == [b"here"] * 2
    with suppress(ConnectionLost):  # over TLS it is rejected before the handshake
        await (await join(endpoints[1](server))).when_closed()
    assert (server.refused, len(server.connections)) == (1, 2)
    await first.close()
    await app.moment(lambda: len(server.connections) == 1)
    third = await join(endpoints[1](server))
    assert [await each.request(b"here") for each in (second, third)] == [b"here"] * 2


# Without endpoints ----------------------------------------------------------------------------------------------------


@bounded
async def test_listen_tcp_and_connect_tcp_take_the_factories(global_reactor: Any) -> None:
    """`listenTCP` and `connectTCP` take the factories, and `when_connected()` gives the client's connection."""
    server = MessageServerFactory(lambda message, connection: message.upper(), "netstring")
    port = global_reactor.listenTCP(0, server, interface="127.0.0.1")
    client = MessageClientFactory(framing="netstring")
    waiting = client.when_connected()
    global_reactor.connectTCP("127.0.0.1", port.getHost().port, client)
    connection = await waiting
    assert await connection.request(b"hello") == b"HELLO"
    assert protocol_of(connection).clock is global_reactor
    await connection.close()
    await port.stopListening()
    await server.close()


@bounded
async def test_when_connected_fails_when_a_connect_is_refused(global_reactor: Any) -> None:
    """When a `connectTCP` is refused, `when_connected()` fails with Twisted's own error."""
    client = MessageClientFactory()
    waiting = client.when_connected()
    global_reactor.connectTCP("127.0.0.1", closed_port(), client)
    with pytest.raises(Refused):
        await waiting


@bounded
async def test_the_global_reactor_is_found() -> None:
    """Without a given reactor, `listen` and `connect` use the running one."""
    server = await listen("tcp:0:interface=127.0.0.1", Noted())
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    assert await client.request(b"hello") == b"hello"
    await client.close()
    await server.close()


# Without a server -----------------------------------------------------------------------------------------------------


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@bounded
async def test_a_closed_port_refuses(join: Any) -> None:
    """A connect to a closed port fails with Twisted's `ConnectionRefusedError`."""
    with pytest.raises(Refused):
        await join(f"tcp:127.0.0.1:{closed_port()}")


@bounded
async def test_a_connect_to_a_missing_unix_socket_fails(join: Any, tmp_path: Path) -> None:
    """A connect to a UNIX socket that does not exist fails with Twisted's `ConnectError`."""
    with pytest.raises(ConnectError):
        await join(f"unix:{tmp_path}/nobody")


@bounded
async def test_a_connect_to_a_full_backlog_times_out(global_reactor: Any) -> None:
    """A server whose backlog is full accepts no client, so a connect fails after ``timeouts.connect`` seconds."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = [socket.socket() for _ in range(8)]
        for each in clients:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        endpoint = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectTimeout, match=r"tcp:127\.0\.0\.1:\d+: not connected after 0\.2 s \(connect\)"):
            await connect(endpoint, reactor=global_reactor, timeouts=Timeouts(connect=0.2))
        for each in clients:
            each.close()


@bounded
async def test_a_port_in_use_cannot_be_listened_on(serve: Any) -> None:
    """Listening on a port in use fails with Twisted's `CannotListenError`."""
    server = await serve(Noted())
    with pytest.raises(CannotListenError):
        await serve(Noted(), f"tcp:{server.port}:interface=127.0.0.1")
    assert isinstance(server.port, int)


@bounded
async def test_certificates_are_checked(serve: Any, join: Any, certificates: Path) -> None:
    """
    A client that does not trust the server's certificate is not connected, and the server still serves another client.
    """
    app = Noted()
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificates}/key.pem:certKey={certificates}/cert.pem"
    server = await serve(app, tls)
    with pytest.raises(SSL.Error):
        await join(f"tls:localhost:{server.port}")
    trusting = await join(f"tls:localhost:{server.port}:trustRoots={certificates}/roots")
    assert await trusting.request(b"hello") == b"hello"


# A UNIX socket's file -------------------------------------------------------------------------------------------------


@bounded
async def test_the_file_of_a_unix_socket_comes_and_goes(serve: Any, tmp_path: Path) -> None:
    """The file of a UNIX socket has the requested mode, and is removed when the server closes."""
    path = tmp_path / "socket"
    server = await serve(Noted(), f"unix:{path}:mode=600")
    assert path.is_socket()
    assert path.stat().st_mode & 0o777 == 0o600
    await server.close()
    assert not path.exists()


@bounded
async def test_a_drain_ends_although_the_socket_file_was_removed(serve: Any, join: Any, tmp_path: Path) -> None:
    """When the file of a UNIX socket was removed, a drain still ends, and closes the socket."""
    path = tmp_path / "socket"
    server = await serve(Noted(), f"unix:{path}")
    client = await join(f"unix:{path}")
    assert await client.request(b"hello") == b"hello"
    path.unlink()
    assert await server.drain() == 0
    assert server._ports[0].socket.fileno() == -1
