"""A message is not lost if the task that waits for it is cancelled: it is received next."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp import aio
from tcpapp.codecs import Json
from tcpapp.errors import NotConnected, UndecodableMessage
from tests.peers import Peer

pytestmark = pytest.mark.once  # a loop of asyncio cannot run inside another


async def by_receive(connection: Any) -> Any:
    """Wait for the next message."""
    return await connection.receive()


async def by_iteration(connection: Any) -> Any:
    """Wait for the next message in a loop."""
    async for message in connection:
        return message
    return None


async def with_a_timeout(connection: Any) -> Any:
    """Wait for the next message with a timeout."""
    return await asyncio.wait_for(connection.receive(), 60)


async def in_a_block_with_a_timeout(connection: Any) -> Any:
    """Wait for the next message in a block with a timeout, which Python has from 3.11 on."""
    if sys.version_info < (3, 11):
        pytest.skip("asyncio.timeout is of Python 3.11")
    async with asyncio.timeout(60):
        return await connection.receive()


async def cancelled_as_it_comes(peer: Peer, *tasks: asyncio.Task[Any], says: bytes) -> None:
    """Let the peer send a message, and cancel the tasks that wait for it before they run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    peer.says(says)
    for each in tasks:
        each.cancel()
    for each in tasks:
        with pytest.raises(asyncio.CancelledError):
            await each


@pytest.mark.parametrize("wait", [by_receive, by_iteration, with_a_timeout, in_a_block_with_a_timeout])
def test_a_message_of_a_cancelled_task_is_received_next(wait: Callable[[Any], Awaitable[Any]]) -> None:
    """The message is received next and in order, also by another `Native` of the same connection."""

    async def main() -> None:
        peer = Peer()
        task = asyncio.ensure_future(wait(aio.Native(peer.connection)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        peer.says(b"first\nsecond\n")
        task.cancel()
        try:
            received = [await task]  # wait_for of Python 3.10 and 3.11 still returns the message
        except asyncio.CancelledError:
            received = [await aio.Native(peer.connection).receive()]
        received.append(await aio.Native(peer.connection).receive())
        assert received == [b"first", b"second"]

    asyncio.run(main())


def test_messages_of_several_cancelled_tasks_keep_their_order() -> None:
    """Messages of cancelled tasks are received before later messages."""

    async def main() -> None:
        peer = Peer()
        connection = aio.Native(peer.connection)
        tasks = [asyncio.ensure_future(by_receive(connection)) for _ in range(2)]
        await cancelled_as_it_comes(peer, *tasks, says=b"first\nsecond\nthird\n")
        assert [await connection.receive() for _ in range(3)] == [b"first", b"second", b"third"]

    asyncio.run(main())


def test_a_message_of_a_cancelled_task_goes_to_a_waiting_task() -> None:
    """The next waiting task gets the message, and the task behind it gets the next one."""

    async def main() -> None:
        peer = Peer()
        connection = aio.Native(peer.connection)
        cancelled, *waiting = [asyncio.ensure_future(by_receive(connection)) for _ in range(3)]
        await cancelled_as_it_comes(peer, cancelled, says=b"first\n")
        peer.says(b"second\n")
        assert await asyncio.gather(*waiting) == [b"first", b"second"]
        peer.says(b"third\n")
        assert await connection.receive() == b"third"

    asyncio.run(main())


def test_a_task_that_is_cancelled_before_its_message_came_takes_none() -> None:
    """A task that is cancelled before its message comes leaves the message to the next receive."""

    async def main() -> None:
        peer = Peer()
        connection = aio.Native(peer.connection)
        task = asyncio.ensure_future(by_receive(connection))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        peer.says(b"first\n")
        assert await connection.receive() == b"first"

    asyncio.run(main())


def test_a_message_of_a_cancelled_task_is_received_after_the_end() -> None:
    """After the end, the message of a cancelled task can be received, as all earlier messages."""

    async def main() -> None:
        peer = Peer()
        connection = aio.Native(peer.connection)
        await cancelled_as_it_comes(peer, asyncio.ensure_future(by_receive(connection)), says=b"first\n")
        peer.resets()
        assert await connection.receive() == b"first"
        with pytest.raises(NotConnected):
            await connection.receive()

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [0, 1], ids=["received next", "waited for"])
def test_an_error_of_a_cancelled_task_is_not_lost(waiting: int) -> None:
    """If a codec delivers an undecodable message to a cancelled task, the next receive raises the error."""

    async def main() -> None:
        peer = Peer(codec=Json(invalid="deliver"))
        connection = aio.Native(peer.connection)
        tasks = [asyncio.ensure_future(by_receive(connection)) for _ in range(1 + waiting)]
        await cancelled_as_it_comes(peer, tasks[0], says=b"no value\n")
        with pytest.raises(UndecodableMessage):
            await (tasks[1] if waiting else connection.receive())
        peer.says(b"1\n")
        assert await connection.receive() == 1

    asyncio.run(main())


class Client:
    """A client that gives messages without a connection."""

    def __init__(self) -> None:
        self.waits: list[Deferred[Any]] = []

    def receive(self) -> Deferred[Any]:
        """Wait for a message."""
        self.waits.append(Deferred())
        return self.waits[-1]


def test_a_message_of_any_client_is_received_next() -> None:
    """The message of a `Client` or a `Pool` is received next, and the client is not asked for another one."""

    async def main() -> None:
        client = Client()
        task = asyncio.ensure_future(by_receive(aio.Native(client)))
        await asyncio.sleep(0)
        client.waits[0].callback(b"first")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await aio.Native(client).receive() == b"first"
        assert len(client.waits) == 1

    asyncio.run(main())
