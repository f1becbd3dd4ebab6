"""Framings that are written as a generator."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tcpapp.errors import (
    InvalidFraming,
    InvalidState,
    MalformedFrame,
    MessageTooLong,
    TruncatedMessage,
    UndecodableMessage,
    UnreadableStream,
    UnsendableMessage,
)
from tcpapp.framing import NO_MESSAGE, Framing, Parser, exactly, parser, peek, until, until_any
from tcpapp.framing.decoded import Decoded
from tcpapp.framing.reader import EMPTY_WANTS, Parse
from tests.framing.generators import memcached, record, resp, words
from tests.framing.streams import cuts, moved, single

SET, GET = ([b"set", b"k", b"0", b"0", b"3"], b"abc"), ([b"get", b"k"], None)
STREAM = b"set k 0 0 3\r\nabc\r\nget k\r\n"


def read(framing: Framing, chunks: list[bytes], *, moves: bool = False) -> tuple[list[Any], UnreadableStream | None]:
    """Return the messages of a stream and its failure; with `moves`, the state is moved after each chunk."""
    state = framing.fresh()
    messages: list[Any] = []
    failure: UnreadableStream | None
    try:
        for chunk in chunks:
            messages += state.receive(chunk)
            assert state.held <= state.max
            if moves and state.failure is None:
                state = moved(state)
        state.finish()
    except UnreadableStream as error:
        failure = error
    else:
        failure = None
    assert failure is state.failure
    assert state.held == 0
    return messages, failure


def outcome(framing: Framing, stream: bytes) -> tuple[list[Any], type[UnreadableStream] | None]:
    """Return the messages of a stream and the class of its failure, the same however it is cut and moved."""
    found = []
    ways = [(chunks, False) for chunks in cuts(stream)] + [(single(stream), True)]
    for chunks, moves in ways:
        messages, failure = read(framing, chunks, moves=moves)
        found.append((messages, None if failure is None else type(failure)))
    assert all(each == found[0] for each in found), found
    return found[0]


def failing(framing: Framing, stream: bytes) -> UnreadableStream:
    """Return the failure of a stream, the same however it is cut."""
    assert outcome(framing, stream)[1] is not None
    failure = read(framing, [stream])[1]
    assert failure is not None
    return failure


# Receiving


def test_messages_are_what_the_generator_returns() -> None:
    """`receive` returns what the generator returns, the same however the stream is cut."""
    assert outcome(memcached(), STREAM * 2) == ([SET, GET] * 2, None)


def test_parsers_compose() -> None:
    """A parser reads a message inside another by ``yield from``, also one of its own kind."""
    stream = b"*3\r\n:1\r\n$2\r\nhi\r\n*1\r\n+OK\r\n:2\r\n"
    assert outcome(resp(), stream) == ([[b"1", b"hi", [b"OK"]], b"2"], None)


def test_a_want_in_a_function_of_ones_own() -> None:
    """A generator function that is no parser can be used in a parser."""

    def line() -> Iterator[Any]:
        """Read a line."""
        return (yield until(b"\n"))  # type: ignore[return-value]  # a generator's result

    @parser
    def pair() -> Parse:
        """Read two lines."""
        return (yield from line()), (yield from line())

    assert outcome(pair(), b"a\nb\nc\nd\n") == ([(b"a", b"b"), (b"c", b"d")], None)


def test_none_is_a_message() -> None:
    """A generator that returns `None` gives the message `None`."""

    @parser
    def nothing() -> Parse:
        """Read a byte and forget it."""
        yield exactly(1)

    assert outcome(nothing(), b"abc") == ([None] * 3, None)


def test_bytes_that_are_no_message() -> None:
    """Bytes for which the generator returns `NO_MESSAGE` are left out: none are held, and the stream can end there."""

    @parser(max=9)
    def lines() -> Parse:
        """Read a line that is not empty."""
        return (yield until(b"\n")) or NO_MESSAGE

    assert outcome(lines(), b"\n\na\n\nbc\n\n\n") == ([b"a", b"bc"], None)
    state = lines().whole()
    assert [state.receive(b"\n" * 100), state.held, state.unfinished] == [[], 0, False]
    assert [(each.message, each.value) for each in state.receive(b"\na\n")] == [(b"a\n", b"a")]


def test_the_end_inside_a_message() -> None:
    """A stream that ends inside a message, after any of its bytes, is truncated."""
    for size in range(1, 18):
        failure = failing(memcached(), STREAM[:size])
        assert isinstance(failure, TruncatedMessage)
        assert failure.value == size


def test_messages_before_a_fault_come_first() -> None:
    """The messages before a fault are returned, and the next call raises the fault."""
    state = memcached()
    assert state.receive(STREAM + b"set k 0 0 3\r\nabcd\r\n") == [SET, GET]
    with pytest.raises(MalformedFrame, match="no CRLF after the data block"):
        state.receive(b"")
    with pytest.raises(MalformedFrame):
        state.finish()


def test_an_error_of_the_generator() -> None:
    """Any other exception of the generator is a `MalformedFrame` with this exception as its cause."""
    failure = failing(memcached(), b"set k 0 0 many\r\n")
    assert isinstance(failure, MalformedFrame)
    name = "tests.framing.generators:memcached"
    assert str(failure) == f"{name} raised ValueError: invalid literal for int() with base 10: b'many'"
    assert isinstance(failure.__cause__, ValueError)
    assert failure.__cause__.__traceback__ is None


def test_an_error_shows_little_of_the_peer() -> None:
    """The text of an exception is escaped and cut in the text of the fault."""

    @parser
    def strict() -> Parse:
        """Refuse a line."""
        raise ValueError((yield until(b"!")).decode())

    text = str(failing(strict(), b"a\n\x1b[0m" + b"x" * 500 + b"!"))
    assert r"ValueError: a\n\x1b[0mxxx" in text
    assert len(text) < 200


def test_an_unreadable_stream_is_raised_as_it_is() -> None:
    """An `UnreadableStream` of the generator ends the stream with this error."""

    @parser
    def strict() -> Parse:
        """Refuse a byte."""
        byte = yield exactly(1)
        raise UndecodableMessage("a bad byte", message=byte)

    assert type(failing(strict(), b"x")) is UndecodableMessage


def test_a_system_exit_is_no_fault_of_the_peer() -> None:
    """An exception that is no `Exception` passes through."""

    @parser
    def leaving() -> Parse:
        """Leave the program."""
        yield exactly(1)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        leaving().receive(b"x")


@pytest.mark.parametrize("want", [exactly(0), peek(1), peek(0)], ids=repr)
def test_a_parser_that_takes_no_bytes(want: Any) -> None:
    """More than a thousand wants in a row that take no byte are malformed."""

    @parser
    def endless(count: int = EMPTY_WANTS) -> Parse:
        """Ask for nothing, twice `count` times, and for a byte between."""
        for _ in range(count):
            yield want
        yield exactly(1)
        for _ in range(count):
            yield want
        return (yield exactly(1))

    assert outcome(endless(), b"ab") == ([b"b"], None)
    failure = failing(endless(EMPTY_WANTS + 1), b"ab")
    assert str(failure) == "the parser has more than 1000 wants in a row that take no byte"


def test_wants_that_take_no_bytes_are_counted_for_each_message() -> None:
    """Any number of messages can begin with a want that takes no byte."""

    @parser
    def looking() -> Parse:
        """Look at a byte, and read it."""
        yield peek(1)
        return (yield exactly(1))

    assert looking().receive(b"a" * 3 * EMPTY_WANTS) == [b"a"] * 3 * EMPTY_WANTS


def test_a_message_of_no_bytes() -> None:
    """A generator that returns before it has taken a byte is malformed: it would return for ever."""

    @parser
    def eager() -> Parse:
        """Look, and take nothing."""
        return (yield peek(1))

    assert str(failing(eager(), b"a")) == "the parser returns a message without reading a byte of it"


def test_a_message_of_exactly_max() -> None:
    """``max`` bounds all bytes of a message."""
    assert outcome(memcached(max=18), STREAM) == ([SET, GET], None)
    assert outcome(memcached(max=17), STREAM) == ([], MessageTooLong)


def test_a_long_message_in_small_chunks_is_joined_once() -> None:
    """A message of many chunks is given in one piece."""
    data = bytes(range(256)) * 400
    frame = memcached().frame(([b"set", b"k", b"0", b"0", b"%d" % len(data)], data))
    assert read(memcached(), [frame[at : at + 100] for at in range(0, len(frame), 100)])[0][0][1] == data


def test_a_long_message_of_many_wants() -> None:
    """A message far over the bytes that are joined is read by every want, however it is cut."""

    @parser
    def long() -> Parse:
        """Read a count, and so many parts of each kind."""
        count = int((yield until(b"\n")))
        parts = []
        for _ in range(count):
            size = int((yield until(b":", max=8)))
            parts.append((yield peek(2)) + (yield exactly(size)))
            parts.append((yield until_any([b";", b"\r\n"]))[0])
        return parts

    part = b"3000:" + b"a" * 3000 + b"b" * 5000 + b"\r\n"
    stream = (b"4\n" + part * 4) * 2
    expected = [[b"aa" + b"a" * 3000, b"b" * 5000] * 4] * 2
    for size in (1, 7, 1000, 4999, len(stream)):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert read(long(), chunks, moves=size > 500) == (expected, None)


def test_a_stream_of_single_bytes_is_held_in_little_memory() -> None:
    """A long message that comes in single bytes is held in one `bytearray`."""
    state = memcached()
    for byte in single(b"set k 0 0 100000\r\n" + b"x" * 20_000):
        state.receive(byte)
    assert isinstance(state.beginning, bytearray)
    assert state.held == 20_018


# The state


def test_the_held_bytes() -> None:
    """The bytes of an unfinished message are held, from its beginning."""
    state = memcached()
    for size in range(1, 18):
        state.receive(STREAM[size - 1 : size])
        assert (state.held, state.beginning, state.unfinished) == (size, STREAM[:size], True)
    state.receive(STREAM[17:18])
    assert (state.held, state.beginning, state.unfinished) == (0, b"", False)


def test_a_state_that_is_no_beginning_is_not_loaded() -> None:
    """Bytes that hold a whole message, or that the generator refuses, are no state of a parser."""
    state = memcached()
    state.receive(b"get k\r")
    dumped = state.dump()
    for wrong in (b"get k\n", b"get\r\nk", b"set\r\nk"):
        if wrong == b"get k\n":
            assert memcached().load(dumped.replace(b"get k\r", wrong)) is None
            continue
        with pytest.raises(InvalidState, match="6 bytes held, which do not begin one message"):
            memcached().load(dumped.replace(b"get k\r", wrong))
    with pytest.raises(InvalidState):
        memcached(max=5).load(dumped)


def test_a_copy_of_a_failed_stream() -> None:
    """A copy of a stream that has failed has the same failure."""
    state = memcached()
    with pytest.raises(MalformedFrame):
        state.receive(b"set\r\n")
    assert copy.deepcopy(state).failure is state.failure


def test_a_dropped_stream() -> None:
    """A dropped stream holds nothing, and its generator has ended."""
    ended = []

    @parser
    def noting() -> Parse:
        """Note the end."""
        try:
            yield exactly(5)
        finally:
            ended.append(True)

    state = noting()
    state.receive(b"abc")
    state.drop()
    assert (state.held, ended) == (0, [True])


@pytest.mark.parametrize("stubborn", [True, False])
def test_a_generator_that_does_not_want_to_end(stubborn: bool) -> None:
    """A generator that asks for more when it is closed, or raises, ends all the same."""

    @parser
    def clinging() -> Parse:
        """Go on."""
        try:
            yield exactly(5)
        finally:
            if not stubborn:
                raise OSError("no")
            yield exactly(6)

    state = clinging()
    state.receive(b"abc")
    state.drop()
    assert (state.held, state.unfinished) == (0, False)


@pytest.mark.parametrize("ends", ["drop", "fail", "finish", "forgotten", "whole"])
def test_everything_is_freed_at_the_end(ends: str) -> None:
    """What a generator holds is freed at the end of its stream, without the garbage collector."""

    class Big:
        """Something that a generator holds."""

    alive: list[weakref.ref[Big]] = []

    @parser
    def holding() -> Parse:
        """Hold something, and read four bytes."""
        big = Big()
        alive.append(weakref.ref(big))
        found = yield exactly(2)
        if found == b"xx":
            raise ValueError(big)
        return found + (yield exactly(2))

    gc.disable()
    try:
        state = holding()
        state.receive(b"ab")
        assert alive[0]() is not None
        if ends == "drop":
            state.drop()
        elif ends == "fail":
            state.receive(b"cdxx")
            state.failure.__cause__ = None
        elif ends == "finish":
            with pytest.raises(TruncatedMessage):
                state.finish()
        elif ends == "whole":
            state.receive(b"cd")
        else:
            del state
        assert [each() for each in alive if each() is not None] == []
    finally:
        gc.enable()


# Sending


def test_messages_are_framed_by_the_function() -> None:
    """`frame` gives the bytes by the parser's function, and `frame_all` joins them."""
    framing = memcached()
    assert framing.frame(SET) + framing.frame(GET) == STREAM
    assert framing.frame_all([SET, GET]) == STREAM
    assert framing.frame_all([]) == b""


