"""Peers that make a server hold much or work long, and how the server bounds it."""

from __future__ import annotations

import struct
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from tcpapp import Limits, Timeouts
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tests.faults.times import SOON


@pytest_twisted.ensureDeferred
async def test_memory_short(served: Any) -> None:
    """
    When memory is short, the connections that hold the most are cut. The bound holds, and small connections are served.
    """

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 500_000 if message == b"more" else message

    await served.start(app, limits=Limits(max_buffered=2_000_000), timeouts=Timeouts(send_progress=0))
    for _ in range(10):
        await served.stranger(b"more\n" * 40, reads=False)
    await served.ended("memory-short")
    await served.is_served()
    assert served.server.info().buffered <= 2_000_000


@pytest_twisted.ensureDeferred
async def test_half_messages_while_memory_is_short(served: Any) -> None:
    """
    While memory is short, half messages are not read further, and their timeouts still end them. No byte of them is
    left.
    """
    limits, timeouts = Limits(max_buffered=1_000_000), Timeouts(message_timeout=10 * SOON)
    await served.start(echo, framing="int32", limits=limits, timeouts=timeouts)
    for _ in range(40):
        await served.stranger(struct.pack(">I", 100_000) + b"x" * 50_000)
    while len(served.ends) < 40:
        await served.turn()
    assert (set(served.ends) <= {"memory-short", "message-timeout"}, served.server.info().buffered) == (True, 0)


@pytest_twisted.ensureDeferred
async def test_work_that_goes_on_after_the_end(served: Any) -> None:
    """After a connection has ended, late and cancelled sends of the app add nothing to its memory account."""

    async def app(message: bytes, connection: Any) -> bytes:
        if message == b"stream":
            sends = [connection.send(b"x" * 300_000) for _ in range(20)]
            for each in sends:
                each.addErrback(lambda _: [other.cancel() for other in sends])
            for _ in range(20):
                await connection.send(b"x" * 300_000)
        return message

    await served.start(app)
    for _ in range(5):
        stranger = await served.stranger(b"stream\n", reads=False)
        while not served.server.info().buffered:
            await served.turn()
        stranger.transport.abortConnection()
        await stranger.lost
    while len(served.ends) < 5:
        await served.turn()
    assert (set(served.ends), served.server.info().buffered) == ({"lost"}, 0)


@pytest_twisted.ensureDeferred
async def test_replies_that_are_unsent_when_it_closes(served: Any) -> None:
    """
    Replies that a half-closed peer does not read still count for the bound, and the connections that hold the most are
    cut.
    """

    def app(message: bytes, connection: Any) -> bytes:
        return b"x" * 10_000_000 if message == b"more" else message

    limits = Limits(max_buffered=20_000_000)
    await served.start(app, framing="line:max=10000000", limits=limits, timeouts=Timeouts(send_progress=0))
    for _ in range(6):
        stranger = await served.stranger(b"more\n", reads=False)
        stranger.transport.loseWriteConnection()
        await served.turn()
        assert served.server.info().buffered <= 20_000_000
    await served.ended("memory-short")


@pytest_twisted.ensureDeferred
async def test_tiny_sends_to_a_peer_that_does_not_read(served: Any) -> None:
    """An unsent message of one byte counts with the memory that it takes, which is hundreds of bytes."""

    def app(message: bytes, connection: Any) -> bytes | None:
        if message != b"more":
            return message
        connection.send(b"x" * 10_000_000).addErrback(lambda _: None)
        for _ in range(1000):
            connection.send(b"x").addErrback(lambda _: None)
        return None

    await served.start(app, framing="line:max=10000000", timeouts=Timeouts(send_progress=0))
    stranger = await served.stranger(b"more\n", reads=False)
    while not (held := served.server.info().buffered):
        await served.turn()
    unsent = [protocol_of(each).info().unsent for each in served.server.connections]
    assert held - max(unsent) > 500_000
    stranger.transport.abortConnection()
    await stranger.lost


@pytest_twisted.ensureDeferred
async def test_values_that_take_more_than_their_bytes(served: Any) -> None:
    """The message that the app works on counts with its decoded size; waiting messages count as bytes."""

    async def app(value: Any, connection: Any) -> Any:
        if isinstance(value, list):
            await Deferred()
        return value

    message = b"[" + b"[]," * 10_000 + b"1]\n"
    limits = Limits(max_buffered=8_000_000, inbox_high=200_000)
    await served.start(app, message="are you there?", codec="json", limits=limits)
    await served.stranger(message * 3)
    while (held := served.server.info().buffered) < 800_000:
        await served.turn()
    assert held < 3_000_000  # one value, and two messages
    for _ in range(6):
        await served.stranger(message)
    await served.ended("memory-short")
    await served.is_served()
    assert served.server.info().buffered <= 8_000_000


@pytest_twisted.ensureDeferred
async def test_messages_that_are_few_and_costly(served: Any) -> None:
    """A turn has a budget of time: after one costly connection has used it, the other connections are served."""
    handled = [0]

    def app(message: bytes, connection: Any) -> bytes | None:
        handled[0] += not message
        return message or None

    await served.start(app, limits=Limits(work_per_turn=1))
    for _ in range(5):
        await served.stranger(b"\n" * 2000)
    most = 0
    while handled[0] < 10_000:
        before = handled[0]
        await served.is_served()
        most = max(most, handled[0] - before)
    assert most < 500  # of 256 messages in a turn of each of the five, some thousands
