"""Apps whose handlers are coroutines of asyncio."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed

from tcpapp import aio, batch, conversation
from tcpapp.close_reason import CloseReason
from tcpapp.errors import InvalidOption
from tests.peers import Peer


async def shout(message: bytes, connection: Any) -> bytes:
    """Reply in capitals."""
    await asyncio.sleep(0)
    assert asyncio.current_task() is not None
    assert isinstance(connection, aio.Native)
    return message.upper()


class Counts:
    """An app whose instances each have a connection, and count its messages."""

    told: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.count = 0

    async def opened(self, connection: Any) -> bytes:
        await asyncio.sleep(0)
        self.connections = {connection}
        return b"welcome"

    async def received(self, message: bytes, connection: Any) -> bytes:
        await asyncio.sleep(0)
        assert connection in self.connections
        self.count += 1
        return b"%d" % self.count

    def draining(self, connection: Any) -> bytes:
        return b"%s leaves" % type(connection).__name__.encode()

    def closed(self, connection: Any, reason: CloseReason) -> None:
        self.told.append((type(connection), self.count, reason.rule))


class Batched:
    """An app in the batch form."""

    async def received_all(self, messages: list[bytes], connection: Any) -> list[bytes]:
        await asyncio.sleep(0)
        return [b" ".join(messages)]


@batch
async def joins(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all at once."""
    await asyncio.sleep(0)
    return [b"+".join(messages)]


@conversation
async def talks(connection: Any) -> None:
    """Reply in capitals, as long as the connection lives."""
    async for message in connection:
        await asyncio.sleep(0)
        await connection.send(message.upper())


def at_once(message: bytes, connection: Any) -> bytes:
    """Reply without waiting."""
    assert isinstance(connection, aio.Native)
    return message.upper()


def later(message: bytes, connection: Any) -> Deferred[bytes]:
    """Reply with a Deferred, as an app of Twisted can."""
    return succeed(message.upper())


async def said_to(app: Any, *said: bytes) -> Peer:
    """Return a peer of `app` that has sent these chunks, after some turns of the loop."""
    peer = Peer(app)
    for each in (b"", *said):
        if each:
            peer.says(each)
        for _ in range(10):
            await asyncio.sleep(0)
    return peer


@pytest.mark.parametrize(
    ("native", "replies"),
    [
        (shout, b"ONE\nTWO\n"),
        (at_once, b"ONE\nTWO\n"),
        (later, b"ONE\nTWO\n"),
        (partial(shout), b"ONE\nTWO\n"),
        (talks, b"ONE\nTWO\n"),
        pytest.param(aio.conversation(talks.talk), b"ONE\nTWO\n", id="talks already"),
        (joins, b"one+two\n"),
        (Batched(), b"one two\n"),
        (Batched, b"one two\n"),
        (Counts, b"welcome\n1\n2\n"),
        (Counts(), b"welcome\n1\n2\n"),
    ],
)
def test_an_app_of_any_form_can_await_asyncio(native: Any, replies: bytes) -> None:
    """An app of each form can await asyncio, and keeps its docstring."""
    made = aio.app(native)
    assert made.__doc__ == native.__doc__

    async def main() -> None:
        peer = await said_to(made, b"one\ntwo\n")
        assert peer.hears() == replies
        peer.connection.close()
        peer.leaves()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_class_is_made_anew_for_each_connection() -> None:
    """A class is made anew for each connection, and an instance serves all. Each part gets the connection."""

    async def main() -> None:
        for app, counts in ((aio.app(Counts), [1, 1]), (aio.app(Counts()), [2, 2])):
            Counts.told.clear()
            peers = [await said_to(app, b"hello\n") for _ in range(2)]
            for peer in peers:
                peer.hears()
                peer.connection.drain()
                assert peer.hears() == b"Native leaves\n"
                peer.leaves()
            assert Counts.told == [(aio.Native, count, "drained") for count in counts]

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [5, lambda message: None, type("Nothing", (), {})])
def test_an_invalid_app_is_refused_at_once(wrong: Any) -> None:
    """`aio.app` refuses an invalid app, as `listen` does."""
    with pytest.raises(InvalidOption):
        aio.app(wrong)


def test_none_and_a_conversation_stay_as_they_are() -> None:
    """
    `aio.app` returns None and an aio conversation unchanged; `aio.conversation` refuses a function that takes a
    message.
    """
    assert aio.app(None) is None
    talk = aio.conversation(talks.talk)
    assert aio.app(talk) is talk
    with pytest.raises(InvalidOption, match=r"shout.*: takes \(connection\)"):
        aio.conversation(shout)  # type: ignore[arg-type]  # it takes a message, too


def test_on_a_reactor_without_asyncio_an_app_says_so() -> None:
    """On a reactor without asyncio the connection is closed, and the reason names the reactor and what to do."""
    for app in (aio.app(shout), aio.app(Counts), aio.conversation(talks.talk)):
        peer = Peer(app)
        peer.says(b"hello\n")
        peer.leaves()
        assert peer.reason.rule == "app-failed"
        assert "aio: no loop of asyncio runs here, for Twisted's reactor is" in str(peer.reason)
        assert "start with --reactor=asyncio or --reactor=uvloop" in str(peer.reason.error)
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.future(Deferred())
    with pytest.raises(InvalidOption, match="no loop of asyncio runs here"):
        aio.deferred(Deferred())