def test_bytes_are_sent_as_they_are() -> None:
    """Without a function, messages that are sent are bytes."""
    assert resp().frame(b"+OK\r\n") == b"+OK\r\n"
    with pytest.raises(UnsendableMessage, match=r"resp sends bytes, not list: make the parser with frame="):
        resp().frame([b"OK"])


def test_max_of_what_is_sent() -> None:
    """``max`` bounds the bytes of a message that is sent."""
    assert memcached(max=18).frame(SET)
    for send in (memcached(max=17).frame, lambda each: memcached(max=17).frame_all([each])):
        with pytest.raises(UnsendableMessage, match=r"18 bytes; at most 17 \(max\)"):
            send(SET)


def test_an_error_of_the_function() -> None:
    """Any exception of the function is an `UnsendableMessage` with this exception as its cause."""
    with pytest.raises(UnsendableMessage, match="memcached cannot frame this int: TypeError: cannot unpack") as caught:
        memcached().frame(5)
    assert isinstance(caught.value.__cause__, TypeError)


def test_the_function_refuses_a_message() -> None:
    """An `UnsendableMessage` of the function is raised as it is."""

    def refuse(message: object) -> bytes:
        raise UnsendableMessage("not today")

    @parser(frame=refuse)
    def line() -> Parse:
        """Read a line."""
        return (yield until(b"\n"))

    with pytest.raises(UnsendableMessage, match=r"^not today$"):
        line().frame(b"x")


