"""Netstrings, as djb describes them."""

from __future__ import annotations

import pytest

from tcpapp.errors import MalformedFrame, MessageTooLong, TruncatedMessage
from tcpapp.framing import Netstrings
from tests.framing.streams import Outcome, ends, same


def test_djb_examples() -> None:
    """The two netstrings of djb's text are read and written."""
    assert same(Netstrings(), b"12:hello world!,0:,").messages == (b"hello world!", b"")
    assert Netstrings().frame_all([b"hello world!", b""]) == b"12:hello world!,0:,"
    assert Netstrings().frame(b"hello world!") == bytes.fromhex("31 32 3a 68 65 6c 6c 6f 20 77 6f 72 6c 64 21 2c")


@pytest.mark.parametrize("size", [9, 10, 99, 100, 999, 1000, 12345, 1048576])
def test_sizes(size: int) -> None:
    """Lengths with any number of digits are read and written, up to ``max``."""
    message = b"x" * size
    framed = Netstrings().frame_all([message, b"y"])
    assert framed == b"%d:%b,1:y," % (size, message)
    state = Netstrings()
    assert state.receive(framed) == [message, b"y"]
    assert [each for at in range(0, len(framed), 700) for each in state.receive(framed[at : at + 700])] == [
        message,
        b"y",
    ]


def test_content_that_looks_like_netstrings() -> None:
    """A message can consist of netstrings."""
    inner = Netstrings().frame_all([b"a:b,", b"1:,"])
    assert same(Netstrings(), Netstrings().frame(inner)).messages == (inner,)


@pytest.mark.parametrize(
    "stream",
    [
        b":",
        b"a",
        b" 5:hello,",
        b"+5:hello,",
        b"-1:",
        b"05:hello,",
        b"00:,",
        b"5 :hello,",
        b"5;hello,",
        b"1_0:",
        b"\xd9\xa1:",
    ],
)
@pytest.mark.parametrize("oversize", ["close", "skip"])
def test_malformed_lengths(stream: bytes, oversize: str) -> None:
    """A length is digits without a leading zero and a colon; the first other byte is malformed."""
    framing = Netstrings(oversize=oversize)
    assert same(framing, b"2:hi," + stream) == Outcome((b"hi",), MalformedFrame, 0)
    assert "begins a netstring; it begins with 1 to 20 digits" in str(ends(framing, [stream]))


@pytest.mark.parametrize("oversize", ["close", "skip"])
@pytest.mark.parametrize("stream", [b"5:hello;", b"5:hello\n", b"0:x", b"5:hello5:hello,"])
def test_no_comma(stream: bytes, oversize: str) -> None:
    """Another byte in place of the comma is malformed."""
    assert same(Netstrings(oversize=oversize), stream) == Outcome((), MalformedFrame, 0)
    assert "a comma closes it" in str(ends(Netstrings(), [stream]))


def test_no_comma_behind_a_skipped_message() -> None:
    """A skipped message without its comma is malformed, too."""
    skip = Netstrings(max=3, oversize="skip")
    assert same(skip, b"5:hello,2:hi,") == Outcome((b"hi",), None, 1)
    assert same(skip, b"5:hello;2:hi,") == Outcome((), MalformedFrame, 0)
    assert same(skip, b"1:a,5:hello;2:hi,") == Outcome((b"a",), MalformedFrame, 0)


def test_too_long_is_known_from_the_digits() -> None:
    """A length is too great as soon as its digits say so, before the colon has come."""
    for stream in (b"1000", b"1000:", b"1000x", b"9999999999999999999999999"):
        assert same(Netstrings(max=999), stream) == Outcome((), MessageTooLong, 0)
    assert same(Netstrings(max=999), b"999") == Outcome((), TruncatedMessage, 0)
    assert str(ends(Netstrings(max=999), [b"1000"])) == (
        "a message of 1000 bytes or more is announced; at most 999 (max) are accepted"
    )


def test_digits_are_bounded() -> None:
    """With oversize="skip", a length has at most 20 digits."""
    skip = Netstrings(max=3, oversize="skip")
    assert same(skip, b"1" * 20 + b":") == Outcome((), TruncatedMessage, 0)
    assert same(skip, b"1" * 21) == Outcome((), MalformedFrame, 0)


def test_bytes_of_a_peer_are_escaped_in_an_error() -> None:
    """The text of an error has the bytes of the peer escaped."""
    assert r"b'1\x1b'" in str(ends(Netstrings(), [b"1\x1b[2J:"]))
