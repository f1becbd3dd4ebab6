"""Listening ports, which the loop watches itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tcpapp.reactor.ports import WatchedPort
from tests.reactor.conftest import Bench, Noting, connected, go_round, in_another_thread

test = pytest_twisted.ensureDeferred


@test
async def test_clients_are_accepted_without_the_reactors_own_epoll(bench: Bench, monkeypatch: Any) -> None:
    """
    The loop watches ports itself, without the reactor's own epoll, which would be one system call more for each client.
    """
    dispatched: list[object] = []
    monkeypatch.setattr(bench.reactor.descriptors, "dispatch", lambda: dispatched.append(1))
    for unix in (False, True):
        server = Noting()
        peer = bench.dial(bench.serving(server, unix=unix))
        peer.send(b"hello")
        while server.data != b"hello":  # a timer uses no descriptor either
            await bench.turns(1)
    assert dispatched == []


@test
async def test_a_port_accepts_no_client_while_it_is_not_read_from(bench: Bench) -> None:
    """
    A port that stops reading is no reader and accepts no client, until it starts again. Both calls can be repeated.
    """
    server = Noting()
    where = bench.serving(server)
    port = bench.listening
    port.stopReading()
    port.stopReading()
    assert port not in bench.reactor.getReaders()
    bench.dial(where)
    await bench.turns()
    assert server.notes == []
    port.startReading()
    port.startReading()
    assert bench.reactor.getReaders().count(port) == 1
    await bench.until(lambda: server.notes)


def test_clients_are_accepted_inside_a_callback(either: Any) -> None:
    """A client is accepted in a nested ``iterate()``, also on a port that was opened inside the callback."""

    def drive() -> None:
        told: list[str] = []

        def inside() -> None:
            port = either.listenTCP(0, Factory.forProtocol(Noting), interface="127.0.0.1")
            port.factory.buildProtocol = lambda _: told.append("accepted")
            with socket.create_connection(port.socket.getsockname()):
                while not told:
                    either.iterate(0)
            port.stopListening()

        either.callLater(0, inside)
        go_round(either, lambda: told)
        assert told == ["accepted"]

    in_another_thread(drive)


def test_a_port_whose_end_fails_closes_its_descriptor(other: Any, tmp_path: Path) -> None:
    """
    When the file of a UNIX port was removed, `connectionLost` raises as Twisted's does, and the copied descriptor is
    closed.
    """

    def drive() -> None:
        port = other.listenUNIX(str(tmp_path / "socket"), Factory())
        (tmp_path / "socket").unlink()
        watched = port.watched()
        port.stopReading()
        with pytest.raises(FileNotFoundError):
            port.connectionLost(Failure(ConnectionLost()))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(watched)
        port.socket.close()  # Twisted leaves its own socket open

    in_another_thread(drive)


def test_a_port_that_never_listened_has_no_copy_to_close() -> None:
    """`connectionLost` of a port that was never watched only calls Twisted's method."""
    told: list[object] = []

    class Base:
        def connectionLost(self, reason: Any) -> None:
            told.append(reason)

    class Never(WatchedPort, Base):
        """A port that was not watched."""

    reason = Failure(ConnectionLost())
    Never().connectionLost(reason)
    assert told == [reason]


@pytest.mark.parametrize("how", ["by its socket", "by its descriptor"])
def test_the_number_of_a_port_that_the_program_has_closed_goes_to_a_connection(other: Any, how: str) -> None:
    """A connection that has the number of a closed port works, also after the port is taken off or lost."""

    def drive() -> None:
        port = other.listenTCP(0, Factory(), interface="127.0.0.1")
        descriptor = port.fileno()
        if how == "by its socket":
            port.socket.close()
        else:
            os.close(descriptor)
        server, peer = connected(other)
        while server.transport.fileno() != descriptor:  # the system gives the lowest that is free
            server, peer = connected(other)
        with peer:
            other.removeReader(port)
            peer.send(b"hello")
            go_round(other, lambda: server.data == b"hello")
            assert port not in other.getReaders()
        port.socket.detach()
        port.connectionLost(Failure(ConnectionLost()))

    in_another_thread(drive)


@pytest.mark.parametrize("when", ["in the same turn", "afterwards"])
def test_a_port_that_the_program_has_closed_is_lost(other: Any, when: str) -> None:
    """
    A port whose socket the program has closed is lost when the next client comes; libuv alone would end the process.
    """

    def drive() -> None:
        port = other.listenTCP(0, Factory(), interface="127.0.0.1")
        address = port.socket.getsockname()
        if when == "afterwards":
            other.iterate()
        port.socket.close()
        with socket.create_connection(address):
            go_round(other, lambda: port not in other.getReaders())

    in_another_thread(drive)


def test_a_port_whose_descriptor_was_closed_cannot_be_read(other: Any) -> None:
    """When the program has closed the descriptor of a port, `startReading` raises an error, and the process goes on."""

    def drive() -> None:
        port = other.listenTCP(0, Factory(), interface="127.0.0.1")
        port.stopReading()
        os.close(port.fileno())
        with pytest.raises(OSError, match="Bad file descriptor"):
            port.startReading()
        assert port not in other.getReaders()
        port.socket.detach()
        port.connectionLost(Failure(ConnectionLost()))

    in_another_thread(drive)
