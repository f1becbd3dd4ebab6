"""A connection on a transport of uvloop does what Twisted's transport does, in the same order."""

from __future__ import annotations

import socket
import struct
from array import array
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableDescriptor, ITCPTransport, ITLSTransport
from twisted.internet.protocol import ClientFactory
from twisted.python import context, log
from zope.interface.verify import verifyObject

from tcpapp.reactor.small_reads import SmallReads
from tcpapp.reactor.stream import Stream
from tests.reactor.conftest import Bench, HalfClosing, Noting

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
test = pytest_twisted.ensureDeferred


# A transport of Twisted -----------------------------------------------------------------------------------------------


@test
async def test_a_stream_provides_the_interfaces_of_twisteds_transports(bench: Bench) -> None:
    """A stream provides Twisted's transport interfaces, and gives its addresses and its socket."""
    server = Noting()
    peer = await bench.meet(server)
    for interface in (ITCPTransport, ITLSTransport, IConsumer, IHalfCloseableDescriptor):
        assert verifyObject(interface, server.transport)
    assert isinstance(server.transport, Stream)
    assert (server.transport.getPeer().host, server.transport.getPeer().port) == peer.getsockname()
    assert (server.transport.getHost().host, server.transport.getHost().port) == peer.getpeername()
    assert server.transport.getHandle().getsockname() == peer.getpeername()


@test
async def test_options_that_an_app_sets_on_its_socket_stay(bench: Bench) -> None:
    """
    uvloop turns Nagle's algorithm off by itself. The reactor leaves it on until the app turns it off, as Twisted does.
    """
    left, told = Noting(), Noting()
    told.on_made = lambda end: end.transport.setTcpNoDelay(True)
    for each in (left, told):
        await bench.meet(each)
        each.transport.setTcpKeepAlive(True)
    await bench.turns()
    assert [each.transport.getTcpNoDelay() for each in (left, told)] == [False, True]
    assert left.transport.getTcpKeepAlive()


@test
async def test_options_of_a_listening_socket_apply_to_its_connections(bench: Bench) -> None:
    """TCP_NODELAY that is set on a listening socket is set on its accepted connections, too."""
    server = Noting()
    port = bench.serving(server)
    bench.listening.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bench.dial(port)
    await bench.until(lambda: server.notes)
    assert server.transport.getTcpNoDelay()


@test
async def test_tls_can_be_started_on_a_stream(bench: Bench, contexts: Any) -> None:
    """
    Both ends can start TLS on a stream, exchange bytes, see the certificate, and close; a later write does nothing.
    """
    server, client = Noting(), Noting()
    server.on_made = lambda end: end.transport.startTLS(contexts[0])
    server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
    factory: Any = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda _: client
    client.on_made = lambda end: (end.transport.startTLS(contexts[1]), end.transport.writeSequence([b"hel", b"lo"]))
    bench.reactor.connectTCP("127.0.0.1", bench.serving(server), factory)
    await bench.until(lambda: client.data == b"HELLO")
    assert client.transport.getPeerCertificate() is not None
    client.transport.loseConnection()
    await bench.until(lambda: client.reason and server.reason)
    client.transport.write(b"too late")


def waiting(end: Noting) -> int:
    """Return how many bytes the kernel has for this end."""
    count = array("i", [0])
    ioctl(end.transport.getHandle(), FIONREAD, count)
    return count[0]


# Reading -------------------------------------------------------------------------------------------------------------


@test
async def test_nothing_is_read_by_a_protocol_that_pauses_as_it_is_connected(bench: Bench) -> None:
    """
    When a protocol pauses in `connectionMade`, no byte is read from its socket, so another program could read them.
    """
    server = Noting()
    server.on_made = lambda end: end.transport.pauseProducing()
    port = bench.serving(server)
    bench.dial(port).sendall(b"for later")
    await bench.until(lambda: server.notes and waiting(server) == len(b"for later"))
    await bench.turns()
    assert not server.data
    assert server.transport.getHandle().recv(100, socket.MSG_PEEK) == b"for later"
    server.transport.resumeProducing()
    await bench.until(lambda: server.data == b"for later")


@test
async def test_a_paused_stream_can_write(bench: Bench) -> None:
    """A stream that is paused in `connectionMade` sends what is written."""
    server = Noting()

    def greet(end: Any) -> None:
        end.transport.pauseProducing()
        end.transport.write(b"hel")
        end.transport.writeSequence([b"l", b"o"])

    server.on_made = greet
    assert await bench.read(await bench.meet(server), 5) == b"hello"


