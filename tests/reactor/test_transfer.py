"""The transfer of bytes, compiled or not, permits all that a transport of Twisted permits."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
import pytest_twisted
from twisted.internet.protocol import ClientFactory
from twisted.python import context
from twisted.python.log import ILogContext

from tcpapp.reactor import sockets
from tcpapp.reactor.transfer import Transfer
from tests.reactor.conftest import Bench, Noting

test = pytest_twisted.ensureDeferred

CLASSES = [
    sockets.TCPServer,
    sockets.TCPClient,
    sockets.TCPClientStream,
    sockets.UNIXServer,
    sockets.UNIXClient,
    sockets.UNIXClientStream,
    sockets.PlainUNIXServer,
    sockets.PlainUNIXClient,
]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_connection_can_get_each_of_the_classes(kind: Any) -> None:
    """All classes of connections have the same fields, so an object can change from each to each, and keeps them."""
    connection: Any = sockets.TCPServer.__new__(sockets.TCPServer)
    Transfer.__init__(connection)
    connection.logstr, connection.of_the_app = "one", "other"
    for each in (kind, sockets.TCPServer, kind):
        connection.__class__ = each
    assert (type(connection), connection.logstr, connection.of_the_app) == (kind, "one", "other")


@test
async def test_a_transport_takes_attributes_and_weak_references(bench: Bench) -> None:
    """An app can set attributes on a transport, also a ``write`` of its own, and refer to it weakly."""
    server = Noting()
    peer = await bench.meet(server)
    transport, written = server.transport, []
    transport.of_the_app = [1]
    transport.write = written.append
    assert (ref(transport)(), transport.of_the_app) == (transport, [1])
    server.on_data = lambda end: end.transport.write(b"mine")
    peer.send(b"x")
    await bench.until(lambda: written)
    del transport.write
    transport.write(b"all")
    assert await bench.read(peer, 3) == b"all"


@test
async def test_a_transport_that_has_ended_is_freed(bench: Bench) -> None:
    """After its end, a transport has no protocol, as in Twisted, and is freed when nothing refers to it."""
    server = Noting()
    peer = await bench.meet(server)
    peer.send(b"x")
    await bench.until(lambda: server.data)
    transport = server.transport
    transport.loseConnection()
    await bench.until(lambda: server.reason)
    assert not hasattr(transport, "protocol")
    gone, server.transport = ref(transport), None
    del transport
    await bench.turns()
    gc.collect()
    assert gone() is None


@test
async def test_writes_of_a_call_are_sent_together_and_in_order(bench: Bench) -> None:
    """All pieces that are written in one call, inside or outside ``dataReceived``, are sent in order by one write."""
    server = Noting()
    peer = await bench.meet(server)
    await bench.until(lambda: server.transport._stream is not None)
    sent: list[bytes] = []
    stream = server.transport._stream

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

        def write(self, data: bytes) -> None:
            sent.append(data)
            stream.write(data)

    server.transport._stream = Counting()
    server.on_data = lambda end: [end.transport.write(each) for each in (b"a", b"", b"b")]
    peer.send(b"x")
    assert await bench.read(peer, 2) == b"ab"
    for each in (b"c", b"", b"d"):
        server.transport.write(each)
    server.transport.writeSequence([b"e", b"f"])
    assert await bench.read(peer, 4) == b"cdef"
    assert sent == [b"ab", b"cdef"]


@test
async def test_only_bytes_are_written(bench: Bench) -> None:
    """Text raises the error of Twisted. An instance of a subclass of ``bytes`` is written."""
    server = Noting()
    peer = await bench.meet(server)
    with pytest.raises(TypeError, match="Data must be bytes"):
        server.transport.write("text")

    class Own(bytes):
        __slots__ = ()

    server.transport.write(Own(b"own"))
    assert await bench.read(peer, 3) == b"own"


@test
async def test_a_chunk_is_logged_under_the_present_name(bench: Bench) -> None:
    """``dataReceived`` runs in a logging context with the ``logstr`` that the transport has at that time."""
    server, names = Noting(), []
    server.on_data = lambda _: names.append(context.get(ILogContext)["system"])
    peer = await bench.meet(server)
    for name in ("first", "second"):
        server.transport.logstr = name
        peer.send(b"x")
        await bench.until(lambda name=name: name in names)
    assert names == ["first", "second"]
    assert context.get(ILogContext)["system"] not in names


@test
async def test_bytes_for_a_client_that_is_not_open_are_dropped(bench: Bench) -> None:
    """A client that is being opened accepts a write, and drops the bytes, as in Twisted."""
    factory: Any = ClientFactory()
    factory.noisy = False
    failed: list[Any] = []
    factory.clientConnectionFailed = lambda _, why: failed.append(why)
    connector = bench.reactor.connectTCP("127.0.0.1", 1, factory)
    assert connector.transport.logstr == "Uninitialized"
    connector.transport.write(b"too early")
    assert connector.transport._tempDataBuffer == []
    await bench.until(lambda: failed)
