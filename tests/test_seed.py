"""
The first requirements of the project, each in a test of its own, on real loopback ports.

A server socket is created, and a client connects to it. Data is sent in both directions, many clients connect at once,
and both sides close. Messages of all sizes are sent and received. Addresses, ports and data are invalid.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults
from twisted.internet.error import CannotListenError, ConnectionRefusedError, DNSLookupError
from twisted.internet.protocol import Protocol
from typing_extensions import Self

import tcpapp
from tcpapp.errors import (
    InvalidAddress,
    InvalidFraming,
    MessageTooLong,
    NotConnected,
    TruncatedMessage,
    UnsendableMessage,
)
from tests.patience import PATIENCE

LOOPBACK = "tcp:0:interface=127.0.0.1"


def upper(message: bytes, connection: tcpapp.Connection) -> bytes:
    """Return the message in capitals."""
    return message.upper()


class Talking:
    """A server with one app, and its clients; all are closed together."""

    def __init__(self, reactor: Any, app: Any, framing: str, **options: Any) -> None:
        self.reactor = reactor
        self.app = app
        self.framing = framing
        self.options = options
        self.clients: list[tcpapp.Connection] = []

    async def __aenter__(self) -> Self:
        self.server = await tcpapp.listen(
            LOOPBACK, self.app, framing=self.framing, reactor=self.reactor, **self.options
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await gatherResults([client.close() for client in self.clients if client.state is tcpapp.State.OPEN])
        await bounded(self.server.close(), self.reactor)

    async def client(self, **options: Any) -> tcpapp.Connection:
        """Connect a client to the server."""
        endpoint = f"tcp:127.0.0.1:{self.server.port}"
        framing = options.pop("framing", self.framing)
        client = await tcpapp.connect(endpoint, framing=framing, reactor=self.reactor, **options)
        self.clients.append(client)
        return client

    async def ask(self, message: bytes) -> bytes:
        """Return the server's reply to `message`, over a new connection."""
        client = await self.client()
        return await bounded(client.request(message), self.reactor)


def bounded(waiting: Deferred[Any], reactor: Any) -> Deferred[Any]:
    """Add a time limit to this Deferred."""
    return waiting.addTimeout(PATIENCE, reactor)


class Collector(Protocol):
    """A peer without framing, which keeps the bytes that it receives."""

    def __init__(self) -> None:
        self.came = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.came += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def raw_client(reactor: Any, port: int | None) -> Collector:
    """Connect a peer without framing to this port."""
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Collector())


# Listening, connecting, sending, closing -----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_server_socket_can_be_created(global_reactor: Any) -> None:
    """Listening on port 0 opens a socket with a port that the system has chosen."""
    server = await tcpapp.listen(LOOPBACK, upper, reactor=global_reactor)
    assert server.address == IPv4Address("TCP", "127.0.0.1", server.port)
    assert server.port is not None
    assert server.port > 0
    await server.close()


@pytest_twisted.ensureDeferred
async def test_a_client_can_connect(global_reactor: Any) -> None:
    """The client's connection is open, and each side knows the address of the other."""
    async with Talking(global_reactor, upper, "line") as talking:
        client = await talking.client()
        await client.request(b"are you there?")
        (served,) = talking.server.connections
        assert client.state is tcpapp.State.OPEN
        assert (client.peer, client.host) == (served.host, served.peer)


@pytest_twisted.ensureDeferred
async def test_data_goes_from_client_to_server(global_reactor: Any) -> None:
    """The server's app gets the message that the client has sent."""
    handed: Deferred[bytes] = Deferred()
    async with Talking(global_reactor, lambda message, connection: handed.callback(message), "line") as talking:
        client = await talking.client()
        await client.send(b"hello, server")
        assert await bounded(handed, global_reactor) == b"hello, server"


@pytest_twisted.ensureDeferred
async def test_the_server_receives_from_the_client(global_reactor: Any) -> None:
    """A conversation of the server receives the client's messages in their order."""
    got: list[bytes] = []
    over: Deferred[None] = Deferred()

    @tcpapp.conversation
    async def listener(connection: tcpapp.Connection) -> None:
        got.extend([message async for message in connection])
        over.callback(None)

    async with Talking(global_reactor, listener, "int16") as talking:
        client = await talking.client()
        for message in (b"one", b"two", b"three"):
            await client.send(message)
        await client.close()
        await bounded(over, global_reactor)
    assert got == [b"one", b"two", b"three"]


