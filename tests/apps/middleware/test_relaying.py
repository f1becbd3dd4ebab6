"""Messages of a wrapped conversation: each goes through the middleware once, in order, and none is lost."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults

from tcpapp import aio, conversation, protocol_of
from tcpapp.apps.middleware import wrap
from tcpapp.codecs import Json
from tcpapp.errors import NotConnected, UndecodableMessage
from tcpapp.telemetry import AppFailed
from tests.peers import Peer, outcome


def held(app: Any, gates: list[Deferred[None]], log: list[Any]) -> Any:
    """Wrap an app: each message waits for a gate, and the log shows when the app was done with it."""

    async def received(message: bytes, connection: Any, inner: Any) -> None:
        gates.append(Deferred())
        await gates[-1]
        await inner(message, connection)
        log.append(f"done with {message.decode()}")

    return wrap(app, received=received)


def passing(app: Any) -> Any:
    """Wrap an app with a function that passes all messages on."""
    return wrap(app, received=lambda message, connection, inner: inner(message, connection))


def test_messages_wait_for_the_middleware_and_come_in_order() -> None:
    """`receive()` gives a message when the middleware passes it on. It is handled when the next one is asked for."""
    gates: list[Deferred[None]] = []
    log: list[Any] = []

    note = log.append

    @conversation
    async def talk(connection: Any) -> None:
        async for message in connection:
            note(message)

    peer = Peer(held(talk, gates, log))
    peer.says(b"one\ntwo\n")
    assert (len(gates), log) == (1, [])
    gates[0].callback(None)
    assert (len(gates), log) == (2, [b"one", "done with one"])
    gates[1].callback(None)
    assert log == [b"one", "done with one", b"two", "done with two"]
    peer.half_closes()
    assert peer.closing


def test_a_message_is_handled_when_the_conversation_ends() -> None:
    """The middleware learns that the last message is handled when the conversation returns."""
    gates: list[Deferred[None]] = []
    log: list[Any] = []
    work: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        await connection.receive()
        await work

    peer = Peer(held(talk, gates, log))
    peer.says(b"one\n")
    gates[0].callback(None)
    assert log == []
    work.callback(None)
    assert (log, peer.closing) == (["done with one"], True)


def test_several_calls_of_receive_can_wait() -> None:
    """A conversation that waits for two messages at once gets both, in order."""
    got: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        got.extend(await gatherResults([connection.receive(), connection.receive()]))
        got.append(await connection.receive())

    peer = Peer(passing(talk))
    peer.says(b"one\ntwo\nthree\n")
    assert got == [b"one", b"two", b"three"]


def test_many_messages_of_one_chunk_do_not_nest() -> None:
    """A conversation that answers thousands of messages that came together does not run out of stack."""
    count = 0

    @conversation
    async def talk(connection: Any) -> None:
        nonlocal count
        async for _ in connection:
            count += 1

    peer = Peer(passing(talk))
    peer.says(b"x\n" * 5000)
    while peer.clock.getDelayedCalls() and count < 5000:
        peer.clock.advance(0)
    assert count == 5000


def test_a_cancelled_receive_loses_no_message() -> None:
    """A message that was on its way to a cancelled `receive()` comes with the next call."""
    gates: list[Deferred[None]] = []
    got: list[Any] = []
    go_on: Deferred[None] = Deferred()

    @conversation
    async def talk(connection: Any) -> None:
        first = connection.receive()
        first.addErrback(lambda failure: got.append(failure.check(CancelledError)))
        await go_on
        first.cancel()
        gates[0].callback(None)
        got.append(await connection.receive())
        got.append(await connection.receive())

    peer = Peer(held(talk, gates, []))
    peer.says(b"one\ntwo\n")
    go_on.callback(None)
    gates[1].callback(None)
    assert got == [CancelledError, b"one", b"two"]


def test_the_end_of_the_connection_reaches_the_conversation() -> None:
    """At the end, `receive()` fails with the reason, and a clean end ends ``async for``."""
    for end, expected in ((Peer.resets, "lost"), (Peer.half_closes, "over")):
        log: list[Any] = []

        async def talk(connection: Any, log: list[Any] = log) -> None:
            try:
                async for _ in connection:
                    pass
                log.append("over")
            except NotConnected as error:
                log.append(error.reason.rule)

        peer = Peer(passing(conversation(talk)))
        end(peer)
        assert (log, peer.told(AppFailed)) == ([expected], [])


def test_a_conversation_whose_message_waits_is_cancelled_at_the_end() -> None:
    """At the end, a conversation is cancelled while its message waits in the middleware, which is cancelled, too."""
    gates: list[Deferred[None]] = []
    log: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        try:
            await connection.receive()
        except CancelledError:
            log.append("cancelled")
            raise

    peer = Peer(held(talk, gates, log))
    peer.says(b"one\n")
    told = outcome(gates[0], lambda _: None)
    peer.resets()
    assert (log, peer.told(AppFailed), len(told)) == (["cancelled"], [], 1)


def test_an_undecodable_message_is_delivered_to_the_conversation() -> None:
    """With ``invalid="deliver"``, `receive()` fails with the error, and the next message is given as usual."""
    got: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        for _ in range(2):
            try:
                got.append(await connection.receive())
            except UndecodableMessage as error:
                got.append(error.message)

    peer = Peer(passing(talk), codec=Json(invalid="deliver"))
    peer.says(b"{\n[1]\n")
    assert got[1:] == [[1]]


def test_an_error_after_a_message_was_passed_on_is_raised_once() -> None:
    """An error of the middleware that comes while no `receive()` waits is raised by the next one, or at the end."""
    for receives in (True, False):
        go_on: Deferred[None] = Deferred()
        told: list[str] = []

        async def received(message: bytes, connection: Any, inner: Any) -> None:
            inner(message, connection)
            raise ZeroDivisionError

        async def talk(connection: Any, go_on: Any = go_on, told: list[str] = told, receives: bool = receives) -> None:
            await connection.receive()
            await go_on
            if receives:
                try:
                    await connection.receive()
                except ZeroDivisionError:
                    told.append("raised")

        peer = Peer(wrap(conversation(talk), received=received))
        peer.says(b"one\n")
        assert peer.connection.is_open
        go_on.callback(None)
        assert (told, len(peer.told(AppFailed))) == ((["raised"], 0) if receives else ([], 1))


def test_the_stand_in_equals_its_connection() -> None:
    """A conversation can use its connection as any: its attributes, as a key, and with `protocol_of`."""
    seen: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        seen.append(connection)
        await connection.receive()

    peer = Peer(passing(talk))
    [relay] = seen
    assert relay == peer.connection
    assert peer.connection == relay
    assert relay == relay  # noqa: PLR0124 - it has its own comparison
    assert {relay: 1}[peer.connection] == 1
    assert (relay.id, protocol_of(relay)) == (peer.connection.id, peer.protocol)
    assert aio.Native(relay).is_open
    with pytest.raises(AttributeError):
        relay.nothing  # noqa: B018 - the attribute is asked for


def test_a_failing_receive_can_cancel_another() -> None:
    """The errback of one `receive()` can cancel another one that fails at the same time."""
    failed: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        first, second = connection.receive(), connection.receive()
        first.addErrback(lambda failure: (failed.append(failure.type), second.cancel()))
        second.addErrback(lambda failure: failed.append(failure.type))
        await second

    peer = Peer(passing(talk))
    peer.resets()
    assert failed == [NotConnected, CancelledError]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", [Peer.half_closes, Peer.resets])
def test_a_wrapped_conversation_is_freed_at_the_end(end: Any) -> None:
    """After the end, neither the stand-in nor the connection stays in memory."""
    kept: list[Any] = []

    @conversation
    async def talk(connection: Any) -> None:
        kept.append(ref(connection))
        async for message in connection:
            await connection.send(message)

    peer = Peer(passing(talk))
    peer.says(b"one\n")
    kept.append(ref(peer.connection))
    end(peer)
    peer.transport.turn()
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    assert [each() for each in kept] == [None, None]
