"""Messages with bodies in a parser, without a connection: every cut, every end, every fault."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from tcpapp.errors import (
    InvalidFraming,
    InvalidState,
    MalformedFrame,
    MessageTooLong,
    TruncatedMessage,
    UnreadableStream,
)
from tcpapp.framing import NO_MESSAGE, Body, Parser, exactly, parser, peek, piece, stream, until
from tcpapp.framing.decoded import Decoded, Streamed, as_bytes
from tcpapp.framing.reader import Parse
from tcpapp.framing.streams import EMPTY_WANTS, Piece
from tests.framing.bodies import chunked, content, store, upload, whole
from tests.framing.streams import cuts

SETS = b"get\r\nset 5\r\nhello\r\nset 0\r\n\r\nget\r\nset 3\r\n\r\n\r\r\n"
CHUNKS = b"head\n5\r\nhello\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\nhead2\n0\r\n\r\n"


def read(framing: type[Parser], stream: bytes) -> Any:
    """Return the messages of a stream, the same however it is cut; bodies as their bytes."""
    found = []
    for chunks in cuts(stream):
        state = framing()
        messages: list[Any] = []
        for chunk in chunks:
            messages += state.receive(chunk)
            assert state.held <= state.max
        state.finish()
        assert (state.held, state.in_body, state.unfinished) == (0, False, False)
        found.append([content(message) for message in messages])
    assert all(each == found[0] for each in found)
    return found[0]


def fault_of(framing: type[Parser], stream: bytes) -> tuple[list[Any], UnreadableStream]:
    """Return the messages of a stream that ends with a fault, and the fault, which has the same text for every cut."""
    found = []
    for chunks in cuts(stream):
        state = framing()
        messages: list[Any] = []
        failure = fault_in(state, chunks, messages)
        assert state.failure is failure
        assert (state.held, state.in_body) == (0, False)
        found.append((messages, type(failure), str(failure)))
    assert all(each[1:] == found[0][1:] for each in found)
    return found[0][0], failure


def fault_in(state: Parser, chunks: list[bytes], messages: list[Any]) -> UnreadableStream:
    """Read `chunks`, and return the fault with which they end."""
    try:
        for chunk in chunks:
            messages += state.receive(chunk)
        state.finish()
    except UnreadableStream as fault:
        return fault
    pytest.fail("there is no fault")


# What comes ----------------------------------------------------------------------------------------------------------


def test_a_body_with_a_length() -> None:
    """The body has as many bytes as its length says, whatever they are, and the next message begins behind its end."""
    assert read(store, SETS) == [
        ([b"get"], None),
        ([b"set", b"5"], b"hello"),
        ([b"set", b"0"], b""),
        ([b"get"], None),
        ([b"set", b"3"], b"\r\n\r"),
    ]


def test_a_body_in_chunks() -> None:
    """A body's own generator says which bytes are the body, and where it ends."""
    assert read(chunked, CHUNKS) == [(b"head", b"helloabc"), (b"head2", b"")]


def test_a_body_to_the_end_of_the_stream() -> None:
    """A body without a length is whole when the stream ends."""
    assert read(upload, b"head\nall\nthe rest") == [(b"head", b"all\nthe rest")]
    assert read(upload, b"head\n") == [(b"head", b"")]


def test_the_whole_stream_can_be_one_body() -> None:
    """A message can be its body alone."""
    assert read(whole, b"all of it") == [b"all of it"]


def test_the_message_comes_before_its_body() -> None:
    """The message is returned with its head. The body gets its bytes by later chunks, which return nothing."""
    state = store()
    [(_, body)] = state.receive(b"set 5\r\n")
    assert (body.received, body.is_whole, state.in_body, state.unfinished) == (0, False, True, False)
    assert state.receive(b"hel") == []
    assert (body.take(), body.remaining) == (b"hel", 2)
    assert state.receive(b"lo\r") == []
    assert (body.take(), body.is_whole, state.held) == (b"lo", False, 1)
    assert state.receive(b"\nget\r\n") == [([b"get"], None)]
    assert (body.is_whole, state.in_body) == (True, False)


def test_max_does_not_bound_a_body() -> None:
    """A body is longer than ``max``, and a chunk of it is passed on as it came."""
    state = store()
    [(_, body)] = state.receive(b"set 1000000\r\n")
    chunk = bytes(100_000)
    for _ in range(10):
        assert state.receive(chunk) == []
        assert body.take() is chunk
    assert state.held == 0
    state.receive(b"\r\n")
    assert body.is_whole


