"""How a connected socket gets a transport of uvloop, and when it needs none."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import ClientFactory, Factory
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.reactor.finishing import RESET
from tcpapp.reactor.opening import Openings
from tests.patience import PATIENCE
from tests.reactor.conftest import Bench, Noting

test = pytest_twisted.ensureDeferred


# Watches of the system ------------------------------------------------------------------------------------------------


HAS_EPOLL = pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")


GONE = """
import fcntl, socket, uvloop
from tcpapp.reactor.opening import Openings

loop = uvloop.new_event_loop()
openings = Openings(loop)
ours, peer = socket.socketpair()
descriptor = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, 200)
openings.watch(descriptor)
ours.close(), peer.close()
loop.call_soon(loop.call_later, 0, loop.stop)
loop.run_forever()
openings.check_new(descriptor)
"""


@HAS_EPOLL
def test_a_peer_that_has_gone_before_the_hand_over_does_not_end_the_process() -> None:
    """
    The loop looks at its epoll between `watch` and the hand-over, and finds that the peer has gone. The descriptor is
    higher than all that libuv has seen.
    """
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


@HAS_EPOLL
@test
async def test_a_watch_is_made_in_the_loops_own_epoll_for_no_event(bench: Bench) -> None:
    """
    `watch` adds a descriptor to the loop's own epoll for no event, twice without an error, and its hang-up is not
    reported.
    """
    reading, writing = os.pipe()
    bench.reactor.openings.watch(reading)
    own = os.dup(bench.reactor._asyncioEventloop._get_backend_id())
    with select.epoll.fromfd(own) as found, pytest.raises(FileExistsError):
        found.register(reading, 0)
    bench.reactor.openings.watch(reading)  # there is a watch already
    os.write(writing, b"x")
    await bench.turns(2)
    os.close(writing)
    await bench.turns(2)  # the hang-up is not reported, and the loop goes on
    os.close(reading)


@HAS_EPOLL
def test_a_watch_that_the_system_does_not_make_is_an_error(bench: Bench) -> None:
    """`watch` raises the system's `OSError` for a descriptor that epoll cannot watch, such as a file."""
    with Path(__file__).open("rb") as file, pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        bench.reactor.openings.watch(file.fileno())


def test_without_epoll_no_watch_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without epoll, `watch` does nothing."""
    monkeypatch.delattr(select, "epoll", raising=False)
    Openings(bench.reactor._asyncioEventloop).watch(-1)


@test
async def test_a_connection_is_in_the_loops_epoll_as_soon_as_it_is_accepted(bench: Bench) -> None:
    """
    The reactor adds a connection to the loop's epoll before libuv does, since libuv ends the process when that fails.
    """
    server = Noting()
    watched: list[int] = []
    watch = bench.reactor.openings.watch
    bench.reactor.openings.watch = lambda descriptor: (watched.append(descriptor), watch(descriptor))
    try:
        await bench.meet(server)
    finally:
        del bench.reactor.openings.watch
    assert watched == [bench.listening.watched(), server.transport.fileno()]


@HAS_EPOLL
@test
async def test_a_peer_that_leaves_before_there_is_a_transport_is_noticed(bench: Bench) -> None:
    """A peer's reset before the connection has a transport is noticed, although libuv drops the watch then."""
    client, factory = Noting(), ClientFactory()
    factory.buildProtocol = lambda _address: client  # type: ignore[method-assign, assignment]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reset(_: object) -> None:
            met, _ = listening.accept()
            met.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            met.close()

        client.on_made = reset
        bench.reactor.connectTCP("127.0.0.1", listening.getsockname()[1], factory)
        await bench.until(lambda: "lost" in client.notes)
    assert client.notes == ["made", "lost"]


# Handing over ---------------------------------------------------------------------------------------------------------


