"""Connections that end in any way on a real reactor leave no objects behind, with Python's collector off."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tcpapp import Telemetry, Timeouts
from tcpapp.telemetry import Closed, NeverOpened

from .peers import bounded

RESET = struct.pack("ii", 1, 0)
ENDS = 200
"""Connections of a round, whose ends are mixed. Objects are counted after equal rounds.

One kind of end that kept its connections would keep 25 of them, with 20 objects each. Twisted keeps up to 50 cancelled
timers for a while."""


async def app(message: bytes, connection: Any) -> bytes:
    if message == b"wait":
        await Deferred()
    elif message == b"send":
        await connection.send(b"x" * 600_000)
    elif message == b"fail":
        raise ValueError(message)
    return message


def one_end(port: int, kind: int, context: ssl.SSLContext | None) -> None:
    """Connect, and leave in one of eight ways."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with plain if context is None or kind == 0 else context.wrap_socket(plain) as client:
        said = [b"", b"hello\n", b"hal", b"wait\n", b"send\n", b"fail\n", b"x" * 3000 + b"\n", b"hello\nhel"][kind]
        client.sendall(said)
        if kind in (1, 4, 5, 7):
            client.recv(100)
        if kind in (3, 4):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif kind == 7 and context is None:
            client.shutdown(socket.SHUT_WR)


def many_ends(port: int, context: ssl.SSLContext | None) -> None:
    for number in range(ENDS):
        one_end(port, number % 8, context)


def leave_handshakes(port: int) -> None:
    """Begin TLS handshakes. Reset every second connection, and wait until the server has ended the others."""
    begin = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), begin, server_hostname="localhost").do_handshake()
    hello = begin.read()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(ENDS)]
        for each in clients:
            each.sendall(hello)
        for each in clients[::2]:
            each.recv(1)  # the server has answered, unless the handshake's time was over
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            each.close()
        for each in clients[1::2]:
            with suppress(ConnectionResetError):
                while each.recv(4096):
                    pass


class Ended:
    """A listener that counts ended connections, and fires `waiter` when all have ended."""

    def __init__(self) -> None:
        self.count = 0
        self.waiter: Deferred[None] | None = None

    def __call__(self, event: Any) -> None:
        if isinstance(event, (Closed, NeverOpened)):
            self.count += 1
            if self.count == ENDS and self.waiter is not None:
                self.waiter.callback(None)

    def again(self) -> Deferred[None]:
        self.count, self.waiter = 0, Deferred()
        return self.waiter


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file that holds a server's certificate and key."""
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@bounded
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_ended_connections_are_no_garbage(
    tls: bool, serve: Any, certificate: Path, global_reactor: Any, no_collector: None
) -> None:
    """After a third round of 200 mixed ends there are as many objects as after the second."""
    ended = Ended()
    endpoint = f"tls:0:interface=127.0.0.1:certificate={certificate}" if tls else "tcp:0:interface=127.0.0.1"
    server = await serve(app, endpoint, framing="line:max=2000", telemetry=Telemetry(ended))
    context = ssl.create_default_context() if tls else None
    if context is not None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await leaves_nothing(server, ended, partial(many_ends, server.port, context), global_reactor)


@bounded
async def test_handshakes_that_were_begun_and_left_are_no_garbage(
    serve: Any, certificate: Path, global_reactor: Any, no_collector: None
) -> None:
    """Handshakes that the client resets, and handshakes that the server ends by their timeout, leave no objects."""
    ended = Ended()
    endpoint = f"tls:0:interface=127.0.0.1:certificate={certificate}"
    server = await serve(app, endpoint, telemetry=Telemetry(ended), timeouts=Timeouts(tls_handshake=0.5))
    await leaves_nothing(server, ended, partial(leave_handshakes, server.port), global_reactor)


async def leaves_nothing(server: Any, ended: Ended, clients: Callable[[], None], reactor: Any) -> None:
    """Run `clients` three times, and check that the third round leaves as many objects as the second."""
    left = []
    for _ in range(3):
        all_ended = ended.again()
        left_by_all = deferToThread(clients)
        await all_ended
        await left_by_all  # the loop runs meanwhile: uvloop closes a socket in the turn after its end
        for _ in range(2):  # in the first turn, cancelled timers are freed
            await deferLater(reactor, 0)
        left.append(len(gc.get_objects()))
        if len(left) == 1:
            gc.collect()  # objects that are made once, and leftovers of the first round, do not matter
    assert left[2] - left[1] < ENDS
    assert (server.info().connections, server.info().buffered) == (0, 0)
