"""
Each timeout of a connection, once over real sockets: it ends the connection by its rule, and others are still served.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tcpapp import Limits, Timeouts, connect
from tcpapp.connection.protocol import protocol_of
from tcpapp.telemetry import Closed, NeverOpened, Telemetry

from .peers import bounded

SOON = 0.05
"""The timeout in seconds. Nothing but the timeout ends these waits."""

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Ends:
    """A listener that keeps the reason of the first connection that ends."""

    def __init__(self) -> None:
        self.first: Deferred[Any] = Deferred()
        self.telemetry = Telemetry(self.told)

    def told(self, event: Any) -> None:
        if isinstance(event, (Closed, NeverOpened)) and not self.first.called:
            self.first.callback(event.reason)


class Says(Protocol):
    """A client that sends one message, and reads or does not read."""

    def __init__(self, data: bytes, reads: bool) -> None:
        self.data = data
        self.reads = reads

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if not self.reads:
            transport.pauseProducing()
        transport.write(self.data)


async def stranger(reactor: Any, port: int, data: bytes, reads: bool = True) -> Any:
    """Connect a client that is not part of tcpapp."""
    factory = Factory.forProtocol(lambda: Says(data, reads))  # type: ignore[arg-type]
    factory.noisy = False
    return await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)


def never(message: bytes, connection: Any) -> Deferred[bytes] | bytes:
    """Answer ``help`` and ``much`` at once, and no other message. It is the server's app."""
    return b"here" if message == b"help" else b"x" * 1_000_000 if message == b"much" else Deferred()


WAITS = [
    ("first_message", b"", "first-message-timeout"),
    ("message_timeout", b"hel", "message-timeout"),
    ("idle", b"", "idle"),
    ("idle_read", b"", "idle"),
    ("idle_write", b"", "idle"),
    ("handler_timeout", b"hello\n", "handler-timeout"),
    ("max_age", b"", "max-age"),
    ("heartbeat", b"", "heartbeat-missed"),
    ("send_progress", b"much\n" * 10, "send-stalled"),
]


@pytest.mark.parametrize(("wait", "says", "rule"), WAITS, ids=[wait for wait, _, _ in WAITS])
@bounded
async def test_each_timeout_ends_the_connection_by_its_rule(
    wait: str, says: bytes, rule: str, serve: Any, join: Any, global_reactor: Any
) -> None:
    """Each timeout ends the connection with its own rule and its limit, and a later client is served."""
    ends = Ends()
    quiet: dict[str, float] = {"first_message": 0, "idle": 0, "message_timeout": 0}
    timeouts = Timeouts(**{**quiet, wait: SOON})
    options: dict[str, Any] = {"heartbeat": b"ping"} if wait == "heartbeat" else {}
    options["limits"] = Limits(age_jitter=0)
    server = await serve(never, LOOPBACK, timeouts=timeouts, telemetry=ends.telemetry, **options)
    client = await stranger(global_reactor, server.port, says, reads=wait != "send_progress")
    reason = await ends.first
    assert (reason.rule, reason.limit is not None and reason.limit >= SOON) == (rule, True)
    client.transport.abortConnection()
    server.change(timeouts=Timeouts(**quiet))  # on a busy machine the same rule could end the next client
    healthy = await join(f"tcp:127.0.0.1:{server.port}")
    assert await healthy.request(b"help") == b"here"


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
@bounded
async def test_a_handshake_that_is_never_made_ends(serve: Any, certificates: Any, global_reactor: Any) -> None:
    """A TLS handshake that never comes is ended by its timeout, and the app is not called."""
    ends = Ends()
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificates}/key.pem:certKey={certificates}/cert.pem"
    opened: list[Any] = []

    class App:
        def opened(self, connection: Any) -> None:
            opened.append(connection)

    server = await serve(App(), tls, timeouts=Timeouts(tls_handshake=SOON), telemetry=ends.telemetry)
    client = await stranger(global_reactor, server.port, b"")
    assert (await ends.first).rule == "tls-handshake-timeout"
    assert (opened, server.connections) == ([], frozenset())
    client.transport.abortConnection()


@bounded
async def test_keepalive_is_set_at_both_ends(serve: Any, global_reactor: Any) -> None:
    """The sockets of a server and of a client have keepalive on, with the number of probes from `Limits`."""
    opened: Deferred[Any] = Deferred()

    class App:
        def opened(self, connection: Any) -> None:
            opened.callback(connection)

    numbers = {"timeouts": Timeouts(keepalive=7), "limits": Limits(keepalive_count=3)}
    server = await serve(App(), LOOPBACK, **numbers)
    client = await connect(f"tcp:127.0.0.1:{server.port}", **numbers)
    for connection in (client, await opened):
        tcp = protocol_of(connection).transport.socket
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
    await client.close()