@pytest_twisted.ensureDeferred
async def test_data_goes_from_server_to_client(global_reactor: Any) -> None:
    """The client receives a message that the server sends first."""

    class Greeter:
        def opened(self, connection: tcpapp.Connection) -> None:
            connection.send(b"hello, client")

    async with Talking(global_reactor, Greeter, "line") as talking:
        client = await talking.client()
        assert await bounded(client.receive(), global_reactor) == b"hello, client"


@pytest_twisted.ensureDeferred
async def test_the_client_receives_from_the_server(global_reactor: Any) -> None:
    """The client receives the replies to its messages in their order."""
    async with Talking(global_reactor, upper, "line") as talking:
        client = await talking.client()
        asked = [client.request(word) for word in (b"one", b"two", b"three")]
        assert await bounded(gatherResults(asked), global_reactor) == [b"ONE", b"TWO", b"THREE"]


@pytest_twisted.ensureDeferred
async def test_the_server_handles_many_clients_at_once(global_reactor: Any) -> None:
    """200 clients are connected at one time, and each gets the replies to its own messages."""
    async with Talking(global_reactor, upper, "line") as talking:
        clients = [await talking.client() for _ in range(200)]
        asked = [each.request(b"from %d, message %d" % (i, n)) for n in range(3) for i, each in enumerate(clients)]
        answers = await bounded(gatherResults(asked), global_reactor)
        assert len(talking.server.connections) == 200
        assert answers == [b"FROM %d, MESSAGE %d" % (i, n) for n in range(3) for i in range(200)]


@pytest_twisted.ensureDeferred
async def test_the_client_closes_and_both_sides_know(global_reactor: Any) -> None:
    """When the client closes, the connection ends on both sides, each with its reason, and the server forgets it."""
    async with Talking(global_reactor, upper, "line") as talking:
        client = await talking.client()
        await client.request(b"hello")
        (served,) = talking.server.connections
        mine, theirs = await bounded(gatherResults([client.close(), served.when_closed()]), global_reactor)
        assert (mine.by, mine.rule) == (tcpapp.EndedBy.US, "closed")
        assert (theirs.by, theirs.rule) == (tcpapp.EndedBy.PEER, "end-of-stream")
        assert talking.server.connections == frozenset()


@pytest_twisted.ensureDeferred
async def test_the_server_closes_and_both_sides_know(global_reactor: Any) -> None:
    """When the server closes, the connection of the client ends, and its waiting `receive` fails with the reason."""
    async with Talking(global_reactor, upper, "line") as talking:
        client = await talking.client()
        await client.request(b"hello")
        waiting = client.receive()
        await talking.server.close()
        with pytest.raises(NotConnected) as failed:
            await bounded(waiting, global_reactor)
        assert failed.value.reason == await bounded(client.when_closed(), global_reactor)
        assert failed.value.reason.rule == "end-of-stream"


# Messages of all sizes, in both directions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [b"", b"x", b"x" * 1000],
    ids=["an empty message", "one byte", "exactly max"],
)
@pytest.mark.parametrize("framing", ["line:max=1000", "int32:max=1000", "netstring:max=1000", "cobs:max=1000"])
@pytest_twisted.ensureDeferred
async def test_a_message_of_any_size_up_to_max_arrives(framing: str, message: bytes, global_reactor: Any) -> None:
    """A message of no byte, of one byte and of exactly ``max`` bytes is received and answered."""
    async with Talking(global_reactor, upper, framing) as talking:
        assert await talking.ask(message) == message.upper()