def test_bodies_can_be_made_by_another_class() -> None:
    """A connection makes the bodies of its stream, and gets their sizes."""

    class Own(Body):
        pass

    state = store()
    state.make_bodies(Own)
    [(_, body)] = state.receive(b"set 5\r\n")
    assert (type(body), body.size) == (Own, 5)


# How a connection has it ---------------------------------------------------------------------------------------------


def test_a_whole_message_with_a_body_stays_as_it_is() -> None:
    """For a connection, a message with a body has its bytes, its value and its body, and never becomes its bytes."""
    first, second = store().whole().receive(b"get\r\nset 5\r\n")
    assert (type(first), type(second)) == (Decoded, Streamed)
    assert (second.message, second.value, len(second)) == (b"set 5\r\n", ([b"set", b"5"], second.body), 7)
    assert as_bytes([first, second]) == [b"get\r\n", second]
    assert as_bytes([b"x"]) == [b"x"]


def test_where_there_is_a_codec_a_body_is_a_fault() -> None:
    """A codec decodes whole messages, so a message with a body is a fault that says so."""
    with pytest.raises(MalformedFrame, match="serve this framing without a codec"):
        store().of_bytes().receive(b"set 5\r\n")


# How it ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"hel", b"hello", b"hello\r"])
def test_a_stream_that_ends_inside_a_body_is_truncated(rest: bytes) -> None:
    """The end of the stream inside a body is a fault of the peer, which the body has, too."""
    state = store()
    [(_, body)] = state.receive(b"set 5\r\n" + rest)
    with pytest.raises(TruncatedMessage, match=f"of which {len(rest)} bytes had arrived"):
        state.finish()
    assert body.received == len(rest[:5])
    with pytest.raises(TruncatedMessage):
        assert body.take() != body.take()


def test_wrong_bytes_behind_a_body() -> None:
    """Bytes behind a body that are not its end are a fault."""
    messages, fault = fault_of(store, b"get\r\nset 5\r\nhelloXX")
    assert (type(fault), len(messages)) == (MalformedFrame, 2)
    assert "behind a body of 5 bytes" in str(fault)
    assert messages[1][1].received == 5


def test_a_chunk_that_cannot_be_read() -> None:
    """What the generator of a body raises is a fault of the stream, with its cause."""
    _, fault = fault_of(chunked, b"head\nzz\r\n")
    assert (type(fault), type(fault.__cause__)) == (MalformedFrame, ValueError)
    assert "ValueError" in str(fault)


def test_a_long_line_between_chunks() -> None:
    """``max`` bounds each want between the pieces of a body."""
    _, fault = fault_of(chunked, b"head\n0\r\n" + b"x" * 100 + b"\r\n\r\n")
    assert type(fault) is MessageTooLong


def test_many_lines_behind_a_body_are_no_fault() -> None:
    """All lines together can be longer than ``max``, as they are not held."""
    assert read(chunked, b"head\n0\r\n" + b"x: y\r\n" * 30 + b"\r\n") == [(b"head", b"")]


def test_a_dropped_stream_closes_the_generator_of_its_body() -> None:
    """When the stream is not read on, the generator of a body ends."""
    closed = []

    def parts() -> Parse:
        try:
            yield piece(5)
        finally:
            closed.append(True)

    @parser
    def framing() -> Parse:
        yield exactly(1)
        return (yield stream(parts()))

    state = framing()
    state.receive(b"xab")
    state.drop()
    assert (closed, state.in_body) == ([True], False)


def test_a_stream_is_not_dumped_inside_a_body() -> None:
    """The state of a stream cannot be dumped inside a body, and can be again behind it."""
    state = store()
    state.receive(b"set 5\r\nhel")
    with pytest.raises(InvalidState, match="inside a body"):
        state.dump()
    state.receive(b"lo\r\nge")
    other = store()
    other.load(state.dump())
    assert other.receive(b"t\r\n") == [([b"get"], None)]


# Wrong parsers -------------------------------------------------------------------------------------------------------


def made(parts: Any) -> type[Parser]:
    """Return a parser of one byte and a body."""

    @parser(max=64)
    def framing() -> Parse:
        yield exactly(1)
        return (yield stream(parts()))

    return framing


def test_a_second_body_is_a_fault() -> None:
    """A message has one body."""

    @parser
    def framing() -> Parse:
        yield exactly(1)
        return (yield stream(1)), (yield stream(1))

    assert "second body" in str(fault_of(framing, b"abc")[1])


