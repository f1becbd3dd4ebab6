"""Ports, connectors, and UNIX connections that pass descriptors."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import interfaces
from twisted.internet.address import IPv6Address
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionRefusedError,
    FileDescriptorOverrun,
    UserError,
)
from twisted.internet.protocol import ClientFactory, Factory
from twisted.python import sendmsg
from zope.interface import implementer

from tcpapp.reactor.sockets import TCPClientStream, UNIXClientStream, UNIXServer
from tcpapp.reactor.stream import Stream
from tests.reactor.conftest import PATIENCE, Bench, Noting

test = pytest_twisted.ensureDeferred
INODE = Path(__file__).stat().st_ino


def opened() -> Any:
    """Return an open file, whose descriptor is sent."""
    return Path(__file__).open("rb")


@implementer(interfaces.IFileDescriptorReceiver)
class Receiving(Noting):
    """A protocol that takes descriptors, and notes their inodes."""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.notes.append(f"descriptor of {os.fstat(descriptor).st_ino}")
        os.close(descriptor)


class Once(ClientFactory):
    """A factory that makes one protocol, or none, and notes the result of the attempt."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self.made = protocol
        self.failed: Any = None
        self.lost: Any = None

    def buildProtocol(self, addr: object) -> Any:
        return self.made

    def clientConnectionFailed(self, connector: object, reason: Any) -> None:
        self.failed = reason

    def clientConnectionLost(self, connector: object, reason: Any) -> None:
        self.lost = reason


# Clients -------------------------------------------------------------------------------------------------------------


@test
async def test_clients_have_stream_transports(bench: Bench) -> None:
    """A TCP client and a UNIX client have stream transports, exchange bytes, and end cleanly by `disconnect`."""
    for unix_socket, kind in ((False, TCPClientStream), (True, UNIXClientStream)):
        server, client = Noting(), Noting()
        server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
        where = bench.serving(server, unix=unix_socket)
        factory = Once(client)
        connector = (
            bench.reactor.connectUNIX(where, factory)
            if unix_socket
            else bench.reactor.connectTCP("127.0.0.1", where, factory)
        )
        await bench.until(lambda client=client: client.notes)
        assert isinstance(client.transport, kind)
        client.transport.write(b"hello")
        await bench.until(lambda client=client: client.data == b"HELLO")
        connector.disconnect()
        await bench.until(lambda factory=factory, server=server: factory.lost and server.reason)
        assert client.reason.check(ConnectionDone)
        assert factory.lost.check(ConnectionDone)


@test
async def test_a_refused_client_fails(bench: Bench) -> None:
    """A client whose connection is refused gets `ConnectionRefusedError`."""
    factory = Once(Noting())
    free = bench.keep(socket.socket())
    free.bind(("127.0.0.1", 0))
    bench.reactor.connectTCP("127.0.0.1", free.getsockname()[1], factory)
    await bench.until(lambda: factory.failed)
    assert factory.failed.check(ConnectionRefusedError)


@test
async def test_a_client_whose_factory_makes_no_protocol_is_closed(bench: Bench) -> None:
    """A client whose factory returns no protocol is closed, and the server gets `ConnectionDone`."""
    server = Noting()
    factory = Once(None)
    bench.reactor.connectTCP("127.0.0.1", bench.serving(server), factory)
    await bench.until(lambda: factory.lost and server.reason)
    assert server.reason.check(ConnectionDone)


@test
async def test_options_of_clients_and_adopted_sockets_stay(bench: Bench) -> None:
    """
    uvloop turns Nagle's algorithm off by itself. The reactor leaves it as it was, for clients and adopted sockets.
    """
    factory: Any = Factory()
    client, left, told = Noting(), Noting(), Noting()
    bench.reactor.connectTCP("127.0.0.1", bench.serving(Noting()), Once(client))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for each in (left, told):
            factory.buildProtocol = lambda _, each=each: each
            bench.dial(listening.getsockname()[1])
            accepted, _ = listening.accept()
            with accepted:
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, each is told)
                bench.reactor.adoptStreamConnection(accepted.fileno(), socket.AF_INET, factory)
    await bench.until(lambda: client.notes and left.notes and told.notes)
    await bench.turns()
    assert [each.transport.getTcpNoDelay() for each in (client, left, told)] == [False, False, True]
    for each in (client, left, told):
        each.transport.abortConnection()
    await bench.until(lambda: client.reason and left.reason and told.reason)