class Opened:
    """A counter of the connections that a reactor hands over to uvloop."""

    def __init__(self, reactor: Any) -> None:
        self.openings = reactor.openings
        self.open = self.openings.open
        self.count = 0

    def __enter__(self) -> Self:
        def counting(stream: Any) -> Any:
            self.count += 1
            return self.open(stream)

        self.openings.open = counting
        return self

    def __exit__(self, *_: object) -> None:
        del self.openings.open


def connect(bench: Bench, where: Any, client: Noting) -> None:
    """Connect a client to a port or to a UNIX path."""
    factory = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda _: client  # type: ignore[assignment, return-value]
    if isinstance(where, str):
        bench.reactor.connectUNIX(where, factory)
    else:
        bench.reactor.connectTCP("127.0.0.1", where, factory)


@pytest.mark.parametrize("unix", [False, True])
@test
async def test_a_connection_that_is_closed_as_it_is_made_is_not_handed_over(bench: Bench, unix: bool) -> None:
    """A connection that is closed in `connectionMade` is never given to uvloop, and the reactor holds it no more."""
    server, client = Noting(), Noting()
    for each in (server, client):
        each.on_made = lambda end: end.transport.loseConnection()
    with Opened(bench.reactor) as opened:
        connect(bench, bench.serving(server, unix=unix), client)
        await bench.until(lambda: server.reason and client.reason)
    assert opened.count == 0
    assert any(each.reason.check(ConnectionDone) for each in (server, client))  # the second one can meet a closed peer
    assert not list(bench.reactor.connections)


@test
async def test_a_connection_that_is_closed_as_it_is_made_is_lost_after_the_call(bench: Bench) -> None:
    """
    A connection that is closed in `connectionMade` is lost after earlier timers of 0 seconds, as on Twisted's reactors.
    """
    server = Noting()
    server.on_made = lambda end: (
        end.transport.loseConnection(),
        bench.reactor.callLater(0, end.notes.append, "called"),
        end.notes.append("returned"),
    )
    peer = bench.dial(bench.serving(server))
    await bench.until(lambda: server.reason)
    assert server.notes == ["made", "returned", "called", "lost"]
    assert await bench.read(peer, 1) == b""


@pytest.mark.parametrize("later", [False, True])
@test
async def test_bytes_written_after_the_close_arrive(bench: Bench, later: bool) -> None:
    """
    Bytes that are written after `loseConnection`, before the connection is lost, are sent as by Twisted's transports.
    """
    server = Noting()

    def close_and_write(end: Any) -> None:
        end.transport.loseConnection()
        if later:
            bench.reactor.callLater(0, end.transport.write, b"the last word")
        else:
            end.transport.write(b"the last word")

    server.on_made = close_and_write
    assert await bench.read(bench.dial(bench.serving(server)), 100) == b"the last word"
    await bench.until(lambda: server.reason)


@test
async def test_a_connection_that_is_aborted_as_it_is_made_resets(bench: Bench) -> None:
    """A connection that is aborted in `connectionMade` is never given to uvloop, and the peer gets a reset."""
    server = Noting()
    server.on_made = lambda end: end.transport.abortConnection()
    with Opened(bench.reactor) as opened:
        peer = bench.dial(bench.serving(server))
        await bench.until(lambda: server.reason)
    assert (opened.count, server.reason.type) == (0, ConnectionAborted)
    with pytest.raises(ConnectionResetError):
        peer.recv(1)


@test
async def test_an_adopted_connection_is_handed_over_in_the_next_round(bench: Bench) -> None:
    """uvloop takes an adopted connection in the next round, as every connection that its maker does not hand over."""
    here, there = socket.socketpair()
    server = Noting()
    factory: Any = Factory()
    factory.buildProtocol = lambda _: server
    here.setblocking(False)
    bench.reactor.adoptStreamConnection(here.fileno(), here.family, factory)
    here.close()
    assert server.transport._opening is None
    bench.keep(there).sendall(b"hello")
    await bench.until(lambda: server.data == b"hello")
    server.transport.abortConnection()


