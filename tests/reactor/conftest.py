"""
Fixtures of the tests of the uvloop reactor: run them with ``-p tests.reactors --reactor=uvloop``.

On another reactor these tests are not collected.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import interfaces
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.reactor.loop import Loop
from tcpapp.reactor.uvloopreactor import UvloopReactor
from tests.patience import PATIENCE
from tests.testing.contract.conftest import contexts

__all__ = ["Bench", "HalfClosing", "Noting", "Watcher", "connected", "contexts", "go_round", "in_another_thread"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out on another reactor."""
    return True if config.getoption("reactor") != "uvloop" else None


class Noting(Protocol):
    """A protocol that notes its calls, and calls the ``on_…`` functions that a test sets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.chunks: list[int] = []
        self.notes: list[str] = []
        self.reason: Any = None
        self.on_made: Callable[[Any], object] = lambda _: None
        self.on_data: Callable[[Any], object] = lambda _: None
        self.on_lost: Callable[[Any], object] = lambda _: None

    def connectionMade(self) -> None:
        self.notes.append("made")
        self.on_made(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.chunks.append(len(data))
        self.on_data(self)

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason
        self.notes.append("lost")
        self.on_lost(self)

    # The methods of a producer
    def pauseProducing(self) -> None:
        self.notes.append("paused")

    def resumeProducing(self) -> None:
        self.notes.append("resumed")

    def stopProducing(self) -> None:
        self.notes.append("stopped")


@implementer(interfaces.IHalfCloseableProtocol)
class HalfClosing(Noting):
    """A `Noting` protocol with half-close: a half-close is noted, and does not end the connection."""

    def readConnectionLost(self) -> None:
        self.notes.append("read lost")

    def writeConnectionLost(self) -> None:
        self.notes.append("write lost")


# Reactors that are driven by hand ------------------------------------------------------------------------------------


@pytest.fixture
def other() -> Iterator[Any]:
    """Give a uvloop reactor of its own, which does not run."""
    reactor = UvloopReactor(Loop())
    yield reactor
    in_another_thread(lambda: end(reactor))


@pytest.fixture(params=["uvloop", "epoll"])
def either(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give a reactor of its own, which does not run: once the uvloop reactor, and once Twisted's epoll reactor."""
    if request.param == "epoll":
        reactor = pytest.importorskip("twisted.internet.epollreactor").EPollReactor()
    else:
        reactor = UvloopReactor(Loop())
    yield reactor
    in_another_thread(lambda: end(reactor))


def end(reactor: Any) -> None:
    """Close everything that a reactor has."""
    for each in MET.pop(reactor, []):
        if "lost" not in each.notes and each.transport is not None:
            each.on_lost = lambda _: None
            each.transport.abortConnection()
    for each in reactor.removeAll():
        each.connectionLost(Failure(ConnectionLost()))
    reactor.iterate()
    for each in list(reactor._internalReaders):
        reactor.removeReader(each)
        each.connectionLost(None)
    if hasattr(reactor, "_asyncioEventloop"):
        reactor._asyncioEventloop.close()
    else:
        reactor._poller.close()


def in_another_thread(call: Callable[[], Any]) -> Any:
    """Return the result of `call` in a thread without a running reactor, so that a test can drive one there."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def go_round(reactor: Any, true: Callable[[], object]) -> None:
    """Run rounds of the reactor until `true()` holds."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "the condition does not hold in time"
        reactor.iterate()


MET: dict[Any, list[Any]] = {}
"""The protocols of each reactor that a test drives. Their open connections are closed at the end."""


def connected(reactor: Any, server: Any = None, family: int = socket.AF_INET) -> tuple[Any, socket.socket]:
    """Connect a protocol to a plain socket, on a reactor that the test drives."""
    server = server or Noting()
    MET.setdefault(reactor, []).append(server)
    factory: Any = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda _: server
    ours, peer = socket.socketpair() if family == socket.AF_UNIX else tcp_pair()
    ours.setblocking(False)
    reactor.adoptStreamConnection(ours.fileno(), family, factory)
    ours.close()
    for _ in range(3):
        reactor.iterate()
    return server, peer


def at_number(skt: socket.socket, descriptor: int) -> socket.socket:
    """Return the socket under this descriptor, which its owner has closed, or closes by this."""
    if skt.fileno() == descriptor:
        return skt
    os.dup2(skt.fileno(), descriptor)
    skt.close()
    return socket.socket(fileno=descriptor)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two sockets that are connected over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname(), PATIENCE)
        return listening.accept()[0], one


def has_come(peer: socket.socket) -> bytes | None:
    """Return the bytes that a plain socket can read now, or None if there are none."""
    if not select.select([peer], [], [], 0)[0]:
        return None
    return peer.recv(1 << 16)