# Descriptors ---------------------------------------------------------------------------------------------------------


@test
async def test_descriptors_pass_between_bytes(bench: Bench) -> None:
    """
    A UNIX connection passes a descriptor between the bytes before and after it.

    A protocol that receives descriptors has a transport of Twisted from the start. A connection that sends one changes
    to such a transport then.
    """
    server, client = Noting(), Receiving()
    where = bench.serving(server, unix=True)
    bench.reactor.connectUNIX(where, Once(client))
    await bench.until(lambda: client.notes and server.notes)
    assert not isinstance(client.transport, Stream)
    assert isinstance(server.transport, UNIXServer)
    server.transport.write(b"before ")
    await bench.until(lambda: client.data == b"before ")
    with opened() as file:
        server.transport.sendFileDescriptor(file.fileno())
        server.transport.write(b"after")
        await bench.until(lambda: client.data == b"before after")
        assert client.notes == ["made", f"descriptor of {os.fstat(file.fileno()).st_ino}"]
    client.transport.write(b"thanks")
    await bench.until(lambda: server.data == b"thanks")
    server.transport.loseConnection()
    await bench.until(lambda: server.reason and client.reason)


@test
async def test_a_client_can_send_descriptors_to_a_server_that_takes_them(bench: Bench) -> None:
    """A client can send a descriptor to a server, also while the client is paused."""
    server, client = Receiving(), Noting()
    bench.reactor.connectUNIX(bench.serving(server, unix=True), Once(client))
    await bench.until(lambda: client.notes and server.notes)
    client.transport.pauseProducing()
    with opened() as file:
        client.transport.sendFileDescriptor(file.fileno())
        client.transport.write(b"x")
        await bench.until(lambda: server.data == b"x")
    assert server.notes == ["made", f"descriptor of {INODE}"]
    client.transport.abortConnection()
    await bench.until(lambda: client.reason and server.reason)


@test
async def test_many_descriptors_pause_a_producer(bench: Bench) -> None:
    """More than 64 descriptors that wait pause a producer, and it is resumed when all were sent."""
    server = Noting()
    peer = await bench.meet(server, unix=True)
    server.transport.registerProducer(server, True)
    for _ in range(65):
        server.transport.sendFileDescriptor(peer.fileno())
    assert server.notes == ["made", "paused"]
    server.transport.write(b"x" * 65)
    got: list[int] = []

    def step() -> bool:
        with suppress(BlockingIOError):
            for _, _, descriptors in sendmsg.recvmsg(peer, 1)[1]:
                got.append(int.from_bytes(descriptors, "little"))
        return len(got) == 65

    await bench.until(step)
    for each in got:
        os.close(each)
    await bench.until(lambda: server.notes[-1] == "resumed")
    server.transport.unregisterProducer()


@test
async def test_more_descriptors_than_bytes_end_the_connection(bench: Bench) -> None:
    """A connection that closes with descriptors but without a byte to send them ends with `FileDescriptorOverrun`."""
    server = Noting()
    peer = await bench.meet(server, unix=True)
    server.transport.sendFileDescriptor(peer.fileno())
    server.transport.loseConnection()
    await bench.until(lambda: server.reason)
    assert server.reason.check(FileDescriptorOverrun)


@test
async def test_a_connection_handed_over_while_the_kernel_is_full_loses_nothing(bench: Bench) -> None:
    """
    A descriptor can be sent while bytes wait for the kernel; all bytes arrive in order, and the connection reads on.
    """
    server = Noting()
    peer = await bench.meet(server, unix=True)
    server.transport.write(b"a" * 3_000_000)
    await bench.until(lambda: server.transport._blocked)
    server.transport.sendFileDescriptor(peer.fileno())
    server.transport.write(b"b" * 10)
    assert await bench.read(peer, 3_000_010) == b"a" * 3_000_000 + b"b" * 10
    peer.sendall(b"reply")
    await bench.until(lambda: server.data == b"reply")


