"""A connection that a program takes off the reactor and puts back, while its socket can have another user."""

from __future__ import annotations

import gc
import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import process
from twisted.internet.error import ConnectionFdescWentAway, ConnectionLost
from twisted.python.failure import Failure

from tcpapp.reactor.connections import Connections
from tests.patience import PATIENCE
from tests.reactor.conftest import Bench, Noting, Watcher, connected, go_round, has_come, in_another_thread, tcp_pair

test = pytest_twisted.ensureDeferred
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])


def rounds(reactor: Any, count: int = 5) -> None:
    """Run this many rounds of the reactor."""
    for _ in range(count):
        reactor.iterate()


# Taken off the reactor, and put back ----------------------------------------------------------------------------------


@FAMILIES
def test_bytes_that_come_while_a_connection_is_off_are_read_when_it_is_back(either: Any, family: int) -> None:
    """Bytes that arrive while a connection is off the reactor are delivered after it is put back."""

    def drive() -> None:
        server, peer = connected(either, family=family)
        with peer:
            either.removeReader(server.transport)
            assert server.transport not in either.getReaders()
            peer.sendall(b"first")
            rounds(either)
            assert server.data == b""
            either.addReader(server.transport)
            assert server.transport in either.getReaders()
            go_round(either, lambda: server.data == b"first")
            peer.sendall(b" second")
            go_round(either, lambda: server.data == b"first second")

    in_another_thread(drive)


def test_an_end_that_comes_while_a_connection_is_off_is_delivered_when_it_is_back(either: Any) -> None:
    """
    If the peer closes while a connection is off the reactor, its last bytes and its end are delivered after it is put
    back.
    """

    def drive() -> None:
        server, peer = connected(either)
        either.removeReader(server.transport)
        peer.sendall(b"last")
        peer.close()
        rounds(either)
        assert server.notes == ["made"]
        either.addReader(server.transport)
        go_round(either, lambda: server.notes == ["made", "lost"])
        assert server.data == b"last"

    in_another_thread(drive)


def test_bytes_written_while_the_writer_is_off_are_sent_when_it_is_back(either: Any) -> None:
    """Bytes that are written before `removeWriter` wait until `addWriter`, and then are sent."""

    def drive() -> None:
        server, peer = connected(either)
        with peer:
            server.transport.write(b"held")
            assert server.transport in either.getWriters()
            either.removeWriter(server.transport)
            assert server.transport not in either.getWriters()
            rounds(either)
            assert has_come(peer) is None
            either.addWriter(server.transport)
            assert server.transport in either.getWriters()
            go_round(either, lambda: has_come(peer) == b"held")
            assert server.transport not in either.getWriters()

    in_another_thread(drive)


def test_the_methods_of_the_transport_put_a_connection_back(either: Any) -> None:
    """`write`, `resumeProducing` and `loseConnection` work on a transport that was taken off the reactor."""

    def drive() -> None:
        server, peer = connected(either)
        with peer:
            either.removeReader(server.transport)
            either.removeWriter(server.transport)
            server.transport.write(b"x")
            go_round(either, lambda: has_come(peer) == b"x")
            peer.sendall(b"y")
            server.transport.resumeProducing()
            go_round(either, lambda: server.data == b"y")
            server.transport.loseConnection()
            go_round(either, lambda: server.reason)
            assert peer.recv(1) == b""

    in_another_thread(drive)


def test_remove_all_takes_off_all_connections(either: Any) -> None:
    """`removeAll` returns each connection and takes it off the reactor; `addReader` puts it back."""

    def drive() -> None:
        server, peer = connected(either)
        with peer:
            assert server.transport in either.removeAll()
            assert server.transport not in [*either.getReaders(), *either.getWriters()]
            peer.sendall(b"x")
            rounds(either)
            assert server.data == b""
            either.addReader(server.transport)
            go_round(either, lambda: server.data == b"x")

    in_another_thread(drive)


def test_disconnect_all_ends_all_connections_that_are_read_or_written(either: Any) -> None:
    """`disconnectAll` ends connections that are read or have unwritten bytes; a paused connection without any stays."""

    def drive() -> None:
        read, peer = connected(either)
        written, other_peer = connected(either)
        quiet, third = connected(either)
        written.transport.pauseProducing()
        written.transport.write(b"x")
        quiet.transport.pauseProducing()
        with peer, other_peer, third:
            either.disconnectAll()
            rounds(either)
            assert [each.notes[-1] for each in (read, written, quiet)] == ["lost", "lost", "made"]
            for each in (peer, other_peer):
                each.settimeout(PATIENCE)
                assert each.recv(1) == b""
            quiet.transport.abortConnection()

    in_another_thread(drive)


