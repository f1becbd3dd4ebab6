"""Lines, and messages that end with another delimiter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import InvalidFraming, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Delimited, Lines
from tcpapp.framing.terminated import overlaps_itself
from tests.framing.streams import Outcome, ends, read, same, single

# Lines


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"hello\n", [b"hello"]),
        (b"hello\r\n", [b"hello"]),
        (b"a\r\nb\nc\r\n", [b"a", b"b", b"c"]),
        (b"\n\r\n\n", [b"", b"", b""]),
        (b"a\r\r\n", [b"a\r"]),
        (b"\r\r\n\r\n", [b"\r", b""]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\rb\n", [b"\rb"]),
        (b"caf\xc3\xa9\x00\x1b\n", [b"caf\xc3\xa9\x00\x1b"]),
    ],
)
def test_lf_and_crlf(stream: bytes, lines: list[bytes]) -> None:
    """A line ends with LF, and one CR before it is removed, at any cut."""
    assert same(Lines(), stream) == Outcome(tuple(lines), None, 0)


def test_lf_is_sent() -> None:
    """A line is sent with LF at its end."""
    assert Lines().frame(b"hello") == b"hello\n"
    assert Lines().frame_all([b"a", b"", b"b\rc"]) == b"a\n\nb\rc\n"


def test_a_line_that_ends_in_cr_is_sent_with_crlf() -> None:
    """A line that ends with CR is sent with CR LF, because the receiver of LF alone would remove the CR."""
    assert Lines().frame(b"a\r") == b"a\r\r\n"
    assert Lines().frame_all([b"a\r", b"b", b"\r", b"\r\r"]) == b"a\r\r\nb\n\r\r\n\r\r\r\n"
    assert same(Lines(), b"a\r\r\nb\n\r\r\n\r\r\r\n").messages == (b"a\r", b"b", b"\r", b"\r\r")


@pytest.mark.parametrize(("message", "why"), [(b"a\nb", r"holds b'\\n'"), (b"\n", "holds"), (b"a\n\r", "holds")])
def test_lines_that_cannot_be_sent(message: bytes, why: str) -> None:
    """A message that holds LF would be received as two, so it is not sent, and the error says why."""
    with pytest.raises(UnsendableMessage, match=why):
        Lines().frame(message)
    for messages in ([message], [b"ok", message], [message, b"ok"]):
        with pytest.raises(UnsendableMessage, match=why):
            Lines().frame_all(messages)


def test_one_delimiter() -> None:
    """With `delimiter`, lines end with exactly this delimiter, in both directions."""
    crlf = Lines(delimiter=b"\r\n")
    assert same(crlf, b"a\nb\r\nc\r\n").messages == (b"a\nb", b"c")
    assert crlf.frame_all([b"a\n", b"b\r"]) == b"a\n\r\nb\r\r\n"
    assert same(crlf, b"a\n\r\nb\r\r\n").messages == (b"a\n", b"b\r")
    lf = Lines(delimiter=b"\n")
    assert same(lf, b"a\r\nb\n").messages == (b"a\r", b"b")
    assert lf.frame(b"a\r") == b"a\r\n"


def test_max_is_without_the_ending() -> None:
    """A line of exactly ``max`` bytes can end with CR LF; another byte behind a CR makes it too long."""
    assert same(Lines(max=3), b"abc\r\n").messages == (b"abc",)
    assert same(Lines(max=3), b"abc\n").messages == (b"abc",)
    assert same(Lines(max=3), b"abc\rd\n") == Outcome((), MessageTooLong, 0)
    assert same(Lines(max=3), b"abc\r\r\n") == Outcome((), MessageTooLong, 0)
    assert same(Lines(max=3), b"abc\r") == Outcome((), TruncatedMessage, 0)
    assert same(Lines(max=3, oversize="skip"), b"abc\r\r\nd\n") == Outcome((b"d",), None, 1)


def test_too_long_is_known_at_once() -> None:
    """A line is too long with its first byte over ``max``, before its end has come."""
    state = Lines(max=3)
    for byte in single(b"abc"):
        assert state.receive(byte) == []
    with pytest.raises(MessageTooLong, match="a message of 4 bytes has come; at most 3"):
        state.receive(b"d")


def test_skipping_several() -> None:
    """With oversize="skip", each line over ``max`` is skipped and counted."""
    skip = Lines(max=3, oversize="skip")
    assert same(skip, b"long\nok\nlonger\r\n\nlongest\nend\n") == Outcome((b"ok", b"", b"end"), None, 3)


# Any delimiter


@pytest.mark.parametrize(
    ("by", "stream", "messages"),
    [
        (b"\x03", b"hello\x03\x03you\x03", [b"hello", b"", b"you"]),
        (b"\r\n", b"a\r\r\n\n\r\n", [b"a\r", b"\n"]),
        (b"aa", b"aaaaaxaab", [b"", b"", b"ax"]),
        (b"aba", b"ababa aba", [b"", b"ba "]),
        (b"END", b"ENENDEEND", [b"EN", b"E"]),
        (b"\0", b"\0", [b""]),
    ],
)
def test_delimiters(by: bytes, stream: bytes, messages: list[bytes]) -> None:
    """The leftmost delimiter ends a message, at any cut, and delimiters do not overlap."""
    assert same(Delimited(by), stream).messages == tuple(messages)


@pytest.mark.parametrize(
    ("by", "message"),
    [(b"\x03", b"a\x03b"), (b"aa", b"a"), (b"aa", b"ba"), (b"aba", b"ab"), (b"aba", b"cab"), (b"\r\n", b"\r\n")],
)
def test_messages_that_form_the_delimiter(by: bytes, message: bytes) -> None:
    """A message that holds the delimiter, or forms one together with the delimiter behind it, is not sent."""
    for send in (Delimited(by).frame, lambda message: Delimited(by).frame_all([b"", message])):
        with pytest.raises(UnsendableMessage, match="forms it together"):
            send(message)


@pytest.mark.parametrize(("by", "message"), [(b"aba", b"a"), (b"aba", b"b"), (b"aa", b"ab"), (b"\r\n", b"\r")])
def test_messages_that_share_bytes_with_the_delimiter(by: bytes, message: bytes) -> None:
    """A message that shares bytes with the delimiter, but does not form it, is sent."""
    framed = Delimited(by).frame_all([message] * 3)
    assert same(Delimited(by), framed).messages == (message,) * 3


@given(st.text("ab", min_size=1, max_size=4), st.lists(st.text("ab", max_size=5), max_size=5))
def test_sent_together_or_alone(by: str, texts: list[str]) -> None:
    """`frame_all` sends messages if and only if `frame` can send each of them, with the same bytes."""
    framing, messages = Delimited(by.encode()), [text.encode() for text in texts]
    try:
        alone = b"".join([framing.frame(message) for message in messages])
    except UnsendableMessage:
        with pytest.raises(UnsendableMessage):
            framing.frame_all(messages)
    else:
        assert framing.frame_all(messages) == alone
        assert read(framing, single(alone)).messages == tuple(messages)


def test_partial_delimiter_at_max() -> None:
    """Bytes over ``max`` can begin the delimiter, which is waited for; other bytes are too many at once."""
    framing = Delimited(b"END", max=3)
    assert same(framing, b"abcEND").messages == (b"abc",)
    assert same(framing, b"abcEN") == Outcome((), TruncatedMessage, 0)
    assert same(framing, b"abcENx") == Outcome((), MessageTooLong, 0)
    assert ends(framing, [b"abcENx"]).value == 6
    assert same(Delimited(b"END", max=3, oversize="skip"), b"abcENENDaEND") == Outcome((b"a",), None, 1)


def test_overlaps_itself() -> None:
    """`overlaps_itself` is true for a delimiter whose end can be the beginning of another one."""
    assert [each for each in (b"a", b"aa", b"ab", b"aba", b"\r\n", b"\r\n\r", b"abab") if overlaps_itself(each)] == [
        b"aa",
        b"aba",
        b"\r\n\r",
        b"abab",
    ]


@pytest.mark.parametrize("value", [b"", "\n", None, 10, bytearray(b"\n")], ids=repr)
def test_wrong_delimiters(value: object) -> None:
    """`by` and `delimiter` take one byte or more, and the error names the option."""
    with pytest.raises(InvalidFraming, match=r"^by=.*: takes bytes, one or more$"):
        Delimited(value)
    if value is not None:
        with pytest.raises(InvalidFraming, match=r"^delimiter=.*: takes bytes, one or more$"):
            Lines(delimiter=value)