def test_the_function_returns_bytes() -> None:
    """A function that returns anything but bytes is refused."""

    @parser(frame=lambda message: message)
    def line() -> Parse:
        """Read a line."""
        return (yield until(b"\n"))

    with pytest.raises(UnsendableMessage, match="line returns bytes, not str"):
        line().frame("x")


# Whole messages, as a connection uses them


def test_whole_messages() -> None:
    """A connection gets the bytes of each message with its value, and sends bytes that are framed."""
    framing = memcached().whole()
    for chunks in ([STREAM], single(STREAM)):
        state = framing.fresh()
        got = [each for chunk in chunks for each in state.receive(chunk)]
        assert [type(each) for each in got] == [Decoded, Decoded]
        assert [(each.message, each.value) for each in got] == [(STREAM[:18], SET), (STREAM[18:], GET)]
        assert len(got[0]) == 18
    assert framing.frame(STREAM) == STREAM
    assert framing.frame_all([STREAM[:18], STREAM[18:]]) == STREAM
    for send in (framing.frame, lambda each: framing.frame_all([each])):
        with pytest.raises(UnsendableMessage):
            send(SET)


def test_messages_for_a_codec() -> None:
    """Where a codec follows, a message is bytes, and anything else is malformed."""
    framing = record().of_bytes()
    assert framing.receive(b"S\x02hi") == [b"hi"]
    state = memcached().of_bytes()
    with pytest.raises(MalformedFrame, match="memcached returns a tuple: where there is a codec, a message is bytes"):
        state.receive(STREAM)