@pytest_twisted.ensureDeferred
async def test_one_byte_over_max_closes_the_connection(global_reactor: Any) -> None:
    """A message of ``max`` bytes is answered; one more byte ends the connection with "message-too-long"."""
    told: Deferred[tcpapp.CloseReason] = Deferred()

    class Upper:
        def received(self, message: bytes, connection: tcpapp.Connection) -> bytes:
            return message.upper()

        def closed(self, connection: tcpapp.Connection, reason: tcpapp.CloseReason) -> None:
            told.callback(reason)

    async with Talking(global_reactor, Upper, "int32:max=1000") as talking:
        client = await talking.client(framing="int32")
        assert await bounded(client.request(b"a" * 1000), global_reactor) == b"A" * 1000
        with pytest.raises(NotConnected):
            await bounded(client.request(b"a" * 1001), global_reactor)
        reason = await bounded(told, global_reactor)
        assert (reason.rule, reason.value, reason.limit) == (MessageTooLong.rule, 1001, 1000)


@pytest_twisted.ensureDeferred
async def test_a_burst_of_10_000_messages_is_answered_in_order(global_reactor: Any) -> None:
    """10,000 messages that are sent without waiting are answered in their order."""
    async with Talking(global_reactor, upper, "int16") as talking:
        client = await talking.client()
        for number in range(10_000):
            client.send(b"message %d" % number)
        answers = [await bounded(client.receive(), global_reactor) for _ in range(10_000)]
        assert answers == [b"MESSAGE %d" % number for number in range(10_000)]


