"""Random messages and streams, to a peer that reads at random: every byte arrives, in order, and nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from tcpapp import Limits, Timeouts
from tcpapp.framing import Body
from tests.framing.bodies import chunked, content, store
from tests.peers import Peer, outcome, stalled

QUIET = Timeouts(first_message=0, idle=0)
LIMITS = Limits(write_high=100, inbox_high=60, inbox_low=30)

PIECES = st.lists(st.binary(max_size=250), max_size=5)
SENT = st.one_of(
    st.tuples(st.just("message"), st.text("abc", max_size=150).map(str.encode)),
    st.tuples(st.sampled_from(["list", "file", "async", "waiting"]), PIECES),
    st.tuples(st.just("take"), st.integers(1, 300)),
    st.just(("give", None)),
)


class Waiting:
    """An async source that waits for the test before each of its pieces."""

    def __init__(self, pieces: list[bytes], waits: list[Deferred[None]]) -> None:
        self.pieces = pieces
        self.waits = waits

    async def all_pieces(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            wait: Deferred[None] = Deferred()
            self.waits.append(wait)
            await wait
            yield piece


async def at_once(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """Give the pieces, some of them after a Deferred that has fired."""
    for piece in pieces:
        await succeed(None)
        yield piece


def source_of(kind: str, pieces: list[bytes], waits: list[Deferred[None]]) -> Any:
    """Return a source of this kind."""
    if kind == "file":
        return BytesIO(b"".join(pieces))
    if kind == "async":
        return at_once(pieces)
    return Waiting(pieces, waits).all_pieces() if kind == "waiting" else pieces


@given(st.lists(SENT, max_size=20))
def test_streams_and_messages_arrive_in_the_order_of_their_calls(steps: list[tuple[str, Any]]) -> None:
    """However the peer reads, and whenever the sources have bytes, all bytes arrive in the order of the calls."""
    peer = stalled(timeouts=QUIET, limits=LIMITS)
    expected, told, waits = b"", [], []
    for kind, value in steps:
        if kind == "take":
            peer.transport.take(value)
        elif kind == "give":
            for each in waits[:1]:
                waits.remove(each)
                each.callback(None)
        elif kind == "message":
            told.append((None, outcome(peer.connection.send(value))))
            expected += value + b"\n"
        else:
            size = len(b"".join(value))
            told.append((size, outcome(peer.connection.send_stream(source_of(kind, value, waits)))))
            expected += b"".join(value)
    peer.transport.go_on()
    for _ in range(1000):
        peer.transport.turn()
        if not waits:
            break
        waits.pop(0).callback(None)
    assert peer.transport.value() == expected
    assert [[size] for size, _ in told] == [result for _, result in told]
    assert (peer.protocol._outbox.unsent, peer.factory.settings.memory_budget.total) == (0, 0)
    assert peer.connection.is_open


BODIES = st.lists(st.one_of(st.none(), st.binary(max_size=200)), max_size=5)


def stored(message: bytes | None) -> bytes:
    """Return a message of `store`."""
    return b"get\r\n" if message is None else b"set %d\r\n%b\r\n" % (len(message), message)


def in_chunks(message: bytes | None) -> bytes:
    """Return a message of `chunked`, whose chunks have seven bytes."""
    chunks = [message[at : at + 7] for at in range(0, len(message), 7)] if message else []
    return b"head\n" + b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"


@pytest.mark.parametrize(("framing", "encoded"), [(store, stored), (chunked, in_chunks)], ids=["store", "chunked"])
@given(bodies=BODIES, cuts=st.lists(st.integers(1, 90), max_size=30), how=st.lists(st.integers(0, 3), max_size=30))
def test_bodies_arrive_whole_in_any_chunks(
    framing: Any, encoded: Any, bodies: list[bytes | None], cuts: list[int], how: list[int]
) -> None:
    """However a stream is cut and an app reads its bodies, each body has its bytes, and nothing is held then."""
    seen: list[Any] = []
    ways = iter(how)

    async def app(message: Any, connection: Any) -> None:
        body = message[1]
        if body is None:
            seen.append(None)
            return
        way = next(ways, 0)
        if way == 0:
            seen.append(await body.read())
        elif way == 1:
            seen.append(b"".join([piece async for piece in body]))
        elif way == 2:
            seen.append(...)
            body.discard()
        else:
            seen.append(...)

    peer = Peer(app, framing(), timeouts=QUIET, limits=LIMITS)
    stream = b"".join(map(encoded, bodies))
    for size in [*cuts, len(stream)]:
        chunk, stream = stream[:size], stream[size:]
        peer.says(chunk)
        peer.transport.turn()
    wanted = [body or b"" for body in bodies] if framing is chunked else bodies
    assert len(seen) == len(bodies)
    assert all(got in (..., body) for got, body in zip(seen, wanted, strict=True))
    assert (peer.factory.settings.memory_budget.total, peer.paused, peer.connection.is_open) == (0, False, True)


def test_the_contents_of_messages_are_those_of_their_bodies() -> None:
    """The tests' own view of a message has the bytes of its bodies."""
    assert content((1, Body.of([b"a", b"b"]))) == (1, b"ab")