# The decorator


def test_options() -> None:
    """The arguments of the function are options of the framing, also of the function that frames."""
    framing = record("client", width=2)
    assert framing.frame(b"hi") == b"C\x00\x02hi"
    assert outcome(framing, b"C\x00\x02hi") == ([b"hi"], None)
    assert outcome(framing, b"S\x00\x02hi") == ([], MalformedFrame)
    assert (framing.side, framing.width, framing.max) == ("client", 2, 40)


def test_a_function_without_a_signature() -> None:
    """The function that frames can be a built-in one, which gets the message alone."""

    @parser(frame=bytes)
    def sized(size: int = 2) -> Parse:
        """Read a few bytes."""
        return (yield exactly(size))

    assert sized(3).frame(b"abc") == b"abc"


def test_a_framing_as_a_value() -> None:
    """Framings with the same options are equal; `repr` is the call that makes one."""
    framing = record("client", max=50)
    assert framing == record(side="client", max=50) == framing.fresh()
    assert hash(framing) == hash(framing.fresh())
    assert framing != record("client")
    assert memcached() != resp()
    assert repr(framing) == "record(side='client', max=50)"
    assert repr(memcached()) == "memcached()"
    assert isinstance(framing, Parser)
    assert issubclass(record, Framing)


def test_the_name_and_the_docstring_are_those_of_the_function() -> None:
    """The framing has the name, the module and the docstring of its function."""
    assert (record.__name__, record.__module__) == ("record", "tests.framing.generators")
    assert (record.__doc__ or "").startswith("Read bytes behind a tag")


