"""The reactor beyond its connections: readers and writers, its turns, and code of asyncio that runs beside Twisted."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost, UnsupportedAddressFamily
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutput
from twisted.python.failure import Failure

from tcpapp.reactor.loop import Loop
from tcpapp.reactor.uvloopreactor import UvloopReactor
from tests.reactor.conftest import (
    Bench,
    Noting,
    connected,
    end,
    go_round,
    has_come,
    in_another_thread,
    watched_both_ways,
)

test = pytest_twisted.ensureDeferred


# Readers and writers -------------------------------------------------------------------------------------------------


@test
async def test_a_connection_is_among_the_readers_and_the_writers(bench: Bench) -> None:
    """A connection is among the readers until it pauses, and among the writers while it has bytes to write."""
    server = Noting()
    await bench.meet(server)
    reactor, transport = bench.reactor, server.transport
    assert transport in reactor.getReaders()
    assert transport not in reactor.getWriters()
    transport.write(b"x")
    assert transport in reactor.getWriters()
    transport.pauseProducing()
    assert transport not in reactor.getReaders()
    await bench.turns(2)
    assert transport not in reactor.getWriters()


def test_remove_all_removes_readers_and_writers(other: Any) -> None:
    """`removeAll` removes and returns connections that are read, but no paused one. Unwritten bytes are not sent."""

    def drive() -> None:
        server, peer = connected(other)
        with peer:
            quiet, _peer = connected(other)
            quiet.transport.pauseProducing()
            server.transport.write(b"x")
            found = other.removeAll()
            assert server.transport in found
            assert quiet.transport not in found
            assert server.transport not in [*other.getReaders(), *other.getWriters()]
            other.iterate()
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            for each in (server, quiet):
                each.transport.connectionLost(Failure(ConnectionLost()))
            _peer.close()

    in_another_thread(drive)


def test_a_reactor_that_does_not_run_reads_answers_and_closes_when_driven(other: Any) -> None:
    """On a reactor that is driven by ``iterate()``, a connection reads, replies and closes."""

    def drive() -> None:
        server, peer = connected(other)
        server.on_data = lambda end: (end.transport.write(b"answer"), end.transport.loseConnection())
        with peer:
            peer.sendall(b"x")
            go_round(other, lambda: server.reason)
            assert peer.recv(100) == b"answer"
            assert peer.recv(100) == b""

    in_another_thread(drive)


def test_iterate_takes_a_time(other: Any) -> None:
    """``iterate(delay)`` takes a delay in seconds, and calls timers that are due."""

    def drive() -> list[str]:
        called: list[str] = []
        other.callLater(0, called.append, "called")
        other.iterate(0.001)
        go_round(other, lambda: called)
        return called

    assert in_another_thread(drive) == ["called"]


def test_an_earlier_stop_of_the_loop_does_not_end_run(other: Any) -> None:
    """`run` goes on until `reactor.stop`, even if the loop was stopped before."""

    def drive() -> list[str]:
        called: list[str] = []
        other._asyncioEventloop.call_soon(other._asyncioEventloop.stop)
        other._asyncioEventloop.call_soon(other._asyncioEventloop.stop)
        other.callLater(0.01, called.append, "called")
        other.callLater(0.02, other.stop)
        other.run(installSignalHandlers=False)
        return called

    assert in_another_thread(drive) == ["called"]


def test_a_stopped_reactor_closes_its_sockets(other: Any) -> None:
    """When the reactor stops, its connections are lost and the peers read the end of the stream."""

    def drive() -> bytes:
        server, peer = connected(other)
        other.callWhenRunning(other.stop)
        other.run(installSignalHandlers=False)
        with peer:
            assert server.reason.check(ConnectionLost)
            return peer.recv(10)

    assert in_another_thread(drive) == b""


def test_one_writer_that_raises_keeps_no_other_from_writing(other: Any, logged_errors: Any) -> None:
    """A writer that raises is logged, and the other connections still write."""

    def drive() -> None:
        server, peer = connected(other)
        bad, bad_peer = connected(other)
        with peer, bad_peer:
            bad.transport.writer_turn = lambda: 1 / 0
            bad.transport.write(b"x")
            server.transport.write(b"well")
            other.iterate()
            assert peer.recv(10) == b"well"
            for each in (server, bad):
                each.transport.connectionLost(Failure(ConnectionLost()))

    in_another_thread(drive)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_an_unknown_address_family_is_refused(global_reactor: Any) -> None:
    """`adoptStreamPort` and `adoptStreamConnection` refuse a socket of an unknown address family."""
    for adopt in (global_reactor.adoptStreamPort, global_reactor.adoptStreamConnection):
        with pytest.raises(UnsupportedAddressFamily):
            adopt(0, socket.AF_PACKET, Factory())


# Code that runs in it -------------------------------------------------------------------------------------------------


@test
async def test_libraries_of_asyncio_run_on_the_loop(bench: Bench) -> None:
    """A client of asyncio's streams exchanges bytes with a server of Twisted on one loop."""
    server = Noting()
    server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
    port = bench.serving(server)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        try:
            return await reader.readexactly(5)
        finally:
            writer.close()

    task = bench.reactor._asyncioEventloop.create_task(talk())
    assert await Deferred.fromFuture(task) == b"HELLO"
    await bench.until(lambda: server.reason)