def test_a_connection_that_ended_while_it_was_off_cannot_be_put_back(other: Any) -> None:
    """`addReader` does nothing for a connection that ended while it was off the reactor."""

    def drive() -> None:
        server, peer = connected(other)
        transport = server.transport
        with peer:
            other.removeReader(transport)
            transport.connectionLost(Failure(ConnectionLost()))
            rounds(other)
            other.addReader(transport)
            assert transport not in other.getReaders()

    in_another_thread(drive)


def test_a_connection_with_a_closed_descriptor_is_not_held(other: Any) -> None:
    """
    For a connection with a closed descriptor, `has_begun` raises `OSError`, and the reactor does not hold the
    connection.
    """
    stream = SimpleNamespace(fileno=lambda: closed, _is_lent=False)
    with socket.socket() as skt:
        closed = skt.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        other.has_begun(stream)
    assert list(other.connections) == []


# Other users of its socket --------------------------------------------------------------------------------------------


@FAMILIES
def test_a_program_takes_a_connection_over(either: Any, family: int) -> None:
    """Inside `dataReceived` a program takes the transport off, and reads the socket by a reader of its own."""

    def drive() -> None:
        server, peer = connected(either, family=family)
        skt = server.transport.getHandle()
        mine = Watcher(skt.fileno, lambda: skt.recv(100))

        def take_over(protocol: Any) -> None:
            either.removeReader(protocol.transport)
            either.addReader(mine)

        server.on_data = take_over
        with peer:
            peer.sendall(b"hello")
            go_round(either, lambda: server.data)
            peer.sendall(b"mine")
            go_round(either, lambda: mine.notes)
            assert (bytes(server.data), mine.notes) == (b"hello", [b"mine"])
            assert mine in either.getReaders()
            either.removeReader(mine)
            either.addReader(server.transport)
            peer.sendall(b" again")
            go_round(either, lambda: server.data == b"hello again")

    in_another_thread(drive)


def test_a_paused_connection_is_watched_by_a_writer_and_a_reader_of_the_programs_own(either: Any) -> None:
    """
    While a connection is paused, a program's own writer and reader use its socket; then the connection reads again.
    """

    def drive() -> None:
        server, peer = connected(either)
        skt = server.transport.getHandle()
        server.transport.pauseProducing()
        mine = Watcher(server.transport.fileno, lambda: (skt.recv(100), either.removeReader(mine))[0])
        mine.on_write = lambda: (skt.send(b"direct"), either.removeWriter(mine))[1]
        with peer:
            either.addWriter(mine)
            go_round(either, lambda: has_come(peer) == b"direct")
            either.addReader(mine)
            peer.sendall(b"one")
            go_round(either, lambda: mine.notes == ["can write", b"one"])
            server.transport.resumeProducing()
            peer.sendall(b"two")
            go_round(either, lambda: server.data == b"two")

    in_another_thread(drive)


def test_a_second_reader_or_writer_of_a_descriptor_is_ignored(either: Any) -> None:
    """The reactor ignores a reader or writer for a descriptor that has one already, as long as that one is there."""

    def drive() -> None:
        server, peer = connected(either)
        mine = Watcher(server.transport.fileno)
        with peer:
            either.addReader(mine)
            server.transport.write(b"x")
            either.addWriter(mine)
            peer.sendall(b"hello")
            go_round(either, lambda: server.data == b"hello")
            assert mine.notes == []
            server.transport.pauseProducing()
            either.addReader(mine)
            server.transport.resumeProducing()
            assert server.transport not in either.getReaders()
            assert mine in either.getReaders()

    in_another_thread(drive)


def test_the_end_of_a_connection_ends_all_other_use_of_its_socket(either: Any) -> None:
    """When a connection that is off the reactor is aborted, the program's own reader of its socket is removed, too."""

    def drive() -> None:
        server, peer = connected(either)
        mine = Watcher(server.transport.fileno)
        with peer:
            either.removeReader(server.transport)
            either.addReader(mine)
            server.transport.abortConnection()
            rounds(either)
            assert server.notes == ["made", "lost"]
            assert mine not in either.getReaders()

    in_another_thread(drive)