def test_a_wrong_option() -> None:
    """An option that the function does not have is a `TypeError`, as in a call of the function."""
    with pytest.raises(TypeError, match="sides"):
        record(sides="client")
    with pytest.raises(InvalidFraming, match="max=0"):
        record(max=0)


@parser
def chosen(side: Literal["server", "client"] = "server", *, version: Literal[2, 3] = 2) -> Parse:
    """Read a byte."""
    return side, version, (yield exactly(1))


@parser
def unknown(side: Literal["server", Nowhere] = "server") -> Parse:  # type: ignore[name-defined]  # noqa: F821
    """Read a byte."""
    return side, (yield exactly(1))


def test_an_option_takes_the_values_of_its_type() -> None:
    """An option whose type is a `Literal` takes its values only. A type that is not to be found takes any."""
    assert chosen("client", version=3).receive(b"x") == [("client", 3, b"x")]
    with pytest.raises(InvalidFraming, match=r"^side=.sever.: takes .server. or .client.; did you mean .server."):
        chosen(side="sever")
    with pytest.raises(InvalidFraming, match=r"^version=4: takes 2 or 3$"):
        chosen(version=4)
    assert unknown("anything").receive(b"x") == [("anything", b"x")]


def test_long_messages_are_not_skipped() -> None:
    """``oversize`` is "close" only."""
    assert memcached(oversize="close") == memcached()
    with pytest.raises(InvalidFraming, match="oversize='skip': a parser takes close"):
        memcached(oversize="skip")
    with pytest.raises(InvalidFraming, match="oversize='none'"):
        memcached(oversize="none")


def test_a_parser_is_a_generator_function() -> None:
    """A function without a ``yield`` is refused when it is decorated."""
    for make in (parser, parser(max=5)):
        with pytest.raises(InvalidFraming, match="takes a function that yields what it needs"):
            make(lambda: None)  # type: ignore[operator]  # one of two kinds of decorators


def test_names_that_framings_use() -> None:
    """An argument of a name that every framing uses, or that is not one value, is refused."""

    def held(held: int) -> Parse:
        """Read something."""
        yield exactly(held)

    def several(*sizes: int) -> Parse:
        """Read something."""
        yield exactly(sizes[0])

    for function in (held, several):
        with pytest.raises(InvalidFraming, match="takes another argument"):
            parser(function)


def test_words() -> None:
    """A parser can ask for several delimiters."""
    assert outcome(words(), b"ab cd\r\n") == ([(b"ab", b" "), (b"cd", b"\r\n")], None)


def test_a_wrong_option_names_its_parser() -> None:
    """Options that are missing or unknown raise a `TypeError` that names the parser, as for a function."""

    @parser
    def sided(side: str) -> Parse:
        return side, (yield exactly(1))

    with pytest.raises(TypeError, match=r"sided: missing a required argument: 'side'$"):
        sided()
    with pytest.raises(TypeError, match=r"sided: got an unexpected keyword argument 'site'$"):
        sided("a", site=1)