@pytest_twisted.ensureDeferred
async def test_messages_split_at_every_byte_arrive_whole(global_reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages that are cut at any place, and read by the server in two parts, are answered."""
    stream = b"hello\r\nworld\n"
    chunks: DeferredQueue[bytes] = DeferredQueue()
    read = tcpapp.MessageProtocol.dataReceived

    def note_and_read(protocol: tcpapp.MessageProtocol, data: bytes) -> None:
        chunks.put(data)
        read(protocol, data)

    monkeypatch.setattr(tcpapp.MessageProtocol, "dataReceived", note_and_read)
    async with Talking(global_reactor, upper, "line") as talking:
        for cut in range(len(stream) + 1):
            client = await raw_client(global_reactor, talking.server.port)
            client.transport.setTcpNoDelay(True)
            for part in filter(None, (stream[:cut], stream[cut:])):
                client.transport.write(part)
                assert await bounded(chunks.get(), global_reactor) == part
            client.transport.loseWriteConnection()
            await bounded(client.ended, global_reactor)
            assert client.came == b"HELLO\nWORLD\n"


@pytest_twisted.ensureDeferred
async def test_both_sides_send_at_once(global_reactor: Any) -> None:
    """Both sides send a megabyte without waiting for the other side, and each receives all of it."""
    count, size = 100, 10_000

    @tcpapp.conversation
    async def both(connection: tcpapp.Connection) -> None:
        sent = [connection.send(b"s" * size) for _ in range(count)]
        total = sum([len(await connection.receive()) for _ in range(count)])
        await gatherResults(sent)
        await connection.send(b"%d" % total)

    async with Talking(global_reactor, both, "int32") as talking:
        client = await talking.client()
        for _ in range(count):
            client.send(b"c" * size)
        got = [await bounded(client.receive(), global_reactor) for _ in range(count + 1)]
        assert got == [b"s" * size] * count + [b"%d" % (count * size)]


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_gets_everything_and_delays_no_other_client(global_reactor: Any) -> None:
    """While a peer does not read, another client gets its reply; once the peer reads, it gets all replies."""
    count, size = 300, 50_000
    async with Talking(global_reactor, upper, "int32") as talking:
        slow = await raw_client(global_reactor, talking.server.port)
        slow.transport.pauseProducing()
        slow.transport.write((size.to_bytes(4, "big") + b"x" * size) * count)
        assert await talking.ask(b"quick") == b"QUICK"
        slow.transport.resumeProducing()
        slow.transport.loseWriteConnection()
        await bounded(slow.ended, global_reactor)
        assert slow.came == (size.to_bytes(4, "big") + b"X" * size) * count


# Invalid addresses, ports and data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp:host name:7007",
        "tcp:999.1.1.1:7007",
        "tcp::7007",
        "tcp:localhost",
        "tcp:localhost:0",
        "tcp:localhost:65536",
        "tcp:localhost:-1",
        "tcp:localhost:abc",
        "localhost:7007",
        "tpc:localhost:7007",
        "",
    ],
)
def test_an_invalid_address_raises_before_anything_is_opened(endpoint: str, global_reactor: Any) -> None:
    """`connect` with an invalid endpoint raises `InvalidAddress` at once, and the error quotes the endpoint."""
    with pytest.raises(InvalidAddress) as failed:
        tcpapp.connect(endpoint, reactor=global_reactor)
    assert repr(endpoint) in str(failed.value)


@pytest.mark.parametrize("endpoint", ["tcp:65536", "tcp:abc", "tcp:", "tcp:7007:interface=nowhere", "udp:7007"])
def test_an_invalid_port_is_not_listened_on(endpoint: str, global_reactor: Any) -> None:
    """`listen` with an invalid port raises `InvalidAddress` at once."""
    with pytest.raises(InvalidAddress, match="tcp"):
        tcpapp.listen(endpoint, upper, reactor=global_reactor)


@pytest_twisted.ensureDeferred
async def test_a_host_that_does_not_exist_cannot_be_connected_to(global_reactor: Any) -> None:
    """Connecting to a valid name that no host has fails with DNSLookupError, as in Twisted."""
    with pytest.raises(DNSLookupError):
        await tcpapp.connect("tcp:no-such-host.invalid:7007", reactor=global_reactor)


@pytest_twisted.ensureDeferred
async def test_a_port_without_a_listener_refuses(global_reactor: Any) -> None:
    """Connecting to a port without a listener fails with ConnectionRefusedError, as in Twisted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await tcpapp.connect(f"tcp:127.0.0.1:{port}", reactor=global_reactor)


@pytest_twisted.ensureDeferred
async def test_a_port_in_use_cannot_be_listened_on(global_reactor: Any) -> None:
    """Listening on a port in use fails with CannotListenError, as in Twisted, and the first server goes on."""
    async with Talking(global_reactor, upper, "line") as talking:
        with pytest.raises(CannotListenError):
            await tcpapp.listen(f"tcp:{talking.server.port}:interface=127.0.0.1", upper, reactor=global_reactor)
        assert await talking.ask(b"still here") == b"STILL HERE"


@pytest.mark.parametrize("message", ["text", None, 7, b"two\nlines", b"x" * 101])
@pytest_twisted.ensureDeferred
async def test_data_that_cannot_be_sent_fails_and_the_connection_stays_open(message: Any, global_reactor: Any) -> None:
    """`send` refuses a value that is no message of the framing, and the connection stays open."""
    async with Talking(global_reactor, upper, "line:max=100") as talking:
        client = await talking.client()
        with pytest.raises(UnsendableMessage):
            await client.send(message)
        assert await bounded(client.request(b"and yet"), global_reactor) == b"AND YET"


@pytest_twisted.ensureDeferred
async def test_an_end_inside_a_message_is_no_proper_end(global_reactor: Any) -> None:
    """A peer that closes inside a message ends the connection with "truncated-message"; the app gets no part of it."""
    ended: Deferred[tcpapp.CloseReason] = Deferred()

    class Upper:
        def received(self, message: bytes, connection: tcpapp.Connection) -> bytes:
            return message.upper()

        def closed(self, connection: tcpapp.Connection, reason: tcpapp.CloseReason) -> None:
            ended.callback(reason)

    async with Talking(global_reactor, Upper, "int32") as talking:
        client = await raw_client(global_reactor, talking.server.port)
        client.transport.write(b"\0\0\0\5hello" + b"\0\0\0\5wor")
        client.transport.loseWriteConnection()
        reason = await bounded(ended, global_reactor)
        await bounded(client.ended, global_reactor)
        assert (reason.by, reason.rule) == (tcpapp.EndedBy.PEER, TruncatedMessage.rule)
        assert client.came == b"\0\0\0\5HELLO"


def test_an_invalid_framing_raises_at_once(global_reactor: Any) -> None:
    """`listen` with a misspelt framing raises `InvalidFraming`, which suggests the right name."""
    with pytest.raises(InvalidFraming, match="int32"):
        tcpapp.listen(LOOPBACK, upper, framing="int23", reactor=global_reactor)
