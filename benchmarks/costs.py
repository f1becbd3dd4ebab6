"""The costs of turns, threads and connections on `tcpapp.reactor`, as ratios to Twisted's epoll reactor."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.both import Work, alternating, announce, exactly
from benchmarks.report import Row

GROUP = "costs of tcpapp.reactor: less is better"
EPOLL = "Twisted's epoll reactor"
GOAL = 1.1
MESSAGE = bytes(range(64))
PATIENCE = 20.0


# The costs -----------------------------------------------------------------------------------------------------------


def calls_at_once(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Call ``callLater(0)`` in each turn."""
    left = count

    def turn() -> None:
        nonlocal left
        left -= 1
        if left:
            reactor.callLater(0, turn)
        else:
            done()

    reactor.callLater(0, turn)


def resets(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Reset a timeout in each turn."""
    left, timeout = count, reactor.callLater(30, done)

    def turn() -> None:
        nonlocal left
        left -= 1
        timeout.reset(30)
        if left:
            reactor.callLater(0, turn)
        else:
            timeout.cancel()
            done()

    reactor.callLater(0, turn)


def threads(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Call ``deferToThread`` again and again, one call after the other."""
    from twisted.internet.defer import Deferred
    from twisted.internet.threads import deferToThread

    async def one_after_another() -> None:
        for _ in range(count):
            await deferToThread(int)

    Deferred.fromCoroutine(one_after_another()).addCallback(lambda _: done())


def connects(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Open connections and close them at once, one after the other."""
    from twisted.internet.protocol import ClientFactory, Protocol

    left = count

    class Closing(Protocol):
        def connectionMade(self):
            self.transport.loseConnection()

    class Again(ClientFactory):
        protocol = Closing
        noisy = False

        def clientConnectionLost(self, connector, reason):
            nonlocal left
            left -= 1
            if left:
                reactor.connectTCP("127.0.0.1", port, factory)
            else:
                done()

    factory = Again()
    reactor.connectTCP("127.0.0.1", port, factory)


def accepts(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Accept connections that send a message, get it back, and are closed by the peer."""
    from twisted.internet.protocol import Factory, Protocol

    left = count

    class Echo(Protocol):
        def dataReceived(self, data):
            self.transport.write(data)

        def connectionLost(self, reason=None):
            nonlocal left
            left -= 1
            if not left:
                listening.stopListening()
                done()

    factory = Factory.forProtocol(Echo)
    factory.noisy = False
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    announce(listening.getHost().port)


def one_after_another(port: int, count: int) -> None:
    """Connect the peers of `accepts`, one after the other."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as peer:
            peer.sendall(MESSAGE)
            if exactly(peer, len(MESSAGE)) != MESSAGE:
                raise RuntimeError("what came back is not what was sent")


WORKS = (
    Work("callLater(0)", 2000, calls_at_once),
    Work("a timeout reset in each turn", 2000, resets),
    Work("deferToThread, one after another", 400, threads, passing=True),
    Work("accept, echo, close", 100, accepts, one_after_another),
    Work("connect, close", 100, connects),
)


@contextmanager
def closing_peer() -> Iterator[int]:
    """Run a server that closes a connection when its peer has closed. Give its port."""

    def serve() -> None:
        while True:
            try:
                met, _ = listening.accept()
            except OSError:
                return  # closed
            with met:
                met.recv(1)

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def run(rounds: int, quick: bool) -> list[Row]:
    """Return a row for each cost."""
    rows = []
    with closing_peer() as port:
        for cost, ours, epoll in alternating("benchmarks.costs", range(len(WORKS)), port, rounds):
            ratios = [us / them for us, them in zip(ours, epoll, strict=True)]
            rows.append(Row(GROUP, cost.name, "us", ours, ratios, EPOLL, epoll, goal=GOAL, at_least=False))
    return rows
