"""Messages behind a varint, as in delimited streams of protobuf."""

from __future__ import annotations

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage
from tcpapp.framing import Varint
from tests.framing.streams import Outcome, ends, same, single


def test_protobuf_examples() -> None:
    """The length 150 is sent as 96 01, as in protobuf's "Base 128 Varints", and its example is received."""
    assert Varint().frame(b"x" * 150) == b"\x96\x01" + b"x" * 150
    assert same(Varint(), b"\x03\x08\x96\x01").messages == (b"\x08\x96\x01",)


@pytest.mark.parametrize(
    ("size", "length"),
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (16383, b"\xff\x7f"),
        (16384, b"\x80\x80\x01"),
        (1048576, b"\x80\x80\x40"),
    ],
)
def test_lengths(size: int, length: bytes) -> None:
    """The smallest and greatest lengths of one, two and three bytes are read and written."""
    message = b"x" * size
    framing = Varint()
    assert framing.frame(message) == length + message
    assert framing.frame_all([message, b"y"]) == length + message + b"\x01y"
    assert framing.receive(length + message + b"\x01y") == [message, b"y"]
    assert [each for byte in single(length) for each in framing.receive(byte)] == ([message] if size == 0 else [])
    assert framing.receive(message) == ([message] if size else [])


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\x80\x00", "does not end in an empty group"),
        (b"\x85\x80\x00", "does not end in an empty group"),
        (b"\xff" * 9 + b"\x02", "at most 64 bits"),
        (b"\xff" * 10, "at most 64 bits"),
        (b"\x80" * 9 + b"\x00", "does not end in an empty group"),
    ],
)
@pytest.mark.parametrize("oversize", ["close", "skip"])
def test_malformed_lengths(stream: bytes, why: str, oversize: str) -> None:
    """A varint that is not canonical, or has over 64 bits, is malformed with the byte that makes it so."""
    framing = Varint(oversize=oversize)
    assert same(framing, b"\x02hi" + stream) == Outcome((b"hi",), MalformedFrame, 0)
    assert why in str(ends(framing, [stream]))
    assert framing.receive(stream[:-1]) == []


def test_greatest_length() -> None:
    """The greatest length has 64 bits, in ten bytes."""
    stream = b"\xff" * 9 + b"\x01"
    assert ends(Varint(), [stream]).value == 2**64 - 1
    assert same(Varint(), stream) == Outcome((), MessageTooLong, 0)
    assert same(Varint(oversize="skip"), stream + b"x") == Outcome((), TruncatedMessage, 0)


def test_a_length_that_is_not_whole() -> None:
    """A stream that ends inside a length is truncated."""
    assert same(Varint(), b"\x96") == Outcome((), TruncatedMessage, 0)
