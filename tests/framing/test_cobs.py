"""Consistent overhead byte stuffing (COBS), compared with the published vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage
from tcpapp.framing import Cobs
from tests.framing.streams import Outcome, ends, read, same, single

TO_FE, TO_FF = bytes(range(1, 0xFF)), bytes(range(1, 0x100))

VECTORS = [
    # Wikipedia, "Consistent Overhead Byte Stuffing", examples 1 to 11.
    (b"\x00", b"\x01\x01\x00"),
    (b"\x00\x00", b"\x01\x01\x01\x00"),
    (b"\x00\x11\x00", b"\x01\x02\x11\x01\x00"),
    (b"\x11\x22\x00\x33", b"\x03\x11\x22\x02\x33\x00"),
    (b"\x11\x22\x33\x44", b"\x05\x11\x22\x33\x44\x00"),
    (b"\x11\x00\x00\x00", b"\x02\x11\x01\x01\x01\x00"),
    (TO_FE, b"\xff" + TO_FE + b"\x00"),
    (b"\x00" + TO_FE, b"\x01\xff" + TO_FE + b"\x00"),
    (TO_FF, b"\xff" + TO_FE + b"\x02\xff\x00"),
    (TO_FF[1:] + b"\x00", b"\xff" + TO_FF[1:] + b"\x01\x01\x00"),
    (TO_FF[2:] + b"\x00\x01", b"\xfe" + TO_FF[2:] + b"\x02\x01\x00"),
    # Cheshire and Baker, figure 3 (the start of an IPv4 packet), here without the rest of the packet.
    (
        bytes.fromhex("450000 2c4c790000 4006 4f37".replace(" ", "")),
        bytes.fromhex("0245 01 04 2c4c79 01 05 40064f37 00".replace(" ", "")),
    ),
    (b"hello", b"\x06hello\x00"),
    (b"", b"\x01\x00"),
    (TO_FE * 2, (b"\xff" + TO_FE) * 2 + b"\x00"),
    (TO_FE + b"\x00", b"\xff" + TO_FE + b"\x01\x01\x00"),
]


@pytest.mark.parametrize(("message", "framed"), VECTORS)
def test_vectors(message: bytes, framed: bytes) -> None:
    """`frame` gives the published vectors, which are read whole, byte by byte, and in two pieces."""
    assert Cobs().frame(message) == framed
    assert Cobs().frame_all([message, b"x"]) == framed + b"\x02x\x00"
    for chunks in ([framed * 2], single(framed * 2), [framed[:100], framed[100:] + framed]):
        assert read(Cobs(), chunks) == Outcome((message, message), None, 0)


def test_full_block_with_an_empty_one_behind() -> None:
    """An empty block behind a full one at the end, which some encoders write, adds nothing to the message."""
    assert same(Cobs(), b"\xff" + TO_FE + b"\x01\x00").messages == (TO_FE,)


def test_zeros_alone() -> None:
    """A zero without a frame before it is ignored: some senders begin with one."""
    assert same(Cobs(), b"\0\0\x06hello\0\0\x01\0\0").messages == (b"hello", b"")


@pytest.mark.parametrize("oversize", ["close", "skip"])
@pytest.mark.parametrize("wrong", [b"\x02", b"\x05hel", b"\x06hello\x03a", b"\xff" + TO_FE[:-1]])
def test_zero_before_its_block_ends(wrong: bytes, oversize: str) -> None:
    """A zero inside a block is malformed."""
    framing = Cobs(oversize=oversize)
    assert read(framing, single(b"\x02a\0" + wrong + b"\0\x02b\0")) == Outcome((b"a",), MalformedFrame, 0)
    assert read(framing, [b"\x02a\0" + wrong + b"\0\x02b\0"]) == Outcome((b"a",), MalformedFrame, 0)
    assert "too early" in str(ends(framing, [wrong + b"\0"]))


def test_end_inside_a_frame() -> None:
    """A stream that ends inside a frame is truncated, even if a block is whole."""
    for stream in (b"\x01", b"\x02", b"\x02a", b"\x02a\x01"):
        assert same(Cobs(), stream) == Outcome((), TruncatedMessage, 0)


def test_the_first_fault_counts() -> None:
    """When a frame is too long and malformed, the fault that comes first in the stream is raised."""
    assert same(Cobs(max=3), b"\x09abcd\0") == Outcome((), MessageTooLong, 0)
    assert same(Cobs(max=3), b"\x09abc\0") == Outcome((), MalformedFrame, 0)
    assert same(Cobs(max=3, oversize="skip"), b"\x09abcd\0") == Outcome((), MalformedFrame, 0)
    assert same(Cobs(max=3, oversize="skip"), b"\x05abcd\0\x02a\0") == Outcome((b"a",), None, 1)


@given(st.lists(st.one_of(st.just(b"\0"), st.integers(250, 260).map(lambda size: b"x" * size)), max_size=6))
def test_runs_about_a_full_block(parts: list[bytes]) -> None:
    """Messages with runs shorter, as long as, and longer than a block are received unchanged."""
    message = b"".join(parts)
    framed = Cobs().frame(message)
    assert framed.count(0) == 1
    assert len(framed) <= len(message) + len(message) // 254 + 2
    assert Cobs().receive(framed) == [message]
    assert read(Cobs(), single(framed)).messages == (message,)
