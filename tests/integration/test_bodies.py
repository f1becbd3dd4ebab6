"""Bodies over real ports: larger than all buffers, in both directions at once, and read by nobody."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp import Limits, Timeouts
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected
from tcpapp.framing import Body
from tests.framing.bodies import store

from .peers import bounded, until

SIZE = 12_000_000
"""Bytes of a body: more than the buffers of both ends can hold."""

LOOPBACK = "tcp:0:interface=127.0.0.1"

QUIET = Timeouts(first_message=0, idle=0)

BLOCK = b"".join(b"%015d\n" % number for number in range(4000))


def exchange(port: int, size: int) -> tuple[int, bool]:
    """Send a body of `size` bytes and read the reply meanwhile. Returns its length, and whether it is the body."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)

        def send() -> None:
            client.sendall(b"set %d\r\n" % size)
            for place in range(0, size, len(BLOCK)):
                client.sendall(BLOCK[: size - place])
            client.sendall(b"\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        received, same = 0, True
        while received < size:
            chunk = client.recv(100_000)
            begin = received % len(BLOCK)
            same = same and (BLOCK * 4)[begin : begin + len(chunk)] == chunk
            received += len(chunk)
        sender.join()
    return received, same


@bounded
async def test_a_body_is_sent_back_as_it_comes(global_reactor: Any) -> None:
    """An app that sends a body back holds a few pieces of it, however long it is."""
    held: list[int] = []

    async def pieces(body: Body, connection: Any) -> AsyncIterator[bytes]:
        async for piece in body:
            held.append(protocol_of(connection)._buffered.held_bytes)
            yield piece

    async def app(message: Any, connection: Any) -> None:
        await connection.send_stream(pieces(message[1], connection), size=message[1].size)

    server = await tcpapp.listen(
        "tcp:0:interface=127.0.0.1", app, framing=store(), timeouts=QUIET, reactor=global_reactor
    )
    assert await deferToThread(exchange, server.port, SIZE) == (SIZE, True)
    await until(global_reactor, lambda: not server.connections)
    await server.close()
    assert max(held) < 12 * Limits().inbox_high
    assert server.info().buffered == 0


@bounded
async def test_a_peer_waits_while_the_app_does_not_read(global_reactor: Any) -> None:
    """A client's long body fills the buffers between both ends, and no more; then the app reads it to its end."""
    given: Deferred[Any] = Deferred()
    go_on: Deferred[None] = Deferred()

    async def app(message: Any, connection: Any) -> bytes:
        given.callback((message[1], connection))
        await go_on
        length = 0
        async for piece in message[1]:
            length += len(piece)
        return b"%d" % length

    server = await tcpapp.listen(
        "tcp:0:interface=127.0.0.1", app, framing=store(), timeouts=QUIET, reactor=global_reactor
    )
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing="raw", reactor=global_reactor)
    client.send(b"set %d\r\n" % SIZE)
    sent = client.send_stream((bytes(100_000) for _ in range(SIZE // 100_000)), size=SIZE)
    client.send(b"\r\n")
    body, connection = await given
    await until(
        global_reactor, lambda: any(each.reason == "body-full" for each in protocol_of(connection).info().holds)
    )
    assert body.held < 8 * Limits().inbox_high
    assert not sent.called
    go_on.callback(None)
    assert await client.receive() == b"%d" % SIZE
    assert await sent == SIZE
    await client.close()
    await server.close()
    assert server.info().buffered == 0


@bounded
async def test_a_body_that_nobody_reads_is_dropped(global_reactor: Any) -> None:
    """A function that refuses a long body replies at once, and serves the next message behind it."""

    def app(message: Any, connection: Any) -> bytes:
        return b"-" if message[1] is None else b"too long"

    server = await tcpapp.listen(
        "tcp:0:interface=127.0.0.1", app, framing=store(), timeouts=QUIET, reactor=global_reactor
    )
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing="raw", reactor=global_reactor)
    client.send(b"set %d\r\n" % SIZE)
    assert await client.receive() == b"too long"
    await client.send_stream(bytes(100_000) for _ in range(SIZE // 100_000))
    client.send(b"\r\nget\r\n")
    assert await client.receive() == b"-"
    await client.close()
    await server.close()
    assert server.info().buffered == 0


@pytest.mark.parametrize("rule", ["lost", "body-timeout"])
@bounded
async def test_a_client_that_leaves_inside_a_body_fails_its_reader(global_reactor: Any, rule: str) -> None:
    """The reader of a body gets the reason when the client is gone, or sends nothing more."""
    told: Deferred[Any] = Deferred()
    begun: Deferred[None] = Deferred()

    async def app(message: Any, connection: Any) -> None:
        begun.callback(None)
        try:
            await message[1].read()
        except NotConnected as error:
            told.callback(error.reason.rule)
            raise

    timeouts = Timeouts(first_message=0, idle=0, body_timeout=0.2 if rule == "body-timeout" else 60)
    server = await tcpapp.listen(LOOPBACK, app, framing=store(), timeouts=timeouts, reactor=global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{server.port}", framing="raw", reactor=global_reactor)
    await client.send(b"set 1000\r\nabc")
    await begun
    if rule == "lost":
        client.abort()
    assert await told == rule
    client.abort()
    await server.close()