@pytest.mark.parametrize("again", ["read", "written", "closed"])
def test_a_connection_that_is_taken_off_as_it_is_made_is_left_alone(either: Any, again: str) -> None:
    """
    A connection that is taken off in `connectionMade` is not touched, as Twisted's inetd needs it; then it can be put
    back.
    """

    def take_off(protocol: Any) -> None:
        os.set_blocking(protocol.transport.fileno(), True)
        either.removeReader(protocol.transport)
        either.removeWriter(protocol.transport)

    def drive() -> None:
        server = Noting()
        server.on_made = take_off
        _, peer = connected(either, server)
        with peer:
            peer.sendall(b"hello")
            rounds(either)
            assert os.get_blocking(server.transport.fileno())
            assert server.notes == ["made"]
            os.set_blocking(server.transport.fileno(), False)
            if again == "read":
                either.addReader(server.transport)
                go_round(either, lambda: server.data == b"hello")
            elif again == "written":
                server.transport.write(b"reply")
                go_round(either, lambda: has_come(peer) == b"reply")
            else:
                server.transport.loseConnection()
                go_round(either, lambda: "lost" in server.notes)

    in_another_thread(drive)


# Connections without a reference --------------------------------------------------------------------------------------


def forget(reactor: Any, server: Any) -> None:
    """Take a connection off and drop its references. Reactors keep objects alive while they read and write them."""
    reactor.removeReader(server.transport)
    reactor.removeWriter(server.transport)
    server.transport.protocol = None
    server.transport = None


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_forgotten_connection_is_closed(either: Any) -> None:
    """A connection that is off the reactor is closed when nothing refers to it, without a call of `connectionLost`."""

    def drive() -> None:
        server, peer = connected(either)
        with peer:
            forget(either, server)
            gc.collect()
            rounds(either)
            peer.settimeout(PATIENCE)
            assert peer.recv(1) == b""
            assert server.notes == ["made"]

    in_another_thread(drive)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_that_is_forgotten_as_it_is_made_is_closed(either: Any) -> None:
    """A connection whose references are dropped in `connectionMade` is closed."""

    def drive() -> None:
        server = Noting()
        server.on_made = lambda end: forget(either, end)
        _, peer = connected(either, server)
        with peer:
            rounds(either)
            gc.collect()
            rounds(either)
            peer.settimeout(PATIENCE)
            assert peer.recv(1) == b""

    in_another_thread(drive)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_socket_of_a_forgotten_connection_stays_open_for_its_reader(either: Any) -> None:
    """The socket of a forgotten connection stays open while the program holds it, and can be read and written."""

    def drive() -> None:
        server, peer = connected(either)
        skt = server.transport.getHandle()
        mine = Watcher(skt.fileno, lambda: skt.recv(100))
        with peer, skt:
            forget(either, server)
            either.addReader(mine)
            gc.collect()
            rounds(either)
            peer.sendall(b"hello")
            go_round(either, lambda: mine.notes == [b"hello"])
            skt.sendall(b"reply")
            assert peer.recv(100) == b"reply"
            either.removeReader(mine)
            peer.sendall(b"x")
            rounds(either)
            assert mine.notes == [b"hello"]

    in_another_thread(drive)


def test_a_forgotten_connection_with_a_closed_socket_raises_nothing(other: Any) -> None:
    """
    If the program has closed the socket of a forgotten connection, the reactor drops the connection without an error.
    """

    def drive() -> None:
        server, peer = connected(other)
        with peer:
            other.connections._nobody_holds(*lent(other, server), None)
            other.connections.discard(server.transport)

    def lent(reactor: Any, server: Any) -> tuple[int, socket.socket]:
        reactor.removeReader(server.transport)
        with socket.socket() as skt:
            return server.transport.fileno(), skt

    in_another_thread(drive)


# Closed descriptors ---------------------------------------------------------------------------------------------------


def test_a_connection_whose_descriptor_the_program_has_closed_cannot_be_read(either: Any) -> None:
    """When the program has closed the descriptor, `resumeProducing` raises an error, and the process goes on."""

    def drive() -> None:
        server, peer = connected(either)
        with peer:
            server.transport.pauseProducing()
            descriptor = server.transport.fileno()
            os.close(descriptor)
            with pytest.raises(OSError, match="Bad file descriptor"):
                server.transport.resumeProducing()
            rounds(either)
            os.dup2(peer.fileno(), descriptor)  # so that the later close finds an open descriptor

    in_another_thread(drive)