@test
async def test_a_connection_that_is_lost_before_uvloop_has_it_is_closed(bench: Bench) -> None:
    """A connection that another one loses in the turn of its accept, before uvloop has it, is closed."""
    one, other = Noting(), Noting()
    other.on_made = lambda _: one.transport.connectionLost(Failure(ConnectionLost()))
    where = bench.serving(one, other)
    peer = bench.dial(where)
    bench.dial(where)
    bench.listening.doRead()
    assert one.notes == ["made", "lost"]
    assert await bench.read(peer, 1) == b""


@test
async def test_a_program_can_take_the_socket_away_as_the_connection_is_made(bench: Bench) -> None:
    """
    In `connectionMade` a protocol can adopt a copy of its socket and close the socket; the copy is another connection.
    """
    first, second, third = Noting(), Noting(), Noting()
    second.on_data = lambda end: end.transport.write(bytes(end.data).upper())
    factory: Any = Factory()
    factory.buildProtocol = lambda _: second

    def adopt(end: Any) -> None:
        bench.reactor.removeReader(end.transport)
        bench.reactor.adoptStreamConnection(end.transport.fileno(), socket.AF_INET, factory)
        end.transport.getHandle().close()

    first.on_made = adopt
    where = bench.serving(first, third)
    peer = bench.dial(where)
    peer.sendall(b"hello")
    assert await bench.read(peer, 5) == b"HELLO"
    bench.dial(where)
    await bench.until(lambda: third.notes)
    assert (first.notes, bytes(first.data)) == (["made"], b"")
    second.transport.abortConnection()
    await bench.until(lambda: second.reason)


@test
async def test_a_connection_that_uvloop_refuses_is_lost_and_no_other(bench: Bench, logged_errors: Any) -> None:
    """A connection that uvloop cannot take is lost with the logged error, and another one opens."""
    one, other = Noting(), Noting()
    openings = bench.reactor.openings
    take = openings.open

    def open_all_but_one(stream: Any) -> Any:
        if stream.protocol is one:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return take(stream)

    openings.open = open_all_but_one
    try:
        where = bench.serving(one, other)
        peer, _ = bench.dial(where), bench.dial(where)
        await bench.until(lambda: one.reason and other.notes)
    finally:
        del openings.open
    assert one.reason.check(OSError)
    assert await bench.read(peer, 1) == b""
    assert len(logged_errors.take(OSError)) == 1


@test
async def test_tcp_nodelay_is_left_as_it_is(bench: Bench) -> None:
    """TCP_NODELAY stays as the protocol sets it, and the socket has its own address family again."""
    for wanted in (False, True):
        server = Noting()
        server.on_made = lambda end, wanted=wanted: end.transport.setTcpNoDelay(wanted)
        await bench.meet(server)
        await bench.turns(3)
        assert server.transport.getTcpNoDelay() == wanted
        assert server.transport.getHandle().family == socket.AF_INET


@test
async def test_a_connection_that_has_ended_is_held_by_nothing(bench: Bench) -> None:
    """The reactor drops an ended connection at once, and not only when uvloop opens the next one."""
    server = Noting()
    peer = await bench.meet(server)
    await bench.until(lambda: server.transport._stream is not None)
    assert bench.reactor.openings._unfinished[0] is server.transport
    peer.close()
    await bench.until(lambda: server.reason)
    await bench.turns(3)
    assert bench.reactor.openings._unfinished == (None, None)


@test
async def test_opening_a_connection_finishes_the_opening_before_it(bench: Bench) -> None:
    """When uvloop opens a connection, the reactor drops the one that was opened before."""
    one, other = Noting(), Noting()
    await bench.meet(one)
    await bench.meet(other)
    await bench.until(lambda: one.transport._stream is not None and other.transport._stream is not None)
    assert bench.reactor.openings._unfinished[0] is other.transport
