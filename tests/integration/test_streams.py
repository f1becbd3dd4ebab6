"""Streams over real ports: files that the kernel sends, backpressure, and the ends of a stream."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp import Limits, Timeouts, conversation
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected, UnsendableStream
from tcpapp.transport import sendfile

from .peers import bounded, until

SIZE = 12_000_000
"""Bytes of a stream: more than the buffers of both ends can hold."""

CONTENT = b"".join(b"%015d\n" % number for number in range(SIZE // 16))
"""The content of a file, of which no two blocks are alike."""

QUIET = Timeouts(first_message=0, idle=0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file that holds a server's certificate and key."""
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the path of a file with `CONTENT`."""
    path: Path = tmp_path_factory.mktemp("files") / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def sent_by_kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list that gets the number of bytes of each part of a file that the kernel takes."""
    taken: list[int] = []
    if sendfile.HAS_SENDFILE:
        real = os.sendfile

        def noted(*arguments: Any) -> int:
            taken.append(real(*arguments))
            return taken[-1]

        monkeypatch.setattr("os.sendfile", noted)
    return taken


def read_all(address: Any, says: bytes, *, tls: bool = False) -> bytes:
    """Connect by a plain socket, send a request, and return what came until the end."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as plain:
        plain.settimeout(60)
        plain.connect(address)
        client: socket.socket = plain
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(plain)
        with client:
            client.sendall(says)
            received = bytearray()
            while chunk := client.recv(100_000):
                received += chunk
            return bytes(received)


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@bounded
async def test_a_file_is_sent_whole(
    global_reactor: Any, certificate: Path, file: Path, tmp_path: Path, sent_by_kernel: list[int], kind: str
) -> None:
    """A file arrives between the messages before and after it. Over a plain socket the kernel sends most of it."""
    told: list[Any] = []

    @conversation
    async def app(connection: Any) -> None:
        await connection.receive()
        connection.send(b"head")
        sending = connection.send_stream(file)
        tail = connection.send(b"tail")
        told.append(await sending)
        await tail
        told.append(protocol_of(connection).info().sent_bytes)

    endpoint = {
        "tcp": "tcp:0:interface=127.0.0.1",
        "unix": f"unix:{tmp_path / 'socket'}",
        "tls": f"tls:0:interface=127.0.0.1:certificate={certificate}",
    }[kind]
    server = await tcpapp.listen(endpoint, app, timeouts=QUIET, reactor=global_reactor)
    address = str(tmp_path / "socket") if kind == "unix" else ("127.0.0.1", server.port)
    data = await deferToThread(read_all, address, b"go\n", tls=kind == "tls")
    await server.close()
    assert data == b"head\n" + CONTENT + b"tail\n"
    assert told == [SIZE, SIZE + 10]
    if kind == "tls":
        assert sent_by_kernel == []
    elif sendfile.HAS_SENDFILE:
        assert sum(sent_by_kernel) > SIZE // 4


@pytest.mark.parametrize("asynchronous", [False, True])
@bounded
async def test_what_an_iterator_gives_waits_for_the_peer(global_reactor: Any, asynchronous: bool) -> None:
    """Pieces are taken as the client reads: never are more than a few held, of however many."""
    held: list[int] = []
    count = SIZE // 50_000

    def pieces(connection: Any) -> Iterator[bytes]:
        for number in range(count):
            held.append(protocol_of(connection)._buffered.held_bytes)
            yield b"%d" % (number % 10) * 50_000

    async def slowly(connection: Any) -> AsyncIterator[bytes]:
        for each in pieces(connection):
            await deferLater(global_reactor, 0)
            yield each

    @conversation
    async def app(connection: Any) -> None:
        await connection.receive()
        await connection.send_stream(slowly(connection) if asynchronous else pieces(connection), size=SIZE)

    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, timeouts=QUIET, reactor=global_reactor)
    data = await deferToThread(read_all, ("127.0.0.1", server.port), b"go\n")
    await server.close()
    assert data == b"".join(b"%d" % (number % 10) * 50_000 for number in range(count))
    assert max(held) <= 4 * Limits().write_high
    assert server.info().buffered == 0


@bounded
async def test_other_clients_are_served_during_a_stream(global_reactor: Any) -> None:
    """An endless source of small pieces leaves turns to all other connections."""

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x"

    @conversation
    async def app(connection: Any) -> None:
        message = await connection.receive()
        if message == b"endless":
            await connection.send_stream(endless())
        await connection.send(message)

    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, timeouts=QUIET, reactor=global_reactor)
    where = f"tcp:127.0.0.1:{server.port}"
    busy = await tcpapp.connect(where, framing="raw", reactor=global_reactor)
    busy.send(b"endless\n")
    await busy.receive()
    quick = await tcpapp.connect(where, reactor=global_reactor)
    assert await quick.request(b"hello") == b"hello"
    busy.abort()
    await server.close(0)


@pytest.mark.parametrize("how", ["abort", "close"])
@bounded
async def test_a_client_that_leaves_in_the_middle_ends_the_stream(
    global_reactor: Any, file: Path, how: str, sent_by_kernel: list[int]
) -> None:
    """A stream to a client that is gone fails with `NotConnected`, whether the kernel or the transport sent it."""
    failed: Deferred[Any] = Deferred()

    @conversation
    async def app(connection: Any) -> None:
        await connection.receive()
        sending = connection.send_stream(file)
        sending.addBoth(failed.callback)
        await connection.when_closed()

    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, timeouts=QUIET, reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing="raw", reactor=global_reactor)
    client.send(b"go\n")
    await client.receive()
    client.pause()
    if how == "abort":
        client.abort()
    else:
        client.close(0)
    with pytest.raises(NotConnected):
        await failed
    await server.close()
    assert server.info().buffered == 0


@bounded
async def test_a_file_that_shrinks_while_it_is_sent_cuts_the_connection(global_reactor: Any, tmp_path: Path) -> None:
    """The client of a file that has become shorter gets a reset, and not an end that looks whole."""
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(SIZE))
    told: Deferred[Any] = Deferred()

    @conversation
    async def app(connection: Any) -> None:
        await connection.receive()
        sending = connection.send_stream(path)
        os.truncate(path, 10)
        sending.addBoth(told.callback)
        await connection.when_closed()

    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, timeouts=QUIET, reactor=global_reactor)

    assert await deferToThread(read_until_reset, ("127.0.0.1", server.port)) == "reset"
    with pytest.raises(UnsendableStream):
        await told
    await server.close()


def read_until_reset(address: Any) -> str:
    """Read until the end, and return how the connection ended."""
    try:
        read_all(address, b"go\n")
    except ConnectionResetError:
        return "reset"
    return "end"


@bounded
async def test_two_streams_at_one_time_share_the_reactor(global_reactor: Any, file: Path) -> None:
    """Two clients that get the same file at one time both get all of it, and no descriptor is left."""

    @conversation
    async def app(connection: Any) -> None:
        await connection.receive()
        await connection.send_stream(file)

    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", app, timeouts=QUIET, reactor=global_reactor)
    reads = [deferToThread(read_all, ("127.0.0.1", server.port), b"go\n") for _ in range(2)]
    data = [await each for each in reads]
    assert data == [CONTENT] * 2
    await until(global_reactor, lambda: not server.connections)
    await server.close()
