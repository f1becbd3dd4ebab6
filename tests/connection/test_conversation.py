"""Conversations: coroutines that last as long as their connection, and learn of its end or are cancelled by it."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred

from tcpapp.connection.app import conversation
from tcpapp.errors import NotConnected
from tcpapp.telemetry import AppFailed
from tests.peers import Peer, stalled


def test_a_conversation_is_an_app() -> None:
    """A conversation is a coroutine that lasts as long as the connection. Its end closes the connection."""

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    peer = Peer(talk)
    peer.says(b"a\nb\n")
    assert peer.transport.writes == [b"a\nb\n"]
    peer.half_closes()
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "end-of-stream"


def test_a_conversation_that_returns_closes_the_connection() -> None:
    """When a conversation returns, its messages are sent, and then the connection closes."""

    @conversation
    async def talk(connection: Any) -> None:
        await connection.send(await connection.receive())

    peer = Peer(talk)
    peer.says(b"1\n2\n")
    assert peer.hears() == b"1\n"
    assert peer.closing
    peer.leaves()
    assert (peer.reason.rule, str(peer.reason.by)) == ("closed", "us")


@pytest.mark.parametrize("first", [False, True])
def test_a_conversation_that_raises_closes_the_connection_as_failed(first: bool) -> None:
    """When a conversation raises, also before its first await, its messages are sent, and the app has failed."""

    @conversation
    async def talk(connection: Any) -> None:
        if not first:
            await connection.receive()
        connection.send(b"sent")
        raise ZeroDivisionError

    peer = Peer(talk)
    peer.slips_in(b"1\n")
    assert peer.hears() == b"sent\n"
    peer.leaves()
    assert peer.reason.rule == "app-failed"
    [failed] = peer.told(AppFailed)
    assert failed.failure.check(ZeroDivisionError)


def test_a_conversation_that_waits_for_something_else_is_cancelled_at_the_end() -> None:
    """A conversation that awaits another Deferred is cancelled at the end. The app has not failed."""
    log: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        try:
            await Deferred()
        except CancelledError:
            log.append("cancelled")
            raise

    peer = Peer(talk)
    peer.resets()
    assert log == ["cancelled"]
    assert peer.told(AppFailed) == []


def test_a_conversation_is_cancelled_though_others_wait_on_its_connection() -> None:
    """A conversation is cancelled at the end, even if other coroutines wait on its connection and learn of the end."""
    log: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        reader = ensureDeferred(read(connection))
        try:
            await Deferred()
        finally:
            log.append("ended")
            await reader

    async def read(connection: Any) -> None:
        async for _ in connection:
            pass

    peer = Peer(talk)
    peer.connection.when_closed()
    peer.leaves()
    assert log == ["ended"]


async def receives(connection: Any) -> Any:
    return await connection.receive()


async def requests(connection: Any) -> Any:
    return await connection.request(b"question")


async def sends(connection: Any) -> Any:
    return await connection.send(b"x" * 200_000)


async def waits_for_the_end(connection: Any) -> Any:
    raise NotConnected("told", await connection.when_closed())


async def waits_for_one_of_many(connection: Any) -> Any:
    await DeferredList([connection.receive(), connection.when_closed()], consumeErrors=True)
    return await connection.receive()


@pytest.mark.parametrize("wait", [receives, requests, sends, waits_for_the_end, waits_for_one_of_many])
@pytest.mark.parametrize("end", ["resets", "abort", "close"])
def test_a_conversation_that_waits_on_its_connection_gets_the_reason_and_is_not_cancelled(wait: Any, end: str) -> None:
    """A conversation that waits on its connection gets the reason there, and can clean up as long as it takes."""
    log: list[Any] = []
    cleaning: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        try:
            await wait(connection)
        except NotConnected as error:
            log.append(error.reason.rule)
        await cleaning
        log.append("clean")

    peer = stalled(talk)
    if end != "resets":
        getattr(peer.connection, end)()
    peer.resets()
    cleaning.callback(None)
    told = {"resets": "lost", "abort": "aborted", "close": "closed"}[end]
    if end == "close" and wait in {sends, waits_for_the_end, waits_for_one_of_many}:
        told = "lost"  # these wait for the flush or the end, and then comes the reset
    assert log == [told, "clean"]
    assert peer.told(AppFailed) == []


def test_a_conversation_can_wait_for_its_own_close() -> None:
    """A conversation can await `close()`, and gets the reason of the end."""
    log: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        await connection.send(b"goodbye")
        log.append((await connection.close()).rule)

    peer = Peer(talk)
    assert peer.hears() == b"goodbye\n"
    assert peer.closing
    peer.leaves()
    assert log == ["closed"]


def test_a_conversation_that_learned_of_the_half_close_is_cancelled_at_the_end() -> None:
    """A conversation that has learned of the half-close is still cancelled when the connection is lost."""
    log: list[str] = []

    @conversation
    async def talk(connection: Any) -> None:
        async for _ in connection:
            pass
        log.append("no more")
        try:
            await Deferred()
        finally:
            log.append("cancelled")

    peer = Peer(talk)
    peer.half_closes()
    assert log == ["no more"]
    assert not peer.closing
    peer.resets()
    assert log == ["no more", "cancelled"]


def test_a_conversation_that_only_receives_ends_with_the_stream() -> None:
    """If a conversation lets the error of `receive()` through at the end of the stream, the app has not failed."""

    @conversation
    async def talk(connection: Any) -> None:
        while True:
            await connection.receive()

    peer = Peer(talk)
    peer.half_closes()
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "end-of-stream"
    assert peer.told(AppFailed) == []


def test_another_connections_end_is_a_failure_of_a_conversation_that_lets_it_through() -> None:
    """If a conversation lets the `NotConnected` of another connection through, the app has failed."""
    other = Peer()

    @conversation
    async def talk(connection: Any) -> None:
        await other.connection.receive()

    peer = Peer(talk)
    peer.half_closes()
    other.leaves()
    peer.leaves()
    assert peer.reason.rule == "app-failed"


def test_an_async_for_raises_where_the_connection_did_not_end_well() -> None:
    """A clean end ends an `async for`. After a reset the `async for` raises `NotConnected` with the reason."""
    log: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        try:
            async for _ in connection:
                pass
        except NotConnected as error:
            log.append(error.reason.rule)
        else:
            log.append("ended")

    for leave in (Peer.half_closes, Peer.leaves, Peer.resets):
        peer = Peer(talk)
        leave(peer)
        peer.leaves()
    assert log == ["ended", "ended", "lost"]


def test_a_conversation_can_drain_its_own_connection_before_it_waits() -> None:
    """A conversation counts as work from its first step on, so a drain waits for the conversation's end."""
    going: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        connection.drain()
        await going
        await connection.send(b"goodbye")

    peer = Peer(talk)
    assert not peer.closing
    going.callback(None)
    assert peer.hears() == b"goodbye\n"
    assert peer.closing
    peer.leaves()
    assert peer.reason.rule == "drained"