# Adopted sockets ------------------------------------------------------------------------------------------------------


@test
async def test_a_socket_that_listens_is_adopted(bench: Bench) -> None:
    """A listening TCP or UNIX socket can be adopted as a port, which accepts and serves clients."""
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, str(bench.folder / "adopted"))):
        listening = bench.keep(socket.socket(family))
        listening.bind(address)
        listening.listen()
        listening.setblocking(False)
        server = Noting()
        factory: Any = Factory()
        factory.buildProtocol = lambda _, server=server: server
        port = bench.reactor.adoptStreamPort(listening.fileno(), family, factory)
        where = listening.getsockname()
        bench.dial(where if family == socket.AF_UNIX else where[1]).sendall(b"hello")
        await bench.until(lambda server=server: server.data == b"hello")
        await port.stopListening()
        server.transport.abortConnection()


@test
async def test_a_connection_is_adopted(bench: Bench) -> None:
    """A connected UNIX or TCP socket can be adopted, and its bytes are delivered."""
    for here, there in (socket.socketpair(), tcp_pair()):
        server = Noting()
        factory: Any = Factory()
        factory.buildProtocol = lambda _, server=server: server
        here.setblocking(False)
        bench.reactor.adoptStreamConnection(here.fileno(), here.family, factory)
        here.close()
        bench.keep(there).sendall(b"hello")
        await bench.until(lambda server=server: server.data == b"hello")
        server.transport.abortConnection()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        return listening.accept()[0], one


# Accepting, and opening -----------------------------------------------------------------------------------------------


def listening_with(build: Any) -> Any:
    """Return a factory that makes its protocols by `build`."""
    factory: Any = Factory()
    factory.noisy = False
    factory.buildProtocol = build
    return factory


@test
async def test_waiting_clients_are_accepted_in_order(bench: Bench) -> None:
    """Clients that wait are accepted in the order in which they connected."""
    servers = [Noting() for _ in range(50)]
    where = bench.serving(*servers)
    for _ in servers:
        bench.dial(where)
    await bench.until(lambda: all(each.notes for each in servers))
    assert [each.transport.sessionno for each in servers] == list(range(50))


@test
async def test_a_port_accepts_more_in_a_turn_when_it_was_full(bench: Bench) -> None:
    """
    A port raises its `numberAccepts` by 20 after a turn that used all of it, and lowers it when fewer clients wait.
    """
    servers = [Noting() for _ in range(4)]
    where = bench.serving(*servers)
    port = bench.listening
    port.numberAccepts = 2
    for _ in servers[:2]:
        bench.dial(where)
    port.doRead()
    assert port.numberAccepts == 22
    bench.dial(where)
    port.doRead()
    assert port.numberAccepts == 1
    bench.dial(where)
    await bench.until(lambda: servers[3].notes)


@test
async def test_a_client_without_a_protocol_is_closed(bench: Bench) -> None:
    """The server closes a client for which the factory returns no protocol."""
    port = bench.reactor.listenTCP(0, listening_with(lambda _: None), interface="127.0.0.1")
    peer = bench.dial(port.getHost().port)
    assert await bench.read(peer, 1) == b""
    await port.stopListening()


@test
async def test_a_factory_that_raises_is_logged_and_the_next_client_accepted(bench: Bench, logged_errors: Any) -> None:
    """When the factory raises for a client, the exception is logged, and the next client is accepted."""
    server = Noting()
    made = iter([None, server])

    def build(_: object) -> Any:
        return next(made) or 1 / 0

    port = bench.reactor.listenTCP(0, listening_with(build), interface="127.0.0.1")
    bench.dial(port.getHost().port)
    bench.dial(port.getHost().port)
    await bench.until(lambda: server.notes)
    assert len(logged_errors.take(ZeroDivisionError)) == 1
    await port.stopListening()
    server.transport.abortConnection()


