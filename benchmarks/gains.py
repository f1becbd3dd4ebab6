"""
How much processor time programs save on `tcpapp.reactor` beside Twisted's epoll reactor (see `benchmarks.both`).

Programs of other packages are measured if ``make conformance-more`` has installed them; Redis also needs redis-server.
"""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.both import ROOT, Work, alternating, announce, exactly
from benchmarks.report import Row, ratio_row

GROUP = "what programs gain by tcpapp.reactor"
EPOLL = "Twisted's epoll reactor"
CONNECTIONS = 20
MESSAGE = bytes(range(64))
PATIENCE = 20.0


def python_of(package: str) -> Path:
    """Return the Python of an environment that ``make conformance-more`` has made."""
    return ROOT / ".venv" / "more" / package / "bin" / "python"


# Servers --------------------------------------------------------------------------------------------------------------


def counted(reactor: Any, factory: Any, done: Callable[[], None]) -> None:
    """Serve a factory until all its connections are lost."""
    left = CONNECTIONS
    build = factory.buildProtocol

    def build_protocol(address: object) -> Any:
        protocol = build(address)
        lost = protocol.connectionLost

        def connection_lost(*reason: Any) -> None:
            nonlocal left
            lost(*reason)
            left -= 1
            if not left:
                listening.stopListening()
                done()

        protocol.connectionLost = connection_lost
        return protocol

    factory.buildProtocol = build_protocol
    factory.noisy = False
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    announce(listening.getHost().port)


def web(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Serve requests by ``twisted.web``, over connections that stay open."""
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    class Hello(Resource):
        isLeaf = True  # noqa: N815 - Twisted's name

        def render_GET(self, request: Any) -> bytes:
            return MESSAGE

    counted(reactor, Site(Hello(), reactor=reactor), done)


def websocket(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Send messages back by autobahn's WebSocket server."""
    from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

    class Echo(WebSocketServerProtocol):
        def onMessage(self, payload: bytes, *binary: bool) -> None:
            self.sendMessage(payload, *binary)

    factory = WebSocketServerFactory()
    factory.protocol = Echo
    counted(reactor, factory, done)


def amp(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Answer calls of an AMP command with one argument."""
    from benchmarks.servers import amp_echo

    counted(reactor, amp_echo()[1], done)


def redis(reactor: Any, count: int, port: int, done: Callable[[], None]) -> None:
    """Send commands by txredisapi to redis-server, on several connections."""
    import txredisapi
    from twisted.internet.defer import Deferred, gatherResults

    async def some(connection: Any) -> None:
        for _ in range(count // CONNECTIONS):
            await connection.ping()
        await connection.disconnect()

    async def all_of_them() -> None:
        connections = [await txredisapi.Connection("127.0.0.1", port, reconnect=False) for _ in range(CONNECTIONS)]
        await gatherResults([Deferred.fromCoroutine(some(each)) for each in connections])

    Deferred.fromCoroutine(all_of_them()).addCallback(lambda _: done())


# Peers ----------------------------------------------------------------------------------------------------------------


def ping_pong(port: int, count: int, request: bytes, opening: bytes = b"") -> None:
    """Keep one request in flight on each connection. All replies are as long as the first one."""
    with ExitStack() as stack:
        poller = select.poll()
        peers = {}
        for _ in range(CONNECTIONS):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
            if opening:
                peer.sendall(opening)
                while not peer.recv(1 << 16).endswith(b"\r\n\r\n"):
                    pass
            peer.sendall(request)
            size = len(peer.recv(1 << 16))
            poller.register(peer, select.POLLIN)
            peers[peer.fileno()] = peer
        for peer in peers.values():
            peer.sendall(request)
        left = count - 2 * CONNECTIONS
        under_way = CONNECTIONS
        while under_way:
            for number, _ in poller.poll(PATIENCE * 1000):
                exactly(peers[number], size)
                under_way -= 1
                if left > 0:
                    peers[number].sendall(request)
                    left -= 1
                    under_way += 1


def requests(port: int, count: int) -> None:
    """Run the peers of `web`."""
    ping_pong(port, count, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def frames(port: int, count: int) -> None:
    """Run the peers of `websocket`, with frames of RFC 6455 that are masked by zeros."""
    opening = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    ping_pong(port, count, b"\x82" + bytes([0x80 | len(MESSAGE)]) + bytes(4) + MESSAGE, opening)


def calls(port: int, count: int) -> None:
    """Run the peers of `amp`."""
    pairs = ((b"_ask", b"1"), (b"_command", b"Echo"), (b"data", MESSAGE))
    box = b"".join(len(each).to_bytes(2, "big") + each for pair in pairs for each in pair) + bytes(2)
    ping_pong(port, count, box)


WORKS = (
    Work("twisted.web, requests", 1000, web, requests),
    Work("AMP, calls", 2000, amp, calls),
    Work("autobahn, WebSocket messages", 2000, websocket, frames, python=python_of("autobahn")),
    Work("txredisapi, commands", 2000, redis, python=python_of("txredisapi")),
)


@contextmanager
def redis_server() -> Iterator[int]:
    """Run redis-server on a port of its own, and give the port, or 0 if it is not installed."""
    found = shutil.which("redis-server")
    if not found:
        yield 0
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def run(rounds: int, quick: bool) -> list[Row]:
    """Return a row for each available program."""
    with redis_server() as port:
        there = [
            number for number, each in enumerate(WORKS) if each.python.exists() and (port or each.begin is not redis)
        ]
        return [
            ratio_row(GROUP, work.name, ours, EPOLL, epoll, unit="us")
            for work, ours, epoll in alternating("benchmarks.gains", there, port, rounds)
        ]
