"""The fast loops for framings with a length: which frames they cut, and what they leave to the framing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.framing.loops import cut_counted, cut_netstrings, cut_varints, frame_counted, frame_varints

HEAD = struct.Struct(">H")
Cut = Callable[[bytes, int, int, list[bytes]], int]


def cut_shorts(chunk: bytes, start: int, most: int, messages: list[bytes]) -> int:
    """Call `cut_counted` with lengths of two bytes, and return where it stopped."""
    return cut_counted(chunk, start, 2, most, HEAD.unpack_from, HEAD.pack, -1, messages)[0]


def shorts(*messages: bytes) -> bytes:
    """Return these messages behind lengths of two bytes."""
    return b"".join(HEAD.pack(len(each)) + each for each in messages)


def varints(*messages: bytes) -> bytes:
    """Return these messages behind varints."""
    return b"".join(varint(len(each)) + each for each in messages)


def varint(value: int) -> bytes:
    """Return this number as a varint."""
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def netstrings(*messages: bytes) -> bytes:
    """Return these messages as netstrings."""
    return b"".join(b"%d:%b," % (len(each), each) for each in messages)


KINDS = [
    pytest.param(cut_shorts, shorts, id="counted"),
    pytest.param(cut_varints, varints, id="varint"),
    pytest.param(cut_netstrings, netstrings, id="netstring"),
]


@pytest.mark.parametrize(("cut", "framed"), KINDS)
@given(
    messages=st.lists(st.binary(max_size=40), max_size=30),
    before=st.binary(max_size=3),
    more=st.integers(0, 3),
    repeat=st.integers(1, 90),
)
def test_whole_frames_are_cut_from_where_they_start(
    cut: Cut, framed: Callable[..., bytes], messages: list[bytes], before: bytes, more: int, repeat: int
) -> None:
    """All whole frames from `start` on are cut, in order; the loop stops at an incomplete frame behind them."""
    messages = [each for each in messages for _ in range(repeat)]
    chunk = before + framed(*messages)
    last = framed(b"x" * 20)
    found: list[bytes] = []
    assert cut(chunk + last[: more * 6], len(before), 40, found) == len(chunk)
    assert found == messages


@pytest.mark.parametrize(("cut", "framed"), KINDS)
@pytest.mark.parametrize("size", [0, 1, 39])
def test_the_loop_stops_at_a_message_over_most(cut: Cut, framed: Callable[..., bytes], size: int) -> None:
    """The loop stops at a message of more than `most` bytes, and cuts nothing behind it."""
    found: list[bytes] = []
    first = framed(b"a" * size)
    assert cut(first + framed(b"b" * (size + 1), b"c"), 0, size, found) == len(first)
    assert found == [b"a" * size]


@pytest.mark.parametrize(
    ("cut", "chunk"),
    [
        pytest.param(cut_varints, b"\x80\x00", id="varint-with-an-empty-group"),
        pytest.param(cut_varints, b"\x80\x80\x01" + bytes(0x4000), id="varint-of-three-bytes"),
        pytest.param(cut_varints, b"\xff", id="varint-begun"),
        pytest.param(cut_netstrings, b"1000:" + bytes(1000) + b",", id="netstring-of-four-digits"),
        pytest.param(cut_netstrings, b"01:x,", id="netstring-with-a-leading-zero"),
        pytest.param(cut_netstrings, b"1:xy", id="netstring-without-its-comma"),
        pytest.param(cut_netstrings, b"12", id="netstring-begun"),
        pytest.param(cut_netstrings, b":,", id="netstring-without-digits"),
    ],
)
def test_uncommon_frames_are_left_to_the_framing(cut: Cut, chunk: bytes) -> None:
    """A frame that is malformed, incomplete, or longer than nearly all others is left to the framing."""
    found: list[bytes] = []
    assert (cut(b"" + chunk, 0, 1 << 20, found), found) == (0, [])


@pytest.mark.source
def test_a_run_is_remembered_from_chunk_to_chunk() -> None:
    """`cut_counted` returns the length of a run's messages, or -1 when the chunk begins with another length."""
    found: list[bytes] = []
    rest = HEAD.unpack_from, HEAD.pack
    chunk = shorts(*[b"abc"] * 100)
    assert cut_counted(chunk, 0, 2, 10, *rest, -1, found) == (len(chunk), 3)
    assert cut_counted(chunk, 0, 2, 10, *rest, 3, found) == (len(chunk), 3)
    other = shorts(b"de", b"f")
    assert cut_counted(other, 0, 2, 10, *rest, 3, found) == (len(other), -1)
    assert found == [b"abc"] * 200 + [b"de", b"f"]


@pytest.mark.parametrize(
    ("frame", "framed"),
    [pytest.param(frame_counted, shorts, id="counted"), pytest.param(frame_varints, varints, id="varint")],
)
@given(messages=st.lists(st.binary(max_size=200), max_size=30))
def test_replies_framed_together_equal_replies_framed_one_by_one(
    frame: Callable[..., bytes | None], framed: Callable[..., bytes], messages: list[bytes]
) -> None:
    """Replies that are framed together are the same bytes as one by one."""
    pack = HEAD.pack if frame is frame_counted else varint
    assert frame(messages, 200, pack) == framed(*messages)


@pytest.mark.parametrize("frame", [frame_counted, frame_varints])
@pytest.mark.parametrize("wrong", ["text", None, bytearray(b"x"), b"toolong"])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_message_that_cannot_be_sent_stops_all(frame: Callable[..., Any], wrong: Any, at: int) -> None:
    """If one message cannot be sent, the loop returns None, and the framing finds out which one it was."""
    messages: list[Any] = [b"one", b"two", b"three"]
    messages[at] = wrong
    assert frame(messages, 5, varint) is None