@implementer(interfaces.IReadDescriptor, interfaces.IWriteDescriptor)
class Watcher:
    """A reader and writer of a descriptor, as a program writes one. It notes what it reads."""

    def __init__(self, descriptor: Callable[[], int], read: Callable[[], object] = lambda: None) -> None:
        self.fileno = descriptor
        self._read = read
        self.notes: list[Any] = []
        self.on_write: Callable[[], object] = lambda: None

    def logPrefix(self) -> str:
        return "watcher"

    def doRead(self) -> Any:
        self.notes.append(self._read())

    def doWrite(self) -> Any:
        self.notes.append("can write")
        return self.on_write()

    def connectionLost(self, reason: Any) -> None:
        self.notes.append(f"lost: {reason.type.__name__}")


@contextmanager
def watched_both_ways(reactor: Any) -> Iterator[tuple[Watcher, socket.socket]]:
    """Give an object that reads a socket and writes it once, and the other end of the socket."""
    ours, peer = socket.socketpair()
    with ours, peer:
        both = Watcher(ours.fileno, lambda: ours.recv(10))
        both.on_write = lambda: reactor.removeWriter(both)
        reactor.addReader(both)
        reactor.addWriter(both)
        yield both, peer


def call_in_turn(reactor: Any, call: Callable[[str], object]) -> None:
    """Ask for calls by timers and from threads, in turn; each call gets its name."""
    reactor.callLater(0, call, "timer 1")
    reactor.callFromThread(call, "thread 1")
    reactor.callLater(0, call, "timer 2")
    reactor.callFromThread(call, "thread 2")
    reactor.callLater(0.001, call, "a millisecond")


# The reactor that the tests run on -----------------------------------------------------------------------------------


class Bench:
    """A reactor, servers on it, and plain sockets as their peers."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self.reactor = reactor
        self.folder = folder
        self._ports: list[Any] = []
        self._sockets: list[socket.socket] = []
        self._made: list[Noting] = []

    async def until(self, true: Callable[[], object]) -> None:
        """Let turns of the reactor pass until `true()` holds; on a busy machine that can be many."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, "the condition does not hold in time"
            await deferLater(self.reactor, 0)

    async def turns(self, count: int = 20) -> None:
        """Let some turns of the reactor pass."""
        for _ in range(count):
            await deferLater(self.reactor, 0)

    def serving(self, *protocols: Any, unix: bool = False) -> Any:
        """Listen with one of `protocols` for each connection. Return the port or path to connect to."""
        factory: Any = Factory()
        left = list(protocols)
        factory.buildProtocol = lambda _address: left.pop(0)
        self._made += protocols
        if unix:
            path = str(self.folder / f"{len(self._ports)}.sock")
            self._ports.append(self.reactor.listenUNIX(path, factory))
            return path
        self._ports.append(self.reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return self._ports[-1].getHost().port

    @property
    def listening(self) -> Any:
        """Return the last port that listens."""
        return self._ports[-1]

    def dial(self, where: Any) -> socket.socket:
        """Return a connected plain socket."""
        if isinstance(where, str):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(where)
        else:
            peer = socket.create_connection(("127.0.0.1", where))
        peer.setblocking(False)
        self._sockets.append(peer)
        return peer

    async def meet(self, protocol: Any, *, unix: bool = False) -> socket.socket:
        """Return a plain socket that is connected to `protocol`."""
        peer = self.dial(self.serving(protocol, unix=unix))
        await self.until(lambda: "made" in protocol.notes)
        return peer

    async def read(self, peer: socket.socket, size: int) -> bytes:
        """Read this many bytes from a plain socket, or fewer if it ends before."""
        found = bytearray()
        while len(found) < size:
            try:
                some = peer.recv(1 << 16)
            except BlockingIOError:
                await deferLater(self.reactor, 0)
                continue
            if not some:
                break
            found += some
        return bytes(found)

    def keep(self, each: socket.socket) -> socket.socket:
        """Keep a socket, which is closed at the end."""
        self._sockets.append(each)
        return each

    async def end(self) -> None:
        """Close all ports, sockets and connections."""
        for port in self._ports:
            await (port.stopListening() or deferLater(self.reactor, 0))
        for each in self._sockets:
            each.close()
        for each in self._made:
            if "made" in each.notes and "lost" not in each.notes and each.transport is not None:
                each.on_lost = lambda _: None
                each.transport.abortConnection()
        await self.turns(5)


@pytest.fixture
def bench(global_reactor: Any, tmp_path: Path) -> Iterator[Bench]:
    """Give a `Bench`. Everything that is open on it is closed after the test."""
    import pytest_twisted

    made = Bench(global_reactor, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()))
