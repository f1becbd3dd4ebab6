"""
Nothing that the path of a message makes is left over: no object, and no block of memory without an owner.

Python frees what Python code makes. Compiled code counts references by itself, and an error in that is seen here as
blocks that stay allocated. So each way runs often, and the blocks of the whole process are counted before and after.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

import tcpapp
from tcpapp import Limits, Timeouts, batch, conversation, send_to_all
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import UnreadableStream
from tcpapp.framing import exactly, from_string, parser, until
from tests.framing import test_loops_alike
from tests.peers import Peer, outcome, stalled

pytestmark = pytest.mark.skipif(not tcpapp.accelerated, reason="tcpapp is not compiled here")

ROUNDS = 30
WINDOWS = 30
FEW = ROUNDS // 2
"""Blocks that can stay after `ROUNDS`. A leak leaves one or more in each round."""

QUIET = Timeouts(first_message=0, idle=0, message_timeout=0, send_progress=0)


def leaves_nothing(work: Callable[[], Any]) -> bool:
    """
    Return whether `ROUNDS` of `work` leave few blocks of memory at last.

    Python's free lists fill up at first, so the rounds are repeated. A leak would go on for ever.
    """
    before = -sys.maxsize
    for _ in range(WINDOWS):
        for _ in range(ROUNDS):
            work()
        gc.collect()
        after = sys.getallocatedblocks()
        if after - before < FEW:
            return True
        before = after
    return False


def test_a_leak_is_found() -> None:
    """One block of memory that stays in each round is enough."""
    left: list[bytes] = []
    assert not leaves_nothing(lambda: left.append(bytes(100)))


# The loops over single messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", test_loops_alike.KINDS)
def test_the_loops_leave_nothing(kind: str) -> None:
    """The loops free all that they cut, frame and refuse, also where a message has a wrong type."""

    def work() -> None:
        for name, arguments in inputs:
            test_loops_alike.outcome(test_loops_alike.compiled, name, arguments)

    chance = Random(2)
    inputs = [each for _ in range(60) for each in test_loops_alike.KINDS[kind](chance)]
    assert leaves_nothing(work)


# Framings -------------------------------------------------------------------------------------------------------------


@parser(max=1000)
def sized() -> Any:
    """A length in a line, the bytes of the message, and an empty line for no message."""
    line = yield until(b"\n", max=10)
    return line, (yield exactly(int(line)))


FRAMINGS: dict[str, tuple[Any, bytes]] = {
    "int32": (from_string("int32:max=500"), b"\0\0\0\5hello" * 20 + b"\0\0\1\0" + bytes(256)),
    "varint": (from_string("varint:max=500"), b"\5hello" * 20 + b"\x80\2" + bytes(256)),
    "netstring": (from_string("netstring:max=500"), b"5:hello," * 20 + b"256:" + bytes(256) + b","),
    "parser": (sized(), b"5\nhello" * 20 + b"256\n" + bytes(256)),
    "http1": (from_string("http1"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 20),
}
FAULTS = {
    "whole": b"",
    "too-long": b"\x7f\xff\xff\xff99999999:",
    "malformed": b"\xff" * 30 + b"\r\n\r\n",
    "negative": b"-1\n",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FRAMINGS)
def test_a_stream_leaves_nothing(name: str, fault: str) -> None:
    """A framing frees its messages and its state, also after a fault, however the stream was cut."""
    framing, data = FRAMINGS[name]
    data += FAULTS[fault]

    def work() -> None:
        for size in (len(data), 7):
            state = framing.fresh()
            try:
                for at in range(0, len(data), size):
                    state.receive(data[at : at + size])
                state.finish()
            except UnreadableStream:
                pass

    assert leaves_nothing(work)


# Connections ----------------------------------------------------------------------------------------------------------


def reply(message: bytes, connection: Any) -> bytes:
    """Reply with the message, and send it besides."""
    connection.send(message)
    return message


async def reply_soon(message: bytes, connection: Any) -> bytes:
    """The same, as a coroutine that does not wait."""
    return message


def never(message: bytes, connection: Any) -> Deferred[bytes]:
    """Reply never."""
    return Deferred()


def broken(message: bytes, connection: Any) -> bytes:
    """Raise."""
    raise ValueError(message)


@batch
def reply_to_all(messages: list[bytes], connection: Any) -> list[bytes]:
    """Reply to all messages of a chunk in one call."""
    return messages


@conversation
async def talk(connection: Any) -> None:
    """Reply to each message."""
    async for message in connection:
        await connection.send(message)


def each_of(message: bytes, connection: Any) -> Any:
    """Reply with several messages."""
    yield message
    yield message


APPS: dict[str, Any] = {
    "function": reply,
    "coroutine": reply_soon,
    "batch": reply_to_all,
    "conversation": talk,
    "stream": each_of,
    "pending": never,
    "no-app": None,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "codec": {"codec": "json"},
    "rates": {"limits": Limits(message_rate=1000, byte_rate=100_000, messages_per_turn=2)},
    "short-memory": {"limits": Limits(inbox_high=100, inbox_low=50, write_high=50, max_unsent=300)},
    "concurrency": {"concurrency": 3},
}


def live(app: Any, **options: Any) -> None:
    """Open a connection, let its peer say several things, and end it in one of several ways."""
    for end in ("leaves", "close", "abort", "too-long"):
        peer = (stalled if end == "abort" else Peer)(app, "line:max=200", timeouts=QUIET, **options)
        connection = peer.connection
        waits = [connection.receive(), connection.request(b"1")] if app is None and "codec" not in options else []
        for each in waits:
            each.addErrback(lambda _: None)
        peer.says(b'"one"\n"two"\n' + b'"three"\n' * 20 + b'"fo')
        peer.says(b'ur"\n')
        peer.clock.advance(0)
        if end == "close":
            connection.close()
        elif end == "abort":
            connection.abort()
        elif end == "too-long":
            peer.says(b"x" * 300)
        peer.clock.advance(1)
        peer.transport.lose()


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_connection_leaves_nothing(name: str, options: str) -> None:
    """A connection frees its parts and its messages, whatever its app is, and however it ends."""
    if options == "concurrency" and name in ("conversation", "no-app"):
        given: dict[str, Any] = {}
    else:
        given = OPTIONS[options]
    assert leaves_nothing(lambda: live(APPS[name], **given))


def test_a_message_to_all_leaves_nothing() -> None:
    """A message that is sent to many connections is freed with the last of them, also where some do not read."""

    def work() -> None:
        peers = [Peer(reply, timeouts=QUIET), stalled(reply, timeouts=QUIET), Peer(reply, timeouts=QUIET)]
        send_to_all([each.connection for each in peers], b"x" * 5000)
        for each in peers:
            each.clock.advance(0)
            each.transport.lose()

    assert leaves_nothing(work)


def test_a_move_leaves_nothing() -> None:
    """A connection that is moved frees what its state was made of."""

    def work() -> None:
        old, new = Peer(reply, timeouts=QUIET), Peer.__new__(Peer)
        old.says(b"one\ntwo\nthr")
        protocol = protocol_of(old.connection)
        protocol.pause_at_boundary()
        state = protocol.dump()
        protocol.release()
        loaded = old.factory.buildProtocol(None)
        loaded.load(state)
        new.transport = type(old.transport)()
        new.transport.connect(loaded)
        new.transport.receive(b"ee\n")
        assert new.transport.value() == b"three\nthree\n"
        new.transport.lose()
        old.transport.lose()

    assert leaves_nothing(work)


def test_a_failed_app_leaves_nothing() -> None:
    """The error of an app, and the frames that it went through, are freed with the connection."""

    def work() -> None:
        peer = Peer(broken, timeouts=QUIET)
        peer.says(b"one\n")
        peer.transport.lose()
        assert outcome(peer.connection.when_closed())

    assert leaves_nothing(work)