@test
async def test_errors_of_accept_are_handled_by_twisted(bench: Bench) -> None:
    """When `accept` fails for one client, here by a firewall rule, Twisted's code accepts the next one."""
    server = Noting()
    where = bench.serving(server)
    port = bench.listening

    class Refusing:
        def __init__(self) -> None:
            self.refused = 0
            self.socket = port.socket

        def accept(self) -> Any:
            self.refused += 1
            if self.refused < 3:
                raise PermissionError(errno.EPERM, "refused")
            return self.socket.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.socket, name)

    port.socket = refusing = Refusing()
    bench.dial(where)
    await bench.until(lambda: server.notes)
    assert refusing.refused >= 3
    port.socket = refusing.socket


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6")
@test
async def test_a_client_by_ipv6_has_its_address(bench: Bench) -> None:
    """A client that connects over IPv6 has its `IPv6Address` as the peer."""
    server = Noting()
    try:
        port = bench.reactor.listenTCP(0, listening_with(lambda _: server), interface="::1")
    except CannotListenError:
        pytest.skip("there is no IPv6 here")
    peer = bench.keep(socket.create_connection(("::1", port.getHost().port)))
    await bench.until(lambda: server.notes)
    found = server.transport.getPeer()
    assert (type(found), found.host, found.port) == (IPv6Address, "::1", peer.getsockname()[1])
    await port.stopListening()
    server.transport.abortConnection()


@test
async def test_a_connection_that_is_open_by_the_next_turn_is_never_watched(bench: Bench) -> None:
    """A client whose connection is open in the next turn is never added as a writer."""
    server, client = Noting(), Noting()
    where = bench.serving(server)
    watched: list[Any] = []
    add_writer = bench.reactor.addWriter
    bench.reactor.addWriter = lambda writer: (watched.append(writer), add_writer(writer))
    try:
        bench.reactor.connectTCP("127.0.0.1", where, Once(client))
        await bench.until(lambda: client.notes and server.notes)
    finally:
        del bench.reactor.addWriter
    assert watched == []
    client.transport.abortConnection()


@test
async def test_a_connection_that_takes_longer_is_watched_until_it_is_open(bench: Bench) -> None:
    """When the server's backlog is full, the connecting socket is watched, until it is connected or given up."""
    listening = bench.keep(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    others = [bench.keep(socket.socket()) for _ in range(4)]
    for each in others:
        each.setblocking(False)
        each.connect_ex(listening.getsockname())
    client = Noting()
    factory = Once(client)
    connector = bench.reactor.connectTCP("127.0.0.1", listening.getsockname()[1], factory, timeout=PATIENCE)
    await bench.turns(5)
    transport = connector.transport
    assert (client.notes, transport._is_watched) == ([], True)
    connector.stopConnecting()
    await bench.turns(2)
    assert factory.failed.check(UserError)
    assert transport not in bench.reactor.getWriters()


@test
async def test_an_attempt_can_be_stopped_before_its_first_turn(bench: Bench) -> None:
    """`stopConnecting` before the first turn fails the attempt with `UserError`."""
    factory = Once(Noting())
    connector = bench.reactor.connectTCP("127.0.0.1", bench.serving(Noting()), factory)
    connector.stopConnecting()
    await bench.turns(3)
    assert factory.failed.check(UserError)


@test
async def test_an_attempt_can_be_stopped_in_its_first_turn(bench: Bench) -> None:
    """`stopConnecting` in the first turn fails the attempt with `UserError`, and cancels the check of its result."""
    factory = Once(Noting())
    connector = bench.reactor.connectTCP("127.0.0.1", bench.serving(Noting()), factory)
    transport = connector.transport
    bench.reactor.callLater(0, connector.stopConnecting)  # after connect(2), before its result is checked
    await bench.turns(3)
    assert factory.failed.check(UserError)
    assert not transport._next_try.active()


@test
async def test_a_client_protocol_that_raises_as_it_is_made_loses_its_connection(
    bench: Bench, logged_errors: Any
) -> None:
    """A client protocol that raises in `connectionMade` loses its connection with that exception."""
    server, client = Noting(), Noting()
    client.on_made = lambda _: 1 / 0
    factory = Once(client)
    bench.reactor.connectTCP("127.0.0.1", bench.serving(server), factory)
    await bench.until(lambda: factory.lost and server.reason)
    assert factory.lost.check(ZeroDivisionError)
    logged_errors.take(ZeroDivisionError)
