"""The loop, for libraries of asyncio: descriptors that are watched, closed, and used again; and processes."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tcpapp.reactor.loop import Loop
from tests.reactor.conftest import Bench, Noting, at_number, in_another_thread

test = pytest_twisted.ensureDeferred


@pytest.fixture
def loop() -> Any:
    """Give a loop that does not run."""
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pair() -> Any:
    """Give two connected sockets."""
    ours, peer = socket.socketpair()
    with ours, peer:
        for each in (ours, peer):
            each.setblocking(False)
        yield ours, peer


def turns(loop: Loop, count: int = 3) -> None:
    """Run some rounds of the loop, in a thread without another loop."""

    def drive() -> None:
        for _ in range(count):
            loop.call_soon(loop.stop)
            loop.run_forever()

    in_another_thread(drive)


def noting(notes: list[Any], name: object) -> Callable[[], None]:
    """Return a callback that adds `name` to `notes`."""
    return lambda: notes.append(name)


# Descriptors ---------------------------------------------------------------------------------------------------------


def test_a_reader_is_called_until_it_is_removed(loop: Loop, pair: Any) -> None:
    """A reader is called with its arguments until `remove_reader`, which returns whether there was one."""
    ours, peer = pair
    notes: list[bytes] = []
    loop.add_reader(ours, lambda size: notes.append(ours.recv(size)), 10)
    peer.send(b"x")
    turns(loop)
    assert notes == [b"x"]
    assert loop.remove_reader(ours)
    assert not loop.remove_reader(ours)
    peer.send(b"y")
    turns(loop)
    assert notes == [b"x"]


def test_removing_a_reader_that_is_not_there_does_nothing(loop: Loop, pair: Any) -> None:
    """`remove_reader` and `remove_writer` return False for a socket that is not watched."""
    assert not loop.remove_reader(pair[0])
    assert not loop.remove_writer(pair[0])


def test_a_descriptor_can_have_a_reader_and_a_writer(loop: Loop, pair: Any) -> None:
    """A descriptor can have a reader and a writer, and either can be removed alone."""
    ours, peer = pair
    notes: list[Any] = []
    loop.add_reader(ours, noting(notes, "read"))
    loop.add_writer(ours, noting(notes, "write"))
    peer.send(b"x")
    turns(loop, 1)
    assert sorted({*notes}) == ["read", "write"]
    assert loop.remove_writer(ours)
    notes.clear()
    turns(loop, 1)
    assert {*notes} == {"read"}
    assert loop.remove_reader(ours)


def test_a_second_reader_takes_the_place_of_the_first(loop: Loop, pair: Any) -> None:
    """A second reader of a descriptor replaces the first, as in asyncio."""
    ours, peer = pair
    notes: list[Any] = []
    loop.add_reader(ours, noting(notes, "first"))
    loop.add_reader(ours, noting(notes, "second"))
    peer.send(b"x")
    turns(loop, 1)
    assert {*notes} == {"second"}


def test_a_reader_can_remove_the_writer(loop: Loop, pair: Any) -> None:
    """If a reader removes the writer of its descriptor, the writer is not called in the same round."""
    ours, peer = pair
    notes: list[Any] = []
    loop.add_reader(ours, lambda: notes.append(loop.remove_writer(ours)))
    peer.send(b"x")
    loop.add_writer(ours, noting(notes, "write"))
    turns(loop, 1)
    assert "write" not in notes
    assert notes[0] is True


def test_a_reader_that_raises_is_logged_and_called_again(
    loop: Loop, pair: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader that raises is logged each time, and stays."""
    ours, peer = pair
    loop.add_reader(ours, lambda: 1 / 0)
    peer.send(b"x")
    turns(loop)
    assert caplog.text.count("ZeroDivisionError: ") > 1


@pytest.mark.parametrize("what", ["reader", "writer"])
def test_a_closed_descriptor_is_silent(loop: Loop, what: str) -> None:
    """A closed descriptor gets no events and can be removed; libuv alone would end the process."""
    notes: list[Any] = []
    ends = os.pipe()
    descriptor = ends[what == "writer"]
    getattr(loop, f"add_{what}")(descriptor, noting(notes, "called"))
    os.close(descriptor)
    turns(loop)
    assert notes == []
    assert getattr(loop, f"remove_{what}")(descriptor)
    os.close(ends[what != "writer"])