@pytest.mark.parametrize("want", [exactly(1), until(b"c")])
def test_a_body_is_the_last_part(want: Any) -> None:
    """A parser that reads on behind its body is a fault, however the stream is cut."""

    @parser
    def framing() -> Parse:
        yield exactly(1)
        body = yield stream(1)
        yield want
        return body

    with pytest.raises(MalformedFrame, match="a body is the last part of its message"):
        framing().receive(b"abc")


def test_what_is_no_want_of_a_body() -> None:
    """A body's generator yields pieces and wants alone."""

    def parts() -> Parse:
        yield "five"

    assert "a body yields 'five': takes piece, until" in str(fault_of(made(parts), b"abc")[1])


@pytest.mark.parametrize("size", [-1, -100])
def test_a_body_has_a_size(size: int) -> None:
    """A negative size, which can come from the peer, is a fault, and the error names it."""

    @parser
    def framing() -> Parse:
        yield exactly(1)
        return (yield stream(size))

    with pytest.raises(MalformedFrame, match=rf"^stream\({size}\): takes a number of bytes, 0 or more$"):
        framing().receive(b"abc")


@pytest.mark.parametrize("size", ["5", 5.0, b"5"], ids=repr)
def test_what_is_no_body(size: Any) -> None:
    """A body is a number of bytes, a generator or `None`."""
    with pytest.raises(InvalidFraming, match=r"^stream\(.*\): takes a number of bytes, a generator or None$"):
        stream(size)


@pytest.mark.parametrize("size", [-1, -100])
def test_a_piece_has_a_size(size: int) -> None:
    """A negative size, which can come from the peer, is a fault."""

    def parts() -> Parse:
        yield piece(size)

    assert str(fault_of(made(parts), b"abc")[1]) == f"piece({size}): takes a number of bytes, 0 or more"


@pytest.mark.parametrize("want", [piece(0), peek(1)])
def test_a_body_that_asks_for_nothing_without_end(want: Any) -> None:
    """A body's generator that takes no byte in a thousand wants would never end."""

    def parts() -> Parse:
        while True:
            yield want

    assert f"more than {EMPTY_WANTS} wants" in str(fault_of(made(parts), b"abc")[1])


def test_a_message_and_a_body_without_a_byte() -> None:
    """A parser that reads nothing for its message and nothing for its body would never end."""

    @parser
    def framing() -> Parse:
        return (yield stream(0))

    state = framing()
    assert len(state.receive(b"abc")) == 1
    assert "without a byte" in str(state.failure)


def test_a_body_can_have_no_part() -> None:
    """A body's generator that asks for nothing makes an empty body."""

    def parts() -> Parse:
        yield from ()

    state = made(parts)()
    first, second = state.receive(b"ab")
    assert [(each.is_whole, each.received) for each in (first, second)] == [(True, 0)] * 2


def test_a_body_of_no_message_is_dropped() -> None:
    """A parser can leave out a message with its body."""

    @parser
    def framing() -> Parse:
        yield exactly(1)
        yield stream(2)
        return NO_MESSAGE

    state = framing()
    assert (state.receive(b"abcde"), state.in_body) == ([], True)


def test_an_end_belongs_to_a_length() -> None:
    """A generator reads what is behind its body itself."""
    with pytest.raises(InvalidFraming, match="a generator reads"):
        stream(iter(()), end=b"\r\n")  # type: ignore[arg-type]  # what is wrong


def test_pieces_are_shown() -> None:
    """A piece shows its size."""
    assert (repr(piece(5)), repr(piece()), type(piece())) == ("piece(5)", "piece()", Piece)


# Costs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize(("framing", "body"), [(store, b"x" * 200_000), (chunked, b"1\r\nx\r\n" * 30_000)])
def test_time_is_linear(framing: type[Parser], body: bytes) -> None:
    """A body in 1-byte chunks takes about as long for each byte as a body of a tenth."""
    head = b"set 200000\r\n" if framing is store else b"head\n"

    def seconds(size: int) -> float:
        state = framing()
        [(_, each)] = state.receive(head)
        began = time.process_time()
        for place in range(size):
            state.receive(body[place : place + 1])
            each.take()
        return time.process_time() - began

    best = min(seconds(20_000) / max(seconds(2_000), 1e-6) for _ in range(3))
    assert best < 30


@pytest.mark.exhaustive
def test_many_chunks_in_one_take_linear_time() -> None:
    """A chunk of a stream with thousands of pieces is not copied for each of them."""
    state = chunked()
    [(_, body)] = state.receive(b"head\n1")
    tracemalloc.start()
    state.receive(b"\r\nx\r\n" + b"1\r\ny\r\n" * 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert body.received == 10_001
    assert peak < 3_000_000
