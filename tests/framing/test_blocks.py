"""Messages between a start mark and an end mark, such as MLLP."""

from __future__ import annotations

import pytest

from tcpapp.errors import InvalidFraming, MalformedFrame, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Blocks, from_string
from tests.framing.streams import Outcome, ends, same

MLLP = from_string("mllp")
ADMISSION = b"MSH|^~\\&|ADT1|GOOD HEALTH HOSPITAL|GHH LAB||198808181126||ADT^A01|MSG00001|P|2.8\rPID|1||555-44-4444\r"


def test_mllp() -> None:
    """MLLP puts an HL7 message between VT and FS CR (HL7 version 2, MLLP)."""
    assert Blocks(b"\x0b", b"\x1c\r") == MLLP
    assert str(MLLP) == "mllp"
    framed = MLLP.frame(ADMISSION)
    assert framed == b"\x0b" + ADMISSION + b"\x1c\r"
    assert same(MLLP, framed + b"\x0b\x1c\r").messages == (ADMISSION, b"")
    assert MLLP.frame_all([ADMISSION, b""]) == framed + b"\x0b\x1c\r"


def test_start_inside_a_message() -> None:
    """A start mark inside a message is content, and so is half an end mark."""
    message = b"\x0b\x0b\x1c\x1c\n\r"
    assert same(MLLP, MLLP.frame_all([message, message])).messages == (message, message)


@pytest.mark.parametrize("stream", [b"x", b"\r\n", b"\x1c\r", b"\x0ba\x1c\r\n", b"\x0ba\x1c\rMSH"])
def test_outside_a_block(stream: bytes) -> None:
    """Bytes between two messages are malformed."""
    assert same(MLLP, stream).failure is MalformedFrame
    assert r"between two messages; b'\x0b' begins one" in str(ends(MLLP, [stream[:0], stream]))


def test_long_marks() -> None:
    """Marks of many bytes are found at any cut, and no byte belongs to a start mark and to an end mark."""
    framing = Blocks(b"<<<", b">>>")
    assert same(framing, b"<<<hello>>><<<>>>").messages == (b"hello", b"")
    assert same(framing, b"<<<a>>b>>>>").failure is MalformedFrame
    assert same(framing, b"<<") == Outcome((), TruncatedMessage, 0)
    assert same(framing, b"<<<a>>><a").failure is MalformedFrame
    assert same(Blocks(b"ab", b"ba"), b"aba") == Outcome((), TruncatedMessage, 0)
    assert same(Blocks(b"aa", b"a"), b"aaaaaba").messages == (b"", b"b")


def test_max_is_without_the_marks() -> None:
    """``max`` counts the message without its marks; a message of ``max`` bytes can wait for the rest of its mark."""
    framing = Blocks(b"<<", b">>", max=2)
    assert same(framing, b"<<ab>>").messages == (b"ab",)
    assert same(framing, b"<<ab>") == Outcome((), TruncatedMessage, 0)
    assert same(framing, b"<<ab>c") == Outcome((), MessageTooLong, 0)
    assert same(framing, b"<<ab>>x") == Outcome((b"ab",), MalformedFrame, 0)
    assert same(Blocks(b"<<", b">>", max=2, oversize="skip"), b"<<abc>><<a>><<long>>") == Outcome((b"a",), None, 2)


@pytest.mark.parametrize(
    ("end", "message"), [(b"\x1c\r", b"a\x1c\rb"), (b"aa", b"a"), (b"aba", b"xab"), (b"\x1c", b"\x1c")]
)
def test_messages_that_form_the_end_mark(end: bytes, message: bytes) -> None:
    """A message that holds the end mark, or forms one together with the mark behind it, is not sent."""
    framing = Blocks(b"s", end)
    for send in (framing.frame, lambda message: framing.frame_all([b"", message])):
        with pytest.raises(UnsendableMessage, match="forms it together"):
            send(message)


@pytest.mark.parametrize("value", [b"", "x", None], ids=repr)
def test_wrong_marks(value: object) -> None:
    """`start` and `end` take one byte or more, and the error names the option."""
    with pytest.raises(InvalidFraming, match=r"^start=.*: takes bytes, one or more$"):
        Blocks(value, b"e")
    with pytest.raises(InvalidFraming, match=r"^end=.*: takes bytes, one or more$"):
        Blocks(b"s", value)