def test_a_writer_whose_descriptor_was_closed_loses_its_reader(loop: Loop) -> None:
    """When the writer of a closed descriptor is removed, its reader is removed, too."""
    ours, peer = socket.socketpair()
    descriptor = ours.fileno()
    with peer:
        loop.add_reader(descriptor, noting([], "read"))
        loop.add_writer(descriptor, noting([], "write"))
        ours.close()
        assert loop.remove_writer(descriptor)
        assert not loop.remove_reader(descriptor)


@pytest.mark.parametrize("what", ["reader", "writer"])
def test_a_watcher_of_a_reused_number_is_called(loop: Loop, what: str) -> None:
    """When a new socket has the number of a closed one, its reader or writer is called, and not the older one."""
    notes: list[Any] = []
    ours, peer = socket.socketpair()
    getattr(loop, f"add_{what}")(ours.fileno(), noting(notes, "older"))
    descriptor = ours.fileno()
    ours.close()
    again, far = socket.socketpair()
    with at_number(again, descriptor) as renewed, far, peer:
        getattr(loop, f"add_{what}")(renewed.fileno(), noting(notes, "newer"))
        far.send(b"x")
        turns(loop)
        assert {*notes} == {"newer"}


def test_a_socket_with_an_error_is_still_read(loop: Loop) -> None:
    """After a socket reports an error, its reader is still called for new bytes."""
    notes: list[Any] = []

    def read() -> None:
        try:
            notes.append(ours.recv(10))
        except OSError as why:
            notes.append(type(why))

    with socket.socket(type=socket.SOCK_DGRAM) as ours:
        with socket.socket(type=socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            where = nobody.getsockname()
        ours.connect(where)
        ours.setblocking(False)
        loop.add_reader(ours, read)
        ours.send(b"x")
        turns(loop)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.bind(where)
            peer.sendto(b"back", ours.getsockname())
            turns(loop)
    assert notes == [ConnectionRefusedError, b"back"]


@test
async def test_a_transports_descriptor_is_refused_as_by_asyncio(bench: Bench) -> None:
    """`add_reader` and `add_writer` refuse the descriptor of a transport with `RuntimeError`, as asyncio does."""
    server = Noting()
    await bench.meet(server)
    await bench.until(lambda: server.transport._stream is not None)
    loop = bench.reactor._asyncioEventloop
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError):
            call(server.transport.fileno(), print)


def test_a_closed_loop_refuses_a_reader(pair: Any) -> None:
    """A loop can be closed twice, and then `add_reader` raises `RuntimeError`."""
    loop = Loop()
    loop.add_reader(pair[0], print)
    loop.close()
    loop.close()
    with pytest.raises(RuntimeError):
        loop.add_reader(pair[0], print)


def test_a_running_loop_cannot_be_closed(loop: Loop, pair: Any) -> None:
    """`close` raises `RuntimeError` while the loop runs, and its readers are still called."""
    notes: list[Any] = []
    ours, peer = pair
    loop.add_reader(ours, lambda: notes.append(ours.recv(10)))

    def close() -> None:
        with pytest.raises(RuntimeError):
            loop.close()

    loop.call_soon(close)
    peer.send(b"x")
    turns(loop)
    assert notes == [b"x"]


# Processes -----------------------------------------------------------------------------------------------------------


@test
async def test_the_loop_counts_running_processes(bench: Bench) -> None:
    """`processes` counts each process that asyncio starts, until it ends or cannot be started."""
    loop = bench.reactor._asyncioEventloop
    before = loop.on_processes
    notes: list[int] = []
    loop.on_processes = lambda: notes.append(loop.processes)
    try:
        for start in (lambda: asyncio.create_subprocess_exec("true"), lambda: asyncio.create_subprocess_shell("true")):
            await in_asyncio(bench, run(start))
        with pytest.raises(FileNotFoundError):
            await in_asyncio(bench, run(lambda: asyncio.create_subprocess_exec(f"{sys.executable}-there-is-none")))
        await bench.until(lambda: notes == [1, 0] * 3)
    finally:
        loop.on_processes = before
        before()


async def run(start: Callable[[], Any]) -> int:
    """Return the exit code of a process."""
    process = await start()
    return int(await process.wait())


def in_asyncio(bench: Bench, running: Any) -> Deferred[Any]:
    """Return a Deferred of the result of a coroutine that runs as a task of asyncio."""
    return Deferred.fromFuture(bench.reactor._asyncioEventloop.create_task(running))