def test_an_exception_in_the_loop_is_logged(other: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a callback of asyncio is logged."""

    def drive() -> None:
        other._asyncioEventloop.call_soon(lambda: 1 / 0)
        other.iterate()

    in_another_thread(drive)
    assert "ZeroDivisionError" in caplog.text


@test
async def test_processes_threads_timers_and_datagrams(bench: Bench) -> None:
    """Processes, threads, timers and datagrams work as on Twisted's own reactors."""
    reactor = bench.reactor
    assert await getProcessOutput(sys.executable, ["-c", "print('out')"], reactor=reactor) == b"out\n"
    assert await deferToThread(lambda: 7) == 7
    assert await deferLater(reactor, 0.001, lambda: "timed") == "timed"
    heard: Deferred[bytes] = Deferred()

    class Heard(DatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: object) -> None:
            heard.callback(datagram)

    port = reactor.listenUDP(0, Heard(), interface="127.0.0.1")
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"datagram", ("127.0.0.1", port.getHost().port))
        assert await heard == b"datagram"
    await port.stopListening()


# Without epoll --------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_epoll(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a reactor as on a system without epoll."""
    monkeypatch.delattr(select, "epoll", raising=False)
    reactor = UvloopReactor(Loop())
    yield reactor
    in_another_thread(lambda: end(reactor))


def test_without_epoll_descriptors_are_watched_by_the_loop(without_epoll: Any) -> None:
    """On a system without epoll, the loop watches descriptors with readers and writers."""
    reactor = without_epoll

    def drive() -> None:
        with watched_both_ways(reactor) as (both, peer):
            assert both in reactor.getReaders()
            assert both in reactor.getWriters()
            peer.send(b"x")
            go_round(reactor, lambda: sorted(map(str, both.notes)) == ["b'x'", "can write"])
            reactor.removeReader(both)
            assert both not in reactor.removeAll()

    in_another_thread(drive)


def test_without_epoll_connections_are_read_and_written(without_epoll: Any) -> None:
    """On a system without epoll, connections read and write, also in a nested ``iterate()``."""
    reactor = without_epoll

    def drive() -> None:
        server, peer = connected(reactor)
        server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
        with peer:
            reactor.removeReader(server.transport)
            reactor.addReader(server.transport)
            server.transport.pauseProducing()
            server.transport.resumeProducing()
            peer.sendall(b"x")

            def nested() -> None:
                go_round(reactor, lambda: server.data)

            reactor.callLater(0, nested)
            go_round(reactor, lambda: has_come(peer) == b"X")
            server.transport.abortConnection()

    in_another_thread(drive)