@test
async def test_a_smaller_size_is_read_in_smaller_pieces(bench: Bench) -> None:
    """`dataReceived` gets at most `bufferSize` bytes, if that is set in `connectionMade` or changed later."""
    before, after = Noting(), Noting()
    before.on_made = lambda end: setattr(end.transport, "bufferSize", 1000)
    peers = [await bench.meet(before), await bench.meet(after)]
    await bench.turns()
    after.transport.bufferSize = 500
    for peer, end, size in zip(peers, (before, after), (1000, 500), strict=True):
        peer.sendall(b"x" * 10_000)
        await bench.until(lambda end=end: len(end.data) == 10_000)
        assert max(end.chunks) == end.transport.bufferSize == size
    after.transport.bufferSize = 4000
    peers[1].sendall(b"x" * 10_000)
    await bench.until(lambda: len(after.data) == 20_000)
    assert max(after.chunks) == 4000


@test
async def test_any_number_of_sizes_takes_no_more_memory_than_the_largest(bench: Bench) -> None:
    """Each read can have another `bufferSize`, as with a rate limit, and all sizes share one buffer."""
    server = Noting()
    server.on_made = lambda end: setattr(end.transport, "bufferSize", 100)
    server.on_data = lambda end: setattr(end.transport, "bufferSize", end.transport.bufferSize - 10)
    peer = await bench.meet(server)
    peer.sendall(b"x" * (100 + 90 + 80))
    await bench.until(lambda: len(server.data) == 270)
    assert server.chunks == [100, 90, 80]
    assert isinstance(server.transport._stream.get_protocol(), SmallReads)
    room = server.transport.reactor.room
    assert room(50).obj is room(60).obj
    assert len(room(50)) == 50


