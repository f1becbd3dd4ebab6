"""Bodies and streams in programs of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tcpapp import aio
from tcpapp.limits import Timeouts
from tests.client.test_aio import STARTS, runs_on
from tests.framing.bodies import store
from tests.peers import Peer

pytestmark = pytest.mark.once  # a loop of asyncio cannot run inside another

QUIET = Timeouts(first_message=0, idle=0)


async def turns() -> None:
    """Let tasks go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_steps_of_a_source_can_await_asyncio() -> None:
    """An async generator that awaits asyncio is sent, and closed when the stream is cut."""
    closed: list[Any] = []

    async def pieces(count: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(count):
                await asyncio.sleep(0)
                assert asyncio.current_task() is not None
                yield b"piece "
            await asyncio.sleep(3600 if count == 1 else 0)
        finally:
            closed.append(count)

    async def main() -> None:
        peer = Peer(None, timeouts=QUIET)
        connection = aio.Native(peer.connection)
        assert await connection.send_stream(pieces(3)) == 18
        assert await connection.send_stream([b"and ", b"bytes"], size=9) == 9
        assert peer.hears() == b"piece piece piece and bytes"
        sending = connection.send_stream(pieces(1))
        await turns()
        sending.cancel()
        await turns()
        assert (closed, peer.transport.aborted) == ([3, 1], True)

    asyncio.run(main())


def test_an_iterator_without_aclose_is_sent() -> None:
    """An object that has `__anext__` alone is a source in asyncio, too."""

    class One:
        given = False

        def __aiter__(self) -> One:
            return self

        async def __anext__(self) -> bytes:
            if self.given:
                raise StopAsyncIteration
            self.given = True
            return b"one"

    async def main() -> None:
        peer = Peer(None, timeouts=QUIET)
        assert await aio.Native(peer.connection).send_stream(One()) == 3
        await turns()

    asyncio.run(main())


def test_an_app_of_asyncio_reads_a_body() -> None:
    """A coroutine of asyncio reads a body as it comes, and its body is discarded when it has ended."""
    bodies: list[Any] = []

    async def app(message: Any, connection: Any) -> bytes:
        bodies.append(message[1])
        async for piece in message[1]:
            await asyncio.sleep(0)
            if piece == b"x":
                break
        return b"%d;" % message[1].received

    async def main() -> None:
        peer = Peer(aio.app(app), store(), timeouts=QUIET)
        peer.says(b"set 6\r\nabc")
        await turns()
        peer.says(b"def\r\nset 5\r\n")
        await turns()
        peer.says(b"x")
        await turns()
        assert (peer.hears(), [each.is_discarded for each in bodies]) == (b"6;1;", [False, True])
        peer.resets()

    asyncio.run(main())


PROGRAM = """
import asyncio

from tcpapp import aio
from tcpapp.framing import parser, stream, until

SIZE = 3_000_000


@parser
def sized():
    size = int((yield until(b"\\r\\n")))
    return size, (yield stream(size))


async def back(message, connection):
    size, body = message

    async def pieces():
        async for piece in body:
            await asyncio.sleep(0)
            yield piece

    connection.send(b"%d\\r\\n" % size)
    await connection.send_stream(pieces(), size=size)


async def main():
    async with await aio.listen("tcp:0:interface=127.0.0.1", aio.app(back), framing=sized()) as server:
        client = await aio.connect(f"tcp:127.0.0.1:{server.port}", framing=sized())
        client.send(b"%d\\r\\n" % SIZE)
        sending = client.send_stream((bytes(10_000) for _ in range(SIZE // 10_000)), size=SIZE)
        size, body = await client.receive()
        length = 0
        async for piece in body:
            length += len(piece)
        print(size, length, await sending)
        await client.close()
"""


@pytest.mark.parametrize("reactor", STARTS)
def test_a_body_goes_there_and_back_in_a_program_of_asyncio(reactor: str, tmp_path: Path) -> None:
    """A program of asyncio sends a body, and reads it again as it comes back, on both reactors."""
    assert runs_on(reactor, PROGRAM, tmp_path).splitlines() == ["3000000 3000000 3000000"]
