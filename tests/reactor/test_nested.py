"""``iterate()`` inside a callback, and how long it lasts."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory
from twisted.python.failure import Failure

from tests.patience import PATIENCE
from tests.reactor.conftest import Noting, Watcher, connected, go_round, has_come, in_another_thread

LONG = PATIENCE / 2
"""Seconds that `iterate` gets as its delay, and that pass only if it waits too long."""


def inside(reactor: Any, call: Callable[[], object]) -> None:
    """Call `call` in a callback of the reactor, which runs only for that."""

    def drive() -> None:
        raised: list[BaseException] = []

        def begin() -> None:
            try:
                call()
            except BaseException as why:  # noqa: BLE001 - raised in the test
                raised.append(why)
            reactor.callLater(0, reactor.stop)

        reactor.callLater(0, begin)
        reactor.run(installSignalHandlers=False)
        if raised:
            raise raised[0]

    in_another_thread(drive)


# Inside a callback ---------------------------------------------------------------------------------------------------


def test_iterate_makes_timed_calls_and_calls_from_threads(either: Any) -> None:
    """In a nested ``iterate()``, timers that are due and calls from threads are called, threads first."""

    def nested() -> None:
        called: list[str] = []
        either.callLater(0, called.append, "timer")
        either.callFromThread(called.append, "thread")
        go_round(either, lambda: len(called) == 2)
        assert called == ["thread", "timer"]

    inside(either, nested)


def test_a_call_from_a_thread_ends_the_wait(either: Any) -> None:
    """A call from a thread ends the wait of a nested ``iterate(delay)`` before its delay."""

    def nested() -> None:
        called: list[str] = []
        begun = time.monotonic()
        thread = threading.Timer(0.01, either.callFromThread, [called.append, "thread"])
        thread.start()
        either.iterate(LONG)
        thread.join()
        either.callFromThread(called.append, "thread")
        either.iterate(LONG)
        go_round(either, lambda: called == ["thread"] * 2)
        assert time.monotonic() - begun < LONG

    inside(either, nested)


def test_iterate_can_be_nested_twice(either: Any) -> None:
    """A callback in a nested ``iterate()`` can call ``iterate()`` again."""

    def nested() -> None:
        called: list[str] = []
        either.callLater(0, lambda: (either.callLater(0, called.append, "deep"), go_round(either, lambda: called)))
        go_round(either, lambda: called)
        assert called == ["deep"]

    inside(either, nested)


def test_descriptors_are_read_and_written(either: Any) -> None:
    """A nested ``iterate()`` calls the readers and writers of descriptors."""
    reading, writing = os.pipe()

    def nested() -> None:
        reader = Watcher(lambda: reading, lambda: os.read(reading, 10))
        writer = Watcher(lambda: writing)
        writer.on_write = lambda: (os.write(writing, b"x"), either.removeWriter(writer))[1]
        either.addReader(reader)
        either.addWriter(writer)
        go_round(either, lambda: reader.notes)
        either.removeReader(reader)
        assert reader.notes == [b"x"]

    inside(either, nested)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_connections_read_answer_and_close(either: Any, family: int) -> None:
    """In a nested ``iterate()`` a new connection reads, replies and closes."""

    def nested() -> None:
        server, peer = connected(either, family=family)
        server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
        with peer:
            peer.sendall(b"hello")
            go_round(either, lambda: has_come(peer) == b"HELLO")
            server.on_data = lambda end: end.transport.loseConnection()
            peer.sendall(b"x")
            go_round(either, lambda: server.reason)
            assert peer.recv(1) == b""

    inside(either, nested)


def test_an_open_connection_is_served_inside_and_outside_of_iterate(either: Any) -> None:
    """
    A connection is served in a nested ``iterate()`` and after it, also when the callback is its own `dataReceived`.
    """
    server = Noting()
    peers: list[socket.socket] = []
    nested: list[bool] = []

    def received(end: Any) -> None:
        end.transport.write(b"<" + bytes(end.data[-1:]) + b">")
        if end.data == b"a":
            peers[0].sendall(b"b")
            go_round(either, lambda: end.data == b"ab")
            nested.append(True)
            end.transport.write(b"!")

    def drive() -> None:
        peers.append(connected(either, server)[1])
        server.on_data = received
        found = bytearray()
        with peers[0] as peer:
            peer.sendall(b"a")
            go_round(either, lambda: nested)
            go_round(either, lambda: found.extend(has_come(peer) or b"") or len(found) == 7)
            peer.sendall(b"c")
            go_round(either, lambda: found.extend(has_come(peer) or b"") or len(found) == 10)
        assert bytes(found) == b"<a><b>!<c>"
        go_round(either, lambda: server.reason)

    in_another_thread(drive)


def test_a_connection_is_opened_and_accepted(either: Any) -> None:
    """In a nested ``iterate()`` a client connects, the server accepts and replies, and both connections end."""

    def nested() -> None:
        server, client = Noting(), Noting()
        server.on_data = lambda end: end.transport.write(bytes(end.data).upper())
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: server
        clients: Any = ClientFactory()
        clients.noisy = False
        clients.buildProtocol = lambda _: client
        port = either.listenTCP(0, factory, interface="127.0.0.1")
        either.connectTCP("127.0.0.1", port.getHost().port, clients)
        client.on_made = lambda end: end.transport.write(b"hello")
        go_round(either, lambda: client.data == b"HELLO")
        client.transport.loseConnection()
        go_round(either, lambda: server.reason and client.reason)
        port.stopListening()

    inside(either, nested)


def test_more_than_the_kernel_takes_at_once_is_written(either: Any) -> None:
    """In a nested ``iterate()`` a large write pauses the producer, all bytes arrive, and the producer is resumed."""
    much = b"x" * 3_000_000

    def nested() -> None:
        server, peer = connected(either)
        found = bytearray()
        with peer:
            server.transport.registerProducer(server, True)
            server.transport.write(much)
            go_round(either, lambda: found.extend(has_come(peer) or b"") or len(found) > 100)
            assert server.notes == ["made", "paused"]
            go_round(either, lambda: found.extend(has_come(peer) or b"") or len(found) == len(much))
            go_round(either, lambda: server.notes[-1] == "resumed")
            server.transport.unregisterProducer()
            server.transport.abortConnection()
            go_round(either, lambda: server.reason)
            assert server.reason.check(ConnectionAborted)

    inside(either, nested)


def test_bytes_that_are_unwritten_in_iterate_are_written_after_it(either: Any) -> None:
    """Bytes that the kernel did not take in a nested ``iterate()`` are written after it."""
    much = b"x" * 3_000_000

    def drive() -> None:
        server, peer = connected(either)
        found = bytearray()

        def write_and_go_round() -> None:
            server.transport.write(much)
            for _ in range(3):
                either.iterate()
            server.notes.append("was nested")

        with peer:
            either.callLater(0, write_and_go_round)
            go_round(either, lambda: "was nested" in server.notes)
            go_round(either, lambda: found.extend(has_come(peer) or b"") or len(found) == len(much))
            server.transport.abortConnection()

    in_another_thread(drive)


def test_a_protocol_that_raises_in_iterate_loses_its_connection(either: Any, logged_errors: Any) -> None:
    """A protocol that raises in a nested ``iterate()`` loses its connection with that exception, which is logged."""

    def nested() -> None:
        server, peer = connected(either)
        server.on_data = lambda _: 1 / 0
        with peer:
            peer.sendall(b"x")
            go_round(either, lambda: server.reason)
        assert server.reason.check(ZeroDivisionError)

    inside(either, nested)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_a_reset_by_the_peer_is_noticed_in_iterate(either: Any) -> None:
    """When the peer has reset a connection, a write in a nested ``iterate()`` ends it with `ConnectionLost`."""

    def nested() -> None:
        server, peer = connected(either)
        server.transport.pauseProducing()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        server.transport.write(b"x")
        go_round(either, lambda: server.reason)
        assert server.reason.check(ConnectionLost)

    inside(either, nested)


def test_a_paused_connection_waits(either: Any) -> None:
    """In a nested ``iterate()`` a paused connection reads nothing until it is resumed."""

    def nested() -> None:
        server, peer = connected(either)
        server.transport.pauseProducing()
        with peer:
            peer.sendall(b"x")
            for _ in range(3):
                either.iterate()
            assert server.data == b""
            server.transport.resumeProducing()
            go_round(either, lambda: server.data == b"x")

    inside(either, nested)


def test_a_connection_can_end_another_one_in_the_same_round(either: Any) -> None:
    """When two connections have bytes in one round, and the first to read ends both, the other gets no bytes."""

    def nested() -> None:
        both = [connected(either) for _ in range(2)]
        for server, peer in both:
            server.on_data = lambda _: [each.transport.connectionLost(Failure(ConnectionLost())) for each, _ in both]
            peer.sendall(b"x")
        go_round(either, lambda: all(server.reason for server, _ in both))
        assert sum(len(server.data) for server, _ in both) == 1
        for _, peer in both:
            peer.close()

    inside(either, nested)


@pytest.mark.parametrize("is_new", [False, True])
def test_descriptors_are_sent_and_bytes_after_them(either: Any, is_new: bool) -> None:
    """
    A UNIX connection can send a descriptor and bytes after it in a nested ``iterate()``. It leaves uvloop for that.
    """
    both: list[Any] = []

    def meet() -> None:
        both[:] = connected(either, family=socket.AF_UNIX)

    def send() -> None:
        if is_new:
            meet()
        server, peer = both
        server.transport.sendFileDescriptor(peer.fileno())
        server.transport.write(b"x")
        for _ in range(3):
            either.iterate()
        server.notes.append("was nested")

    def drive() -> None:
        if not is_new:
            meet()
        either.callLater(0, send)
        go_round(either, lambda: both and "was nested" in both[0].notes)
        server, peer = both
        with peer:
            go_round(either, lambda: select.select([peer], [], [], 0)[0])
            data, descriptors, _, _ = socket.recv_fds(peer, 10, 1)
            assert (data, len(descriptors)) == (b"x", 1)
            os.close(descriptors[0])
            server.transport.abortConnection()
            either.iterate()

    in_another_thread(drive)


# How long ------------------------------------------------------------------------------------------------------------


def test_iterate_waits_until_an_event_comes(either: Any) -> None:
    """``iterate(delay)`` returns at the first event, and not only after its delay."""

    def drive() -> None:
        server, peer = connected(either)
        server.on_data = lambda end: end.transport.write(b"answer")
        begun = time.monotonic()
        with peer:
            peer.sendall(b"x")
            while not server.data:
                either.iterate(LONG)
            peer.settimeout(PATIENCE)
            either.iterate()
            assert peer.recv(10) == b"answer"
            peer.close()
            while not server.reason:
                either.iterate(LONG)
        assert time.monotonic() - begun < LONG

    in_another_thread(drive)


def test_a_descriptor_and_a_thread_end_the_wait(either: Any) -> None:
    """A readable descriptor and a call from a thread each end the wait of ``iterate(delay)``."""
    reading, writing = os.pipe()

    def drive() -> None:
        reader = Watcher(lambda: reading, lambda: os.read(reading, 10))
        called: list[str] = []
        begun = time.monotonic()
        either.addReader(reader)
        os.write(writing, b"x")
        while not reader.notes:
            either.iterate(LONG)
        either.removeReader(reader)
        either.callFromThread(called.append, "thread")
        while not called:
            either.iterate(LONG)
        assert time.monotonic() - begun < LONG

    in_another_thread(drive)
    os.close(reading)
    os.close(writing)


def test_iterate_without_an_event_returns_after_its_delay(either: Any) -> None:
    """``iterate(delay)`` returns after its delay, also if no event comes."""

    def drive() -> None:
        either.iterate(0.001)
        either.iterate(0.001)

    in_another_thread(drive)


def test_iterate_works_in_a_callback_of_asyncio(other: Any) -> None:
    """``iterate()`` in a callback of asyncio calls timers that are due."""
    called: list[str] = []

    def drive() -> None:
        def nested() -> None:
            other.callLater(0, called.append, "timer")
            go_round(other, lambda: called)

        other._asyncioEventloop.call_soon(nested)
        go_round(other, lambda: called)

    in_another_thread(drive)
    assert called == ["timer"]