@test
async def test_a_large_sender_is_read_in_pieces_of_twisteds_size(bench: Bench) -> None:
    """After one read of more than 64 KiB, a stream is read in pieces of 64 KiB, as by Twisted."""
    server = Noting()
    server.on_made = lambda end: end.transport.pauseProducing()
    peer = await bench.meet(server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sent = peer.send(b"x" * 400_000)
    await bench.until(lambda: waiting(server) > 65536)
    server.transport.resumeProducing()
    await bench.until(lambda: len(server.data) == sent)
    assert max(server.chunks) > 65536  # the first: uvloop's own buffer is larger
    first = len(server.chunks)
    server.transport.pauseProducing()
    sent += peer.send(b"x" * 400_000)
    server.transport.resumeProducing()
    await bench.until(lambda: len(server.data) == sent)
    assert max(server.chunks[first:]) == 65536


@test
async def test_a_large_sender_has_the_same_share_of_turns_as_others(bench: Bench) -> None:
    """A connection is read once in a turn of the loop, also when much more waits in its socket."""
    large, modest = Noting(), Noting()
    order: list[str] = []
    for name, each in (("greedy", large), ("modest", modest)):
        each.on_made = lambda end: (setattr(end.transport, "bufferSize", 1000), end.transport.pauseProducing())
        each.on_data = lambda _, name=name: order.append(name)
    peers = [await bench.meet(large), await bench.meet(modest)]
    peers[0].sendall(b"x" * 20_000)
    peers[1].sendall(b"x" * 3_000)
    await bench.until(lambda: (waiting(large), waiting(modest)) == (20_000, 3_000))
    for each in (large, modest):
        each.transport.resumeProducing()
    await bench.until(lambda: len(large.data) == 20_000)
    assert order[:6].count("modest") == 3
    peers[0].sendall(b"x" * 2_000)
    large.on_data = lambda end: end.transport.pauseProducing()
    await bench.until(lambda: len(large.data) == 21_000)
    await bench.turns()
    assert len(large.data) == 21_000


@test
async def test_the_end_of_the_stream_closes_or_half_closes(bench: Bench) -> None:
    """
    When the peer half-closes, a plain protocol is lost, and a half-closeable one can still reply; both get the last
    bytes.
    """
    plain, half = Noting(), HalfClosing()
    for each in (plain, half):
        peer = await bench.meet(each)
        peer.sendall(b"last")
        peer.shutdown(socket.SHUT_WR)
    await bench.until(lambda: plain.reason and "read lost" in half.notes)
    assert plain.reason.check(ConnectionDone)
    assert plain.data == half.data == b"last"
    half.transport.write(b"answer")
    half.transport.loseConnection()
    assert await bench.read(peer, 100) == b"answer"
    assert half.notes == ["made", "read lost", "lost"]


# Faults --------------------------------------------------------------------------------------------------------------


@test
async def test_an_exception_of_the_protocol_is_logged_and_is_the_reason(bench: Bench, logged_errors: Any) -> None:
    """An exception in `dataReceived` is logged once and is the reason of the loss; another connection goes on."""
    server, other = Noting(), Noting()
    server.on_data = lambda _: 1 / 0
    peer, neighbour = await bench.meet(server), await bench.meet(other)
    peer.sendall(b"x")
    await bench.until(lambda: server.reason)
    assert server.reason.check(ZeroDivisionError)
    assert len(logged_errors.take(ZeroDivisionError)) == 1
    neighbour.sendall(b"well?")
    await bench.until(lambda: other.data == b"well?")


@pytest.mark.parametrize("way", ["data", "end", "write"])
@test
async def test_an_exception_of_connection_lost_is_logged(bench: Bench, logged_errors: Any, way: str) -> None:
    """An exception in `connectionLost` is logged, for each way in which the connection ends."""
    server = Noting()
    server.on_lost = lambda _: 1 / 0
    server.on_data = lambda _: {}["absent"] if way == "data" else None
    peer = await bench.meet(server)
    peer.sendall(b"x")
    await bench.until(lambda: server.data)
    if way == "end":
        peer.shutdown(socket.SHUT_WR)
    elif way == "write":
        server.transport.loseConnection()
    await bench.until(lambda: server.reason)
    assert len(logged_errors.take(ZeroDivisionError)) == 1
    logged_errors.take(KeyError)


@test
async def test_a_producer_that_raises_ends_its_connection(bench: Bench, logged_errors: Any) -> None:
    """A pull producer that raises ends its connection with that exception, after the bytes that were written."""
    server = Noting()
    peer = await bench.meet(server)
    server.resumeProducing = lambda: 1 / 0  # type: ignore[method-assign]
    server.transport.producer, server.transport.streamingProducer = server, False
    server.transport.write(b"x")
    await bench.until(lambda: server.reason)
    assert server.reason.check(ZeroDivisionError)
    assert len(logged_errors.take(ZeroDivisionError)) == 1
    assert await bench.read(peer, 5) == b"x"


@test
async def test_a_reset_is_a_lost_connection(bench: Bench) -> None:
    """When the peer resets the connection, the reason is `ConnectionLost`."""
    server = Noting()
    peer = await bench.meet(server)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await bench.until(lambda: server.reason)
    assert server.reason.check(ConnectionLost)


@pytest.mark.parametrize("more", [b"", b"a last word"])
@test
async def test_a_peer_that_closed_and_reads_no_reply_has_closed(bench: Bench, more: bytes) -> None:
    """
    When a write to a closed peer fails, one read more comes before the loss, as in Twisted. The end gives
    `ConnectionDone`.
    """
    server = Noting()
    server.on_data = lambda end: end.transport.write(b"reply")
    server.on_made = lambda end: setattr(end.transport, "bufferSize", 4)
    peer = await bench.meet(server, unix=True)
    peer.sendall(b"last" + more)
    peer.close()
    await bench.until(lambda: server.reason)
    assert server.reason.check(ConnectionLost if more else ConnectionDone)
    assert server.data == b"last" + more[:4]


@test
async def test_a_failed_write_ends_a_half_closed_connection(bench: Bench) -> None:
    """A half-closed connection whose write fails is lost after `readConnectionLost`."""
    server = HalfClosing()
    server.on_data = lambda end: end.transport.write(b"reply")
    peer = await bench.meet(server, unix=True)
    peer.sendall(b"last")
    peer.close()
    await bench.until(lambda: server.reason)
    assert server.notes == ["made", "read lost", "lost"]


# Logging -------------------------------------------------------------------------------------------------------------


@test
async def test_the_logging_context_names_the_connection(bench: Bench) -> None:
    """
    In `dataReceived` and `connectionLost` the logging context names the protocol, the session and the peer, and not
    afterwards.
    """
    server = Noting()
    systems: list[str] = []
    server.on_data = lambda _: systems.append(context.get(log.ILogContext)["system"])
    server.on_lost = server.on_data
    peer = await bench.meet(server)
    peer.sendall(b"x")
    await bench.until(lambda: systems)
    peer.close()
    await bench.until(lambda: server.reason)
    assert systems == ["Noting,0,127.0.0.1"] * 2
    assert context.get(log.ILogContext)["system"] == "-"


@test
async def test_the_logging_context_keeps_an_outer_context(bench: Bench) -> None:
    """Inside another logging context, the context of the connection is added, and the other values stay."""
    server = Noting()
    seen: list[Any] = []
    server.on_data = lambda _: seen.append((context.get("mine"), context.get(log.ILogContext)["system"]))
    await bench.meet(server)
    await bench.turns()
    context.call({"mine": 7}, server.transport._read, b"x")
    assert seen == [(7, "Noting,0,127.0.0.1")]


@pytest.mark.parametrize("way", ["write", "close", "raise"])
@test
async def test_actions_of_a_protocol_inside_another_context_apply(bench: Bench, logged_errors: Any, way: str) -> None:
    """Inside another context a protocol can write, close and raise as elsewhere."""
    server = Noting()
    peer = await bench.meet(server)

    def act(end: Any) -> None:
        end.transport.write(b"hello")
        if way == "close":
            end.transport.loseConnection()
        elif way == "raise":
            raise KeyError

    server.on_data = act
    await bench.turns()
    context.call({"mine": 7}, server.transport._read, b"x")
    if way != "raise":
        assert await bench.read(peer, 5) == b"hello"
    if way != "write":
        await bench.until(lambda: server.reason)
        assert bool(server.reason.check(KeyError)) == (way == "raise")
        assert len(logged_errors.take(KeyError)) == (way == "raise")


# Writing -------------------------------------------------------------------------------------------------------------


@test
async def test_all_written_bytes_arrive_in_order(bench: Bench) -> None:
    """
    Megabytes to a slow peer arrive in order: bytes that the kernel does not take wait, and none is lost or doubled.
    """
    server = Noting()
    peer = await bench.meet(server)
    pieces = [bytes([number % 251]) * 100_000 for number in range(60)]
    for number, piece in enumerate(pieces):
        server.transport.write(piece)
        if number % 7 == 0:
            await bench.turns(1)
    assert await bench.read(peer, 6_000_000) == b"".join(pieces)


@test
async def test_only_bytes_can_be_written(bench: Bench) -> None:
    """`write` raises `TypeError` for text, and an empty write does not make the transport a writer."""
    server = Noting()
    await bench.meet(server)
    await bench.turns(3)
    with pytest.raises(TypeError):
        server.transport.write("text")
    server.transport.write(b"")
    assert server.transport.doWrite() is None
    assert server.transport not in bench.reactor.getWriters()


@test
async def test_a_push_producer_is_paused_and_resumed(bench: Bench) -> None:
    """A push producer is paused by more than 64 KiB in a turn, and resumed from the loop when all bytes are sent."""
    server = Noting()
    peer = await bench.meet(server)
    server.transport.registerProducer(server, True)
    server.transport.write(b"x" * 70_000)
    assert server.notes == ["made", "paused"]
    await bench.until(lambda: server.notes == ["made", "paused", "resumed"])
    while not server.transport._blocked:  # until the kernel takes no more
        server.transport.write(b"x" * 60_000)
        await bench.turns(1)
    server.transport.write(b"x" * 60_000)
    server.transport.write(b"x" * 60_000)
    assert server.notes[-1] == "paused"
    assert server.transport in bench.reactor.getWriters()
    await drained(bench, peer, lambda: server.notes[-1] == "resumed")
    server.transport.unregisterProducer()


async def drained(bench: Bench, peer: socket.socket, true: Any) -> None:
    """Read all bytes of `peer` until `true()` holds."""

    def step() -> bool:
        with suppress(BlockingIOError):
            peer.recv(1 << 20)
        return bool(true())

    await bench.until(step)


@test
async def test_a_pull_producer_that_registers_after_a_write_is_resumed(bench: Bench) -> None:
    """A pull producer that registers after a write is asked until it has written everything."""
    server = Noting()
    peer = await bench.meet(server)
    left = [b"one", b"two", b"three"]

    def produce() -> None:
        server.transport.write(left.pop(0)) if left else server.transport.unregisterProducer()

    server.on_data = lambda end: end.transport.write(b"zero")
    peer.sendall(b"?")
    await bench.until(lambda: server.data)
    asked: list[int] = []
    server.resumeProducing = lambda: produce() if asked else asked.append(1)  # type: ignore[method-assign]
    server.transport.registerProducer(server, False)
    assert await bench.read(peer, 15) == b"zeroonetwothree"


@test
async def test_a_write_after_the_writing_side_is_closed_is_dropped(bench: Bench) -> None:
    """
    After `loseWriteConnection` writes are dropped, the peer's bytes still come, and `loseConnection` ends cleanly.
    """
    server = HalfClosing()
    peer = await bench.meet(server)
    server.transport.write(b"all")
    server.transport.loseWriteConnection()
    assert await bench.read(peer, 100) == b"all"
    await bench.until(lambda: "write lost" in server.notes)
    server.transport.write(b"more")
    peer.sendall(b"still heard")
    await bench.until(lambda: server.data == b"still heard")
    server.transport.registerProducer(server, False)
    server.transport.unregisterProducer()
    server.transport.loseConnection()
    assert server.reason.check(ConnectionDone)


# The end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "reason"), [("loseConnection", ConnectionDone), ("abortConnection", ConnectionAborted)]
)
@test
async def test_a_connection_can_end_in_connection_made(bench: Bench, way: str, reason: type[Exception]) -> None:
    """A connection that is closed in `connectionMade` sends its bytes; one that is aborted there resets."""
    server = Noting()
    server.on_made = lambda end: (end.transport.write(b"bye"), getattr(end.transport, way)())
    peer = await bench.meet(server)
    await bench.until(lambda: server.reason)
    assert server.reason.check(reason)
    if way == "loseConnection":
        assert await bench.read(peer, 100) == b"bye"
    else:
        with pytest.raises(ConnectionResetError):
            await bench.read(peer, 100)


