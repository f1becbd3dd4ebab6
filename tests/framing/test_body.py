"""The body of a message without a connection: what is taken, what is left, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tcpapp.errors import BodyDiscarded, MalformedFrame, MessageTooLong, TruncatedMessage
from tcpapp.framing import Body


def run(coroutine: Any) -> Any:
    """Return the result of a coroutine that never waits."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


async def pieces_of(body: Body) -> list[bytes]:
    """Return the pieces of a body."""
    return [piece async for piece in body]


def test_pieces_are_taken_as_they_came() -> None:
    """`take` returns a piece after the other, and nothing where none has come."""
    body = Body(7)
    assert body.take() == b""
    body.feed(b"abc")
    body.feed(b"defg")
    assert (body.received, body.held, body.remaining) == (7, 7, 7)
    assert (body.take(), body.remaining) == (b"abc", 4)
    assert not body.is_whole
    body.finish()
    assert (body.is_whole, body.is_over) == (True, False)
    assert (body.take(), body.take(), body.is_over, body.remaining) == (b"defg", b"", True, 0)


def test_a_part_of_a_piece_can_be_taken() -> None:
    """`take(most)` returns no more than that, and the rest of the piece next."""
    body = Body.of([b"abcdef", b"g"])
    assert [body.take(4), body.take(4), body.take(4), body.take(4)] == [b"abcd", b"ef", b"g", b""]


@pytest.mark.parametrize(
    ("size", "fed", "taken", "remaining"),
    [(10, b"", 0, 10), (10, b"abcd", 0, 10), (10, b"abcd", 3, 7), (None, b"abcd", 3, None)],
)
def test_what_remains(size: int | None, fed: bytes, taken: int, remaining: int | None) -> None:
    """`remaining` counts the bytes that were not taken, where the size is known."""
    body = Body(size)
    if fed:
        body.feed(fed)
    body.take(taken)
    assert body.remaining == remaining


def test_what_remains_of_a_whole_body_is_known() -> None:
    """Of a body without a size, the bytes that remain are known once all have come."""
    body = Body()
    body.feed(b"abc")
    body.finish()
    assert (body.size, body.remaining) == (None, 3)


def test_a_whole_body_is_iterated_without_a_wait() -> None:
    """A body that has come can be read in any event loop, and in none."""
    assert run(pieces_of(Body.of([b"ab", b"c"]))) == [b"ab", b"c"]
    assert run(pieces_of(Body.of(b""))) == [b""][1:]
    assert asyncio.run(pieces_of(Body.of(b"abc"))) == [b"abc"]


@pytest.mark.parametrize("most", [6, 7, 1 << 20])
def test_a_short_body_is_read_at_once(most: int) -> None:
    """`read` returns all that is left, up to its limit."""
    body = Body.of([b"ab", b"cdef"])
    assert run(body.read(most)) == b"abcdef"
    assert run(body.read(0)) == b""


def test_a_body_without_a_size_is_read_up_to_the_limit() -> None:
    """`read` of a body whose size is not known counts what comes."""
    body = Body()
    body.feed(b"abc")
    body.feed(b"def")
    with pytest.raises(MessageTooLong, match="a body of 6 bytes or more; at most 5"):
        run(body.read(5))
    body = Body()
    body.feed(b"abc")
    body.finish()
    assert run(body.read(5)) == b"abc"


def test_a_long_body_is_refused_before_it_is_read() -> None:
    """`read` refuses a body that is longer than its limit at once, and the body can still be read."""
    body = Body(1 << 40)
    body.feed(b"abc")
    with pytest.raises(MessageTooLong, match="a body of 1099511627776 bytes or more; at most 100 "):
        run(body.read(100))
    assert body.take() == b"abc"


def test_without_a_connection_no_more_bytes_come() -> None:
    """To wait for bytes of a body without a connection is an error, and not a wait without an end."""
    body = Body(4)
    body.feed(b"abc")
    with pytest.raises(TruncatedMessage, match="no more bytes than the 3 that have come"):
        run(pieces_of(body))


def test_a_failure_comes_behind_the_bytes() -> None:
    """What came before the failure of the stream can be read, and then the failure is raised each time."""
    body = Body(4)
    body.feed(b"abc")
    body.fail(MalformedFrame("no chunk"))
    assert body.take() == b"abc"
    for _ in range(2):
        with pytest.raises(MalformedFrame, match="no chunk"):
            body.take()


def test_a_whole_body_does_not_fail() -> None:
    """What happens behind a body does not concern it."""
    body = Body.of(b"abc")
    body.fail(MalformedFrame("behind it"))
    assert (body.take(), body.take()) == (b"abc", b"")


def test_a_discarded_body_holds_nothing() -> None:
    """What has come and what comes is dropped, and reading says so."""
    body = Body(6)
    body.feed(b"abc")
    body.discard()
    body.feed(b"def")
    body.finish()
    assert (body.held, body.received, body.is_whole, body.is_over, body.is_discarded) == (0, 6, True, True, True)
    with pytest.raises(BodyDiscarded, match="keep"):
        body.take()
    with pytest.raises(BodyDiscarded):
        run(body.read())


def test_a_body_can_be_kept() -> None:
    """`keep` returns the body, which can be passed to a task."""
    body = Body()
    assert not body.is_kept
    assert body.keep() is body
    assert body.is_kept


def test_bodies_are_compared_by_what_they_hold() -> None:
    """Two bodies are equal that have come as far and hold the same bytes, however these were cut."""
    assert Body.of([b"ab", b"c"]) == Body.of(b"abc")
    assert Body.of(b"abc") != Body.of(b"abd")
    taken = Body.of(b"abc")
    taken.take(1)
    assert taken != Body.of(b"abc")
    assert Body(3) != Body.of(b"abc")
    assert Body.of(b"abc") != b"abc"
    assert len({taken, Body.of(b"abc")}) == 2


def test_the_bytes_of_a_body_can_be_seen() -> None:
    """`bytes` shows what has come and is not taken, and takes nothing."""
    body = Body.of([b"abc", b"def"])
    body.take(1)
    assert (bytes(body), bytes(body), body.held) == (b"bcdef", b"bcdef", 5)


def test_a_body_says_how_far_it_is() -> None:
    """The `repr` of a body shows how many bytes have come, and how it stands."""
    body = Body(6)
    body.feed(b"abc")
    assert repr(body) == "<Body 3 of 6 bytes, coming>"
    body.fail(MalformedFrame("x"))
    assert repr(body) == "<Body 3 of 6 bytes, failed>"
    assert repr(Body.of(b"abc")) == "<Body 3 of 3 bytes, whole>"
    other = Body()
    other.discard()
    assert repr(other) == "<Body 0 bytes, discarded>"
