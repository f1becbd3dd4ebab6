"""What a parser can ask for."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import InvalidFraming, MalformedFrame, MessageTooLong, TruncatedMessage, UnreadableStream
from tcpapp.framing import Framing, exactly, parser, peek, until, until_any
from tcpapp.framing.reader import Parse
from tcpapp.framing.wants import _KEPT, KEPT
from tests.framing.streams import cuts

LONG = 10_000


def of(*wants: Any, max: int = 1 << 20) -> Framing:  # noqa: A002 - the public name
    """Return a framing whose messages are what these wants give."""

    @parser(max=max)
    def several() -> Parse:
        """Ask for each of them."""
        given = []
        for want in wants:
            given.append((yield want))  # noqa: PERF401 - a comprehension cannot yield
        return given

    return several()


def given(framing: Framing, stream: bytes) -> Any:
    """Return the messages of `stream` and how it ends, the same however it is cut."""
    found = []
    for chunks in cuts(stream):
        state = framing.fresh()
        messages: list[Any] = []
        failure: UnreadableStream | None = None
        try:
            for chunk in chunks:
                messages += state.receive(chunk)
            state.finish()
        except UnreadableStream as error:
            failure = error
        found.append((messages, type(failure), str(failure), getattr(failure, "value", None)))
    assert all(each == found[0] for each in found), found
    messages, kind, text, _ = found[0]
    return messages if kind is type(None) else (messages, kind, text)


def test_exactly() -> None:
    """`exactly` gives so many bytes."""
    assert given(of(exactly(3), exactly(1)), b"hellohey") == [[b"hel", b"l"], [b"ohe", b"y"]]


def test_exactly_none() -> None:
    """`exactly(0)` gives no bytes."""
    assert given(of(exactly(0), exactly(1)), b"a") == [[b"", b"a"]]


def test_until() -> None:
    """`until` gives the bytes before the delimiter, and takes it."""
    assert given(of(until(b"\r\n")), b"one\r\n\r\ntwo\rx\r\n") == [[b"one"], [b""], [b"two\rx"]]


def test_until_a_long_delimiter() -> None:
    """The leftmost delimiter counts, also where it overlaps with another."""
    assert given(of(until(b"abab")), b"xababab abab") == [[b"x"], [b"ab "]]


def test_until_any() -> None:
    """`until_any` gives the bytes before the next delimiter, and that delimiter."""
    stream = b"one two\r\nthree\n \n"
    found = [[(b"one", b" ")], [(b"two", b"\r\n")], [(b"three", b"\n")], [(b"", b" ")], [(b"", b"\n")]]
    assert given(of(until_any([b" ", b"\n", b"\r\n"])), stream) == found


def test_peek() -> None:
    """`peek` gives bytes that the next want gives again."""
    assert given(of(peek(2), exactly(1), peek(2), exactly(2)), b"abc") == [[b"ab", b"a", b"bc", b"bc"]]


@pytest.mark.parametrize("want", [exactly(3), peek(3), until(b"\r\n"), until_any([b"\r\n", b"x"])], ids=repr)
def test_the_stream_ends_inside_a_want(want: Any) -> None:
    """A stream that ends inside a want is truncated."""
    messages, kind, text = given(of(exactly(1), want), b"hey")
    assert (messages, kind) == ([], TruncatedMessage)
    assert text == "the stream ended inside a message, of which 3 bytes had arrived"


@pytest.mark.parametrize("want", [until(b"\r\n", max=4), until_any([b"\r\n", b"\0"], max=4)], ids=repr)
def test_max_of_a_want(want: Any) -> None:
    """The `max` of a want bounds the bytes before the delimiter."""
    assert len(given(of(want), b"four\r\n")) == 1
    messages, kind, text = given(of(want), b"four\r\nfives\r\n")
    assert (len(messages), kind) == (1, MessageTooLong)
    assert text.startswith("more than 4 bytes have come without")
    assert text.endswith("at most 4 (max of the want) are accepted")


def test_delimiters_of_several_lengths_have_one_max() -> None:
    """The `max` of `until_any` bounds the bytes before the delimiter, however long the delimiter is."""
    for stream in (b"four\0", b"four--\n"):
        assert given(of(until_any([b"--\n", b"\0"], max=4)), stream) == [[(b"four", stream[4:])]]
    for stream in (b"fives\0", b"fives\0..", b"fives--\n"):
        assert given(of(until_any([b"--\n", b"\0"], max=4)), stream)[1] in (MessageTooLong, TruncatedMessage)


@pytest.mark.parametrize(
    ("want", "stream"),
    [(until(b"\r\n"), b"1234567\r\n"), (until_any([b"\r\n", b"\0"]), b"1234567\r\n"), (exactly(9), b"123456789")],
    ids=repr,
)
def test_max_of_the_framing(want: Any, stream: bytes) -> None:
    """The ``max`` of the framing bounds all bytes of a message, also those before this want, and delimiters."""
    assert len(given(of(exactly(1), want, max=10), b"a" + stream)) == 1
    messages, kind, text = given(of(exactly(1), want, max=9), b"a" + stream)
    assert (messages, kind) == ([], MessageTooLong)
    assert "a message of 10 bytes" in text
    assert text.endswith("at most 9 (max) are accepted")


@pytest.mark.parametrize("want", [exactly(LONG), peek(LONG)], ids=repr)
def test_too_many_bytes_are_refused_before_they_come(want: Any) -> None:
    """A number of bytes over ``max`` is `MessageTooLong` at once."""
    state = of(exactly(1), want, max=100)
    with pytest.raises(MessageTooLong, match="10001 bytes is announced") as caught:
        state.receive(b"a")
    assert (caught.value.value, caught.value.limit) == (LONG + 1, 100)


@pytest.mark.parametrize("want", [exactly(-1), peek(-1)], ids=repr)
def test_a_negative_number(want: Any) -> None:
    """A negative number of bytes is malformed."""
    messages, kind, text = given(of(exactly(1), want), b"ab")
    assert (messages, kind, text) == ([], MalformedFrame, "exactly(-1): takes a number of bytes, 0 or more")


@pytest.mark.parametrize("far", [2**63, 2**64, 10**30])
def test_numbers_beyond_all_sizes(far: int) -> None:
    """A number of any length is named in full by the error, also where the reader is compiled."""
    for framing in (of(exactly(1), exactly(far)), of(exactly(1), exactly(far), max=2**63 - 1)):
        with pytest.raises(MessageTooLong, match="is announced") as caught:
            framing.receive(b"ab")
        assert caught.value.value == far + 1
    _, kind, text = given(of(exactly(1), exactly(-far)), b"ab")
    assert (kind, text) == (MalformedFrame, f"exactly(-{far}): takes a number of bytes, 0 or more")
    assert of(until(b"\n", max=2**63 - 1)).receive(b"ab\n") == of(until(b"\n")).receive(b"ab\n")


@pytest.mark.parametrize("want", [None, "5", 5.0, b"\r\n", True, object])
def test_no_want(want: object) -> None:
    """Anything else that is yielded is malformed."""
    messages, kind, text = given(of(exactly(1), want), b"ab")
    assert (messages, kind) == ([], MalformedFrame)
    assert text.startswith(f"the parser yields {want!r}: takes until")


def test_a_generator_that_is_yielded() -> None:
    """The error of a parser that forgets the ``from`` of ``yield from`` says so."""

    def line() -> Parse:
        return (yield until(b"\n"))

    messages, kind, text = given(of(exactly(1), line()), b"ab")
    assert (messages, kind) == ([], MalformedFrame)
    assert text.startswith("the parser yields a generator, line() (write: yield from line()): takes until")


def test_wants_are_used_again() -> None:
    """A want with the same arguments is the same object, so that a parser makes none for each message."""
    assert until(b"\r\n", max=5) is until(b"\r\n", 5)
    assert until_any([b"a", b"b"]) is until_any((b"a", b"b"))
    assert peek(4) is peek(4)


def test_a_few_wants_are_kept() -> None:
    """Arguments that come from a peer do not make memory grow: only some wants are kept."""
    for number in range(5 * KEPT):
        until(b"%d" % number)
    assert len(_KEPT) <= KEPT
    assert given(of(until(b"7")), b"a7") == [[b"a"]]


def test_wants_have_the_form_of_their_calls() -> None:
    """The `repr` of a want is the call that makes it."""
    for text in (
        "until(b'\\r\\n')",
        "until(b'x', max=5)",
        "until_any([b'a', b'b'])",
        "until_any([b'a'], max=0)",
        "peek(3)",
    ):
        assert repr(eval(text)) == text


@pytest.mark.parametrize("delimiter", [b"", "x", None])
def test_a_delimiter_is_bytes(delimiter: Any) -> None:
    """A delimiter is one byte or more."""
    for make in (until, lambda each: until_any([b"a", each])):
        with pytest.raises(InvalidFraming, match="takes bytes, one or more"):
            make(delimiter)


def test_no_delimiters() -> None:
    """`until_any` takes one delimiter or more."""
    with pytest.raises(InvalidFraming, match="takes one or more"):
        until_any([])


def test_a_max_is_a_number() -> None:
    """The `max` of a want is a whole number, 0 or more."""
    for make in (until, lambda _, max: until_any([b"a"], max)):  # noqa: A006 - the public name
        with pytest.raises(InvalidFraming, match="max=-1: takes a whole number"):
            make(b"a", max=-1)


@pytest.mark.parametrize("delimiters", [[b"\r", b"\r\n"], [b"b", b"abc"]])
def test_a_delimiter_that_is_never_whole(delimiters: list[bytes]) -> None:
    """A delimiter inside which another one ends is refused: it would never be found."""
    with pytest.raises(InvalidFraming, match="is never whole, because"):
        until_any(delimiters)