@test
async def test_an_abort_drops_unwritten_bytes(bench: Bench) -> None:
    """`abortConnection`, called once or twice, drops unwritten and later bytes, and the peer gets a reset."""
    server = Noting()
    peer = await bench.meet(server)
    await bench.turns()
    server.transport.write(b"never sent")
    server.transport.abortConnection()
    server.transport.abortConnection()
    server.transport.write(b"nor this")
    with pytest.raises(ConnectionResetError):
        await bench.read(peer, 100)
    assert server.reason.check(ConnectionAborted)


@test
async def test_a_close_waits_for_a_reader_that_is_slow(bench: Bench) -> None:
    """`loseConnection` waits until a slow peer has read all bytes."""
    server = Noting()
    peer = await bench.meet(server)
    server.transport.write(b"x" * 8_000_000)
    server.transport.loseConnection()
    await bench.turns()
    assert server.reason is None
    assert len(await bench.read(peer, 9_000_000)) == 8_000_000
    await bench.until(lambda: server.reason)
    assert server.reason.check(ConnectionDone)


@test
async def test_a_connection_is_not_lost_inside_lose_connection(bench: Bench) -> None:
    """`connectionLost` is called after `loseConnection` has returned."""
    server = Noting()
    during: list[bool] = []

    def close(end: Any) -> None:
        end.transport.loseConnection()
        during.append(end.reason is None)

    server.on_data = close
    peer = await bench.meet(server)
    peer.sendall(b"x")
    await bench.until(lambda: server.reason)
    assert during == [True]