def test_messages_of_the_first_step_of_a_conversation_are_one_write() -> None:
    """All messages that a conversation sends in its first step are one write."""

    @conversation
    async def talk(connection: Any) -> None:
        await connection.send(b"1")
        await connection.send(b"2")
        await Deferred()

    peer = Peer(talk)
    assert peer.transport.writes == [b"1\n2\n"]
    peer.leaves()


@pytest.mark.usefixtures("no_collector")
def test_a_conversation_is_freed_when_its_peer_sends_what_it_cannot_read() -> None:
    """A conversation that ends by the error of its peer's stream leaves no reference cycle."""
    kept: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        kept.append(ref(connection))
        async for message in connection:
            await connection.send(message)

    peer = Peer(talk, "netstring")
    peer.says(b"1:a,x")
    peer.leaves()
    assert peer.reason.rule == "malformed-frame"
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert [each() for each in kept] == [None]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", [Peer.half_closes, Peer.resets])
def test_a_conversation_is_freed_at_the_end(end: Any) -> None:
    """A conversation whose ``async for`` has ended leaves no reference cycle, on any Python."""
    kept: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        kept.append(ref(connection))
        async for message in connection:
            await connection.send(message)

    peer = Peer(talk)
    peer.says(b"one\n")
    end(peer)
    peer.transport.turn()
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert [each() for each in kept] == [None]
