"""tcpapp's framings work with asyncio's streams: each side is once the client and once the server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

import tcpapp
from tests.patience import PATIENCE

MESSAGES = [b"hello", b"", b"x" * 5000, *[b"number %d" % n for n in range(100)]]


async def read_line(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\n"))[:-1]


async def read_prefixed(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


FRAMINGS: dict[str, tuple[Any, Any]] = {
    "line": (read_line, lambda message: message + b"\n"),
    "int32": (read_prefixed, lambda message: len(message).to_bytes(4, "big") + message),
}
"""How a program without tcpapp reads and writes each framing."""


def upper(message: bytes, connection: tcpapp.Connection) -> bytes:
    return message.upper()


@pytest.mark.parametrize("spec", FRAMINGS)
@pytest_twisted.ensureDeferred
async def test_a_tcpapp_server_answers_an_asyncio_client(spec: str, global_reactor: Any) -> None:
    """A client on asyncio streams gets every answer from a tcpapp server in order, and then a clean end of stream."""
    read, write = FRAMINGS[spec]
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", upper, framing=spec, reactor=global_reactor)

    async def client() -> tuple[list[bytes], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"".join(map(write, MESSAGES)))
        writer.write_eof()
        answers = [await read(reader) for _ in MESSAGES]
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answers, rest

    waiting = deferToThread(lambda: asyncio.run(asyncio.wait_for(client(), PATIENCE)))
    assert await waiting == ([message.upper() for message in MESSAGES], b"")
    await server.close()


@pytest.mark.parametrize("spec", FRAMINGS)
@pytest_twisted.ensureDeferred
async def test_an_asyncio_server_answers_a_tcpapp_client(spec: str, global_reactor: Any) -> None:
    """A server on asyncio streams answers every request of a tcpapp client."""
    read, write = FRAMINGS[spec]
    listening: Deferred[int] = Deferred()
    served: list[bytes] = []

    async def serve() -> None:
        over = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    message = await read(reader)
                    served.append(message)
                    writer.write(write(message.upper()))
                    await writer.drain()
            except asyncio.IncompleteReadError:
                writer.close()
                over.set()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            global_reactor.callFromThread(listening.callback, port)
            await over.wait()

    done: Deferred[None] = Deferred()

    def run() -> None:
        asyncio.run(asyncio.wait_for(serve(), PATIENCE))
        global_reactor.callFromThread(done.callback, None)

    threading.Thread(target=run, daemon=True).start()
    port = await listening.addTimeout(PATIENCE, global_reactor)
    client = await tcpapp.connect(f"tcp:127.0.0.1:{port}", framing=spec, reactor=global_reactor)
    asked = gatherResults([client.request(message) for message in MESSAGES])
    assert await asked.addTimeout(PATIENCE, global_reactor) == [message.upper() for message in MESSAGES]
    await client.close()
    await done.addTimeout(PATIENCE, global_reactor)
    assert served == MESSAGES