@test
async def test_stop_writing_while_the_kernel_is_full_loses_no_byte(bench: Bench) -> None:
    """`stopWriting` while the kernel takes no more loses no byte, and the connection can be closed afterwards."""
    server = Noting()
    peer = await bench.meet(server)
    server.transport.write(b"x" * 8_000_000)
    await bench.until(lambda: server.transport._blocked)
    server.transport.stopWriting()
    assert len(await bench.read(peer, 8_000_000)) == 8_000_000
    await bench.until(lambda: not server.transport._blocked)
    server.transport.loseConnection()
    await bench.until(lambda: server.reason)


# How uvloop reads less at once ---------------------------------------------------------------------------------------


@test
async def test_a_connection_with_small_reads_is_written_and_half_closed_as_others(bench: Bench) -> None:
    """A connection with a small `bufferSize` also gets pauses and resumes of writing, the half-close and the end."""
    server = HalfClosing()
    server.on_made = lambda end: setattr(end.transport, "bufferSize", 1000)
    peer = await bench.meet(server)
    await bench.turns()
    assert isinstance(server.transport._stream.get_protocol(), SmallReads)
    server.transport.write(b"x" * 8_000_000)
    await bench.until(lambda: server.transport._blocked)
    peer.shutdown(socket.SHUT_WR)
    await bench.until(lambda: "read lost" in server.notes)
    assert len(await bench.read(peer, 8_000_000)) == 8_000_000
    server.transport.abortConnection()
    await bench.until(lambda: server.reason)
