"""Descriptors with readers and writers of their own: ports, datagrams, pipes, files; and closed descriptors."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from tests.reactor.conftest import Noting, Watcher, at_number, connected, go_round, in_another_thread, watched_both_ways


class Pipes:
    """Pipes that are closed at the end."""

    def __init__(self) -> None:
        self._open: list[int] = []

    def new(self) -> tuple[int, int]:
        reading, writing = os.pipe()
        for each in (reading, writing):
            os.set_blocking(each, False)
        self._open += [reading, writing]
        return reading, writing

    def keep(self, descriptor: int) -> int:
        self._open.append(descriptor)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._open.remove(descriptor)
        os.close(descriptor)

    def end(self) -> None:
        for each in self._open:
            os.close(each)


@pytest.fixture
def pipes() -> Any:
    """Give `Pipes`, and close them after the test."""
    made = Pipes()
    yield made
    made.end()


def reader_of(descriptor: int) -> Watcher:
    """Return a reader that notes what it reads from this descriptor."""
    return Watcher(lambda: descriptor, lambda: os.read(descriptor, 100))


def rounds(reactor: Any, count: int = 5) -> None:
    """Run this many rounds of the reactor."""
    for _ in range(count):
        reactor.iterate()


# Reading and writing -------------------------------------------------------------------------------------------------


def test_a_reader_is_called_until_it_is_removed(either: Any, pipes: Pipes) -> None:
    """A reader that is added twice is listed once, and is called until it is removed."""

    def drive() -> None:
        reading, writing = pipes.new()
        reader = reader_of(reading)
        either.removeReader(reader)
        either.addReader(reader)
        either.addReader(reader)
        assert either.getReaders().count(reader) == 1
        os.write(writing, b"one")
        go_round(either, lambda: reader.notes == [b"one"])
        either.removeReader(reader)
        either.removeReader(reader)
        assert reader not in either.getReaders()
        os.write(writing, b"two")
        rounds(either)
        assert reader.notes == [b"one"]

    in_another_thread(drive)


def test_a_writer_is_called_until_it_is_removed(either: Any, pipes: Pipes) -> None:
    """A writer is called while its descriptor takes bytes, until it is removed."""

    def drive() -> None:
        writer = Watcher(lambda: writing)
        writer.on_write = lambda: either.removeWriter(writer)
        _, writing = pipes.new()
        either.addWriter(writer)
        assert writer in either.getWriters()
        go_round(either, lambda: writer.notes)
        rounds(either)
        assert writer.notes == ["can write"]
        assert writer not in either.getWriters()

    in_another_thread(drive)


def test_a_second_reader_or_writer_of_a_descriptor_is_ignored(either: Any) -> None:
    """The reactor ignores a reader or writer of a descriptor that has one already."""

    def drive() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            first, second = (Watcher(ours.fileno, lambda: ours.recv(10)) for _ in range(2))
            first.on_write = lambda: either.removeWriter(first)
            for each in (first, second):
                either.addReader(each)
                either.addWriter(each)
            peer.send(b"x")
            go_round(either, lambda: first.notes == [b"x", "can write"])
            assert second.notes == []
            assert second not in [*either.getReaders(), *either.getWriters()]
            either.removeReader(first)

    in_another_thread(drive)


def test_one_object_reads_and_writes(either: Any) -> None:
    """One object can be the reader and the writer of a descriptor, and can be removed as each."""

    def drive() -> None:
        with watched_both_ways(either) as (both, peer):
            peer.send(b"x")
            go_round(either, lambda: both.notes == [b"x", "can write"])
            either.addWriter(both)
            either.removeReader(both)
            peer.send(b"y")
            go_round(either, lambda: len(both.notes) == 3)
            assert both.notes[2] == "can write"
            assert both not in either.removeAll()

    in_another_thread(drive)


def test_one_object_reads_a_descriptor_and_another_writes_it(other: Any) -> None:
    """A descriptor can have one object as its reader and another as its writer."""

    def drive() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            reader = Watcher(ours.fileno, lambda: ours.recv(10))
            writer = Watcher(ours.fileno)
            other.addReader(reader)
            other.addWriter(writer)
            go_round(other, lambda: writer.notes)
            assert reader.notes == []
            peer.send(b"x")
            go_round(other, lambda: reader.notes)
            other.removeWriter(writer)
            peer.send(b"y")
            go_round(other, lambda: reader.notes == [b"x", b"y"])

    in_another_thread(drive)


def test_a_reader_can_remove_the_writer_of_its_descriptor(other: Any) -> None:
    """If a reader removes the writer of its descriptor, the writer is not called in that round or later."""

    def drive() -> None:
        ours, peer = socket.socketpair()
        with ours, peer:
            writer = Watcher(ours.fileno)
            reader = Watcher(ours.fileno, lambda: (ours.recv(10), other.removeWriter(writer))[0])
            other.addReader(reader)
            peer.send(b"x")
            other.addWriter(writer)
            go_round(other, lambda: reader.notes)
            assert writer.notes == []

    in_another_thread(drive)


def test_a_file_is_read_again_and_again(either: Any) -> None:
    """A regular file, which epoll cannot watch, is always ready for its reader and writer."""

    def drive() -> None:
        with Path(__file__).open("rb") as file:
            both = Watcher(file.fileno, lambda: file.read(1))
            either.addReader(both)
            either.addWriter(both)
            assert both in either.getReaders()
            assert both in either.getWriters()
            go_round(either, lambda: len(both.notes) > 3)
            either.removeReader(both)
            either.removeWriter(both)
            assert both not in [*either.getReaders(), *either.getWriters()]

    in_another_thread(drive)


@pytest.mark.parametrize("what", ["reader", "writer"])
def test_the_end_of_a_pipe_is_lost_when_the_other_end_is_closed(either: Any, pipes: Pipes, what: str) -> None:
    """
    When the other end of a pipe is closed, its reader gets `ConnectionDone`, its writer `ConnectionLost`, and both are
    removed.
    """

    def drive() -> None:
        reading, writing = pipes.new()
        end = Watcher(lambda: reading if what == "reader" else writing)
        {"reader": either.addReader, "writer": either.addWriter}[what](end)
        pipes.close(writing if what == "reader" else reading)
        go_round(either, lambda: end.notes and "lost" in str(end.notes[-1]))
        assert end.notes[-1] == {"reader": "lost: ConnectionDone", "writer": "lost: ConnectionLost"}[what]
        assert end not in [*either.getReaders(), *either.getWriters()]

    in_another_thread(drive)


def test_a_reader_that_raises_is_lost_and_logged_once(either: Any, pipes: Pipes, logged_errors: Any) -> None:
    """A reader that raises is logged once, removed, and gets its exception in `connectionLost`."""

    def drive() -> None:
        reading, writing = pipes.new()
        reader = Watcher(lambda: reading, lambda: 1 / 0)
        either.addReader(reader)
        os.write(writing, b"x")
        go_round(either, lambda: reader.notes)
        assert reader.notes == ["lost: ZeroDivisionError"]

    in_another_thread(drive)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_a_datagram_to_a_closed_port_stops_the_sender(either: Any) -> None:
    """When a datagram is refused, the sending port is stopped on both reactors."""

    class Heard(DatagramProtocol):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def connectionRefused(self) -> None:
            self.notes.append("refused")

        def datagramReceived(self, datagram: bytes, addr: object) -> None:
            self.notes.append(datagram.decode())

        def stopProtocol(self) -> None:
            self.notes.append("stopped")

    def drive() -> list[str]:
        heard = Heard()
        with socket.socket(type=socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            where = nobody.getsockname()
        port = either.listenUDP(0, heard, interface="127.0.0.1")
        port.connect(*where)
        ours = port.getHost()
        port.write(b"x")
        rounds(either)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(where)
            peer.sendto(b"back", (ours.host, ours.port))
            rounds(either)
        if port.connected:
            port.stopListening()
            go_round(either, lambda: heard.notes[-1] == "stopped")
        return heard.notes

    assert in_another_thread(drive) == WHEN_REFUSED


WHEN_REFUSED = ["stopped"]
"""The notes on both reactors."""


# Closed descriptors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["Reader", "Writer"])
def test_a_closed_descriptor_is_silent_and_can_be_removed(other: Any, pipes: Pipes, what: str) -> None:
    """
    A reader or writer of a closed descriptor gets no events and can be removed. Twisted's epoll reactor raises there.
    """

    def drive() -> None:
        descriptor = pipes.new()[what == "Writer"]
        watcher = Watcher(lambda: descriptor)
        pipes.close(descriptor)
        with pytest.raises(OSError, match="Bad file descriptor"):
            getattr(other, f"add{what}")(watcher)
        descriptor = pipes.new()[what == "Reader"]
        getattr(other, f"add{what}")(watcher)
        pipes.close(descriptor)
        rounds(other)
        assert watcher.notes == [] or what == "Reader"
        getattr(other, f"remove{what}")(watcher)
        assert watcher not in [*other.getReaders(), *other.getWriters()]

    in_another_thread(drive)


def test_a_reader_without_a_descriptor_can_be_removed(either: Any, pipes: Pipes) -> None:
    """Readers and writers whose `fileno()` has become -1 can be removed."""

    def drive() -> None:
        descriptors = list(pipes.new())
        watchers = [Watcher(lambda each=each: descriptors[each]) for each in (0, 1)]  # type: ignore[misc]
        either.addReader(watchers[0])
        either.addWriter(watchers[1])
        descriptors[:] = [-1, -1]
        either.removeReader(watchers[1])
        either.removeReader(watchers[0])
        either.removeWriter(watchers[1])
        assert not {*watchers} & {*either.getReaders(), *either.getWriters()}

    in_another_thread(drive)


@pytest.mark.parametrize("what", ["Reader", "Writer"])
def test_a_watcher_of_a_reused_number_takes_the_place_of_the_older_one(other: Any, what: str) -> None:
    """
    When a descriptor's number is used again, its new watcher gets events. On Twisted's epoll reactor it would get none.
    """

    def drive() -> None:
        ours, peer = socket.socketpair()
        older = Watcher(ours.fileno)
        getattr(other, f"add{what}")(older)
        descriptor = ours.fileno()
        ours.close()
        again, far = socket.socketpair()
        with peer, far, at_number(again, descriptor) as renewed:
            newer = Watcher(renewed.fileno, lambda: renewed.recv(10))
            getattr(other, f"add{what}")(newer)
            far.send(b"x")
            go_round(other, lambda: newer.notes)
            assert older.notes == []
            getattr(other, f"remove{what}")(older)
            assert newer in [*other.getReaders(), *other.getWriters()]
            getattr(other, f"remove{what}")(newer)

    in_another_thread(drive)


def test_the_number_of_a_reader_that_was_closed_goes_to_a_writer(other: Any) -> None:
    """When a new descriptor has the number of a closed one, its writer is called, and the older reader is removed."""

    def drive() -> None:
        ours, peer = socket.socketpair()
        older = Watcher(lambda: descriptor)
        descriptor = ours.fileno()
        other.addReader(older)
        ours.close()
        again, far = socket.socketpair()
        with peer, far, at_number(again, descriptor):
            newer = Watcher(lambda: descriptor)
            other.addWriter(newer)
            assert older not in other.getReaders()
            go_round(other, lambda: newer.notes)
            other.removeWriter(newer)

    in_another_thread(drive)


def test_the_number_of_a_reader_that_was_closed_goes_to_a_connection(other: Any) -> None:
    """When a connection has the number of a closed descriptor, it gets its bytes, and the older reader is removed."""

    def drive() -> None:
        ours, peer = socket.socketpair()
        number = ours.fileno()
        older = Watcher(lambda: number)
        other.addReader(older)
        ours.close()
        server, far = connected(other)
        with peer, far:
            numbers = [server.transport.fileno()]
            while number not in numbers:  # the system gives the lowest that is free
                more, another = connected(other, Noting())
                numbers.append(more.transport.fileno())
                server, far = more, another
            far.sendall(b"hello")
            go_round(other, lambda: server.data == b"hello")
            assert older not in other.getReaders()

    in_another_thread(drive)


def test_a_closed_descriptor_with_a_copy_has_no_more_events(other: Any, pipes: Pipes, logged_errors: Any) -> None:
    """
    The kernel still reports events of a closed descriptor with a copy. The reactor drops its reader and stays idle.
    """

    def drive() -> None:
        reading, writing = pipes.new()
        stays, far = pipes.new()
        quiet, _ = pipes.new()
        kept, silent, writer = reader_of(stays), reader_of(quiet), Watcher(lambda: far)
        for each in (reader_of(reading), kept, silent):
            other.addReader(each)
        other.addWriter(writer)
        pipes.keep(os.dup(reading))
        pipes.close(reading)
        pipes.close(quiet)
        os.write(writing, b"x")
        go_round(other, lambda: len(other.getReaders()) == 3)
        other.removeWriter(writer)
        rounds(other)
        assert other.descriptors.dispatch() == 0
        os.write(far, b"heard")
        go_round(other, lambda: kept.notes == [b"heard"])

    in_another_thread(drive)
    assert len(logged_errors.take(OSError)) == 1


def test_a_reader_can_remove_another_reader_in_the_same_round(either: Any, pipes: Pipes) -> None:
    """If two readers are ready in a round, the first to be called can remove both, and nothing raises."""

    def drive() -> None:
        both = [reader_of(reading) for reading, writing in (pipes.new(), pipes.new()) if os.write(writing, b"x")]
        for each in both:
            each.doRead = lambda: [either.removeReader(one) for one in both] and None  # type: ignore[method-assign]
            either.addReader(each)
        rounds(either)
        assert not {*both} & {*either.getReaders()}

    in_another_thread(drive)
