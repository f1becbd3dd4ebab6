"""Peers that leave half-way, leave at once, send too much, or read too little, on real sockets."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionDone, ConnectionLost

from tcpapp import Limits, State, Timeouts, conversation
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected
from tcpapp.transport.layers import bottom_of

from .conftest import ANY_PORT
from .peers import InHand, Noted, bounded, until

KIB = 1024
MIB = 1024 * KIB

# Leaving --------------------------------------------------------------------------------------------------------------


@bounded
async def test_a_peer_that_ends_its_side_is_answered(serve: Any, dial: Any, global_reactor: Any) -> None:
    """Messages before a half-close are answered, also late; then the server closes its side as well."""
    app = InHand()
    server = await serve(app)
    peer = await dial(server.port)
    peer.say(b"one\ntwo\n")
    peer.end()
    await app.moment(lambda: app.messages)
    [connection] = server.connections
    await until(global_reactor, lambda: connection.state is not State.OPEN)
    assert (peer.data, peer.read_ended) == (b"", False)
    app.answer_all()
    assert await peer.heard(8) == b"one\ntwo\n"
    assert isinstance(await peer.lost, ConnectionDone)
    assert (await connection.when_closed()).rule == "end-of-stream"


@bounded
async def test_a_conversation_can_send_after_the_peers_half_close(serve: Any, dial: Any) -> None:
    """
    After the peer's half-close, ``async for`` gives the received messages and ends; a last message can still be sent.
    """

    @conversation
    async def count(connection: Any) -> None:
        total = 0
        async for message in connection:
            total += int(message)
        await connection.send(b"%d" % total)

    peer = await dial((await serve(count)).port)
    peer.say(b"1\n2\n3\n")
    peer.end()
    assert isinstance(await peer.lost, ConnectionDone)
    assert peer.data == b"6\n"


@bounded
async def test_an_end_inside_a_message_is_truncated(serve: Any, dial: Any) -> None:
    """
    When a peer half-closes inside a message, earlier messages are answered, and the rule of the end is
    `truncated-message`.
    """
    app = Noted()
    peer = await dial((await serve(app)).port)
    peer.say(b"whole\nhal")
    peer.end()
    assert isinstance(await peer.lost, ConnectionDone)
    assert peer.data == b"whole\n"
    assert (str(app.reasons[0].by), app.reasons[0].rule) == ("peer", "truncated-message")


@bounded
async def test_a_reset_ends_only_its_own_connection(serve: Any, dial: Any, global_reactor: Any) -> None:
    """A reset ends the connection of that peer as `lost`, and no other connection."""
    app = Noted()
    server = await serve(app)
    peer, other = await dial(server.port), await dial(server.port)
    peer.say(b"hello\n")
    await peer.heard(6)
    peer.reset()
    await app.moment(lambda: app.reasons)
    assert (str(app.reasons[0].by), app.reasons[0].rule) == ("network", "lost")
    assert app.reasons[0].error.__class__ is ConnectionLost
    other.say(b"still here\n")
    assert await other.heard(11) == b"still here\n"
    assert len(server.connections) == 1


@bounded
async def test_a_reset_drops_the_pending_reply_without_an_error(serve: Any, dial: Any, global_reactor: Any) -> None:
    """When a peer resets while the app handles its message, the reply is dropped without an error."""
    app = InHand()
    server = await serve(app)
    peer = await dial(server.port)
    peer.say(b"work\n")
    await app.moment(lambda: app.messages)
    peer.reset()
    await app.moment(lambda: not server.connections)
    app.answer_all()


@bounded
async def test_another_protocol_is_closed_at_once(serve: Any, dial: Any) -> None:
    """An HTTP request on a port of 32-bit lengths is too long a message, so the connection is closed at once."""
    app = Noted()
    peer = await dial((await serve(app, framing="int32")).port)
    peer.say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await peer.lost
    assert app.reasons[0].rule == "message-too-long"
    assert peer.data == b""


# Too much, too little -------------------------------------------------------------------------------------------------


def held_by(server: Any) -> int:
    """Return the number of received bytes that the app has not taken."""
    return sum(protocol_of(each)._inbox.size for each in server.connections)


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns the maximum number of allocated bytes since the beginning."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@bounded
async def test_a_slow_app_pauses_a_flood(serve: Any, join: Any, global_reactor: Any) -> None:
    """A slow app pauses the client: memory stays bounded on both sides, and no message is lost."""
    received: list[int] = []
    gate: Deferred[None] = Deferred()

    async def slow(message: bytes, connection: Any) -> None:
        if not received:
            await gate
        received.append(int(message[:8]))

    server = await serve(slow, framing="int32")
    client = await join(server, framing="int32")
    count, padding = 2000, bytes(16 * KIB - 8)
    sent: list[int] = []

    async def flood() -> None:
        for number in range(count):
            await client.send(b"%08d" % number + padding)
            sent.append(number)

    with traced_memory() as peak:
        flooding = Deferred.fromCoroutine(flood())
        await until(global_reactor, lambda: protocol_of(client)._outbox.blocked and held_by(server) > 64 * KIB)
        [connection] = server.connections
        assert received == []
        assert len(sent) < count
        gate.callback(None)
        await flooding
        await client.close()
        await connection.when_closed()
        assert peak() < 4 * MIB
    assert received == list(range(count))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
@bounded
async def test_no_more_is_read_at_once_than_a_rate_allows(
    tls: bool, serve: Any, join: Any, certificates: Path, global_reactor: Any
) -> None:
    """
    The first read takes no more bytes than the byte rate allows; with TLS, at most one record is decrypted beyond that.
    """
    sizes: list[int] = []
    allowed: list[int] = []

    first: Deferred[None] = Deferred()

    def app(chunk: bytes, connection: Any) -> None:
        sizes.append(len(chunk))
        allowed.append(bottom_of(protocol_of(connection).transport).bufferSize)
        if not first.called:
            first.callback(None)

    secure = f"ssl:0:interface=127.0.0.1:privateKey={certificates}/key.pem:certKey={certificates}/cert.pem"
    server = await serve(app, secure if tls else ANY_PORT, framing="raw", limits=Limits(byte_rate=5000))
    trusting = f"tls:localhost:{server.port}:trustRoots={certificates}/roots"
    client = await join(trusting if tls else server, framing="raw")
    client.send(b"x" * 20_000).addErrback(lambda _: None)
    await first
    assert allowed[0] == 5000
    assert sizes[0] <= (16_384 if tls else 5000)


@bounded
async def test_a_slow_reader_pauses_only_its_own_connection(serve: Any, dial: Any, global_reactor: Any) -> None:
    """A peer that requests much and reads nothing pauses only its own connection. When it reads, it gets every byte."""
    replies = 0

    def big(message: bytes, connection: Any) -> bytes:
        nonlocal replies
        replies += 1
        return message * 1000

    server = await serve(big, framing="line")
    peer, other = await dial(server.port), await dial(server.port)
    peer.transport.pauseProducing()
    asked = b"".join(b"%015d\n" % number for number in range(2000))
    peer.say(asked)
    await until(global_reactor, lambda: any(protocol_of(each)._outbox.blocked for each in server.connections))
    other.say(b"x\n")
    await other.heard(1001)
    assert replies < 2001
    assert sum(protocol_of(each).info().unsent for each in server.connections) < MIB
    peer.transport.resumeProducing()
    expected = b"".join(line * 1000 + b"\n" for line in asked.splitlines())
    assert await peer.heard(len(expected)) == expected


@bounded
async def test_a_peer_that_never_reads_is_cut(serve: Any, dial: Any, global_reactor: Any) -> None:
    """A peer that reads nothing for ``send_progress`` seconds is cut."""
    app = Noted()
    server = await serve(app, timeouts=Timeouts(send_progress=0.1))
    peer = await dial(server.port)
    peer.transport.pauseProducing()
    await app.moment(lambda: app.opened_by)
    [connection] = server.connections
    for _ in range(20):
        connection.send(b"x" * 1000 * KIB).addErrback(lambda failure: failure.trap(NotConnected))
    await app.moment(lambda: app.reasons)
    assert app.reasons[0].rule == "send-stalled"


@bounded
async def test_clients_over_the_limit_are_closed_and_counted(serve: Any, dial: Any, global_reactor: Any) -> None:
    """Of fifty peers at once, five are served, as many as the limit allows; the others are closed and counted."""
    server = await serve(Noted(), limits=Limits(max_connections=5))
    peers = [await dial(server.port) for _ in range(50)]
    for each in peers:
        each.say(b"hello\n")
    for each in peers:
        await DeferredList([each.heard(6), each.lost], fireOnOneCallback=True)
    served = [each for each in peers if not each.lost.called]
    assert [each.data for each in served] == [b"hello\n"] * 5
    assert (len(server.connections), server.refused) == (5, 45)