def test_a_connection_whose_descriptor_is_closed_in_connection_made_can_be_aborted(other: Any) -> None:
    """A connection whose descriptor is closed in `connectionMade` is no reader, and `abortConnection` ends it."""
    server = Noting()

    def close(protocol: Any) -> None:
        os.close(protocol.transport.fileno())

    def drive() -> None:
        server.on_made = close
        _, peer = connected(other, server)
        with peer:
            assert server.transport not in other.getReaders()
            server.transport.abortConnection()
            rounds(other)
            assert server.notes == ["made", "lost"]

    in_another_thread(drive)


def test_a_connection_can_reuse_the_number_of_a_closed_descriptor(other: Any) -> None:
    """
    When a connection has the number of an older one whose descriptor was closed, the older one is lost and the newer
    works.
    """

    def drive() -> None:
        server, peer = connected(other)
        descriptor = server.transport.fileno()
        ours, far = tcp_pair()
        os.dup2(ours.fileno(), descriptor)
        ours.close()
        newer = Noting()
        with peer, far, socket.socket(fileno=descriptor) as skt:
            skt.setblocking(False)
            newer_transport = adopt(other, skt, newer)
            go_round(other, lambda: server.reason)
            assert server.reason.check(ConnectionFdescWentAway)
            far.sendall(b"hello")
            go_round(other, lambda: newer.data == b"hello")
            newer_transport.write(b"reply")
            go_round(other, lambda: has_come(far) == b"reply")

    def adopt(reactor: Any, skt: socket.socket, protocol: Any) -> Any:
        """Make the transport as a port does, without the copy of an adopted connection."""
        from tcpapp.reactor.sockets import TCPServer

        transport = TCPServer(skt, protocol, ("127.0.0.1", 0), SimpleNamespace(_realPortNumber=0), 0, reactor)
        protocol.makeConnection(transport)
        return transport

    in_another_thread(drive)


def test_a_connection_whose_socket_was_detached_is_forgotten_after_its_end(other: Any) -> None:
    """An aborted connection whose socket the program has detached is no longer held, and its descriptor is closed."""

    def drive() -> None:
        server, peer = connected(other)
        copy = server.transport.getHandle().dup()
        with peer, copy:
            skt = server.transport.getHandle()
            descriptor = skt.detach()
            server.transport.abortConnection()
            rounds(other)
            assert list(other.connections) == []
            assert server.notes == ["made", "lost"]
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    in_another_thread(drive)


# Twisted's own inetd -------------------------------------------------------------------------------------------------


@test
async def test_the_processes_of_inetd_get_all_bytes(bench: Bench) -> None:
    """Twisted's inetd gives the socket to a process and takes the transport off; the process gets all bytes."""
    inetd = pytest.importorskip("twisted.runner.inetd")
    service = SimpleNamespace(user=os.getuid(), group=os.getgid(), program="/bin/cat", programArgs=["cat"])
    factory, made = inetd.InetdFactory(service), list[Any]()
    factory.protocol = lambda: made.append(inetd.InetdProtocol()) or made[-1]
    port = bench.reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        for _ in range(3):
            peer = bench.dial(port.getHost().port)
            peer.sendall(b"hello")
            assert await bench.read(peer, 5) == b"hello"
            peer.shutdown(socket.SHUT_WR)
        await bench.until(lambda: not process.reapProcessHandlers)
    finally:
        for each in made:
            each.transport.abortConnection()
        await port.stopListening()


def test_a_connection_that_uvloop_has_not_taken_loses_its_number_to_a_newer_one() -> None:
    """
    A newer connection with the same number takes the place of an older one that uvloop has not taken; that one is lost.
    """
    told: list[Any] = []
    older, newer = (SimpleNamespace(fileno=lambda: 5, _is_handed_over=False, _lose=object()) for _ in "12")
    connections = Connections(lambda call, *_: told.append(call))
    for each in (older, newer):
        connections.add(each)  # type: ignore[arg-type]  # the code under test needs no other attributes
    assert connections.get(5) is newer
    assert told == [older._lose]
