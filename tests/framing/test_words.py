"""Lines of words, and blocks of data with CR and LF behind them."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.errors import MalformedFrame, TruncatedMessage, UnsendableMessage
from tcpapp.framing import parser
from tcpapp.framing.reader import Parse
from tcpapp.framing.words import SMALL, block, joined, words_of
from tests.framing.streams import Outcome, read, same


def test_spaces_separate_words() -> None:
    """One space or more separate words, and can be around them."""
    assert words_of(b"get a  b") == (b"get", b"a", b"b")
    assert words_of(b" get \xc3\xa9 ") == (b"get", b"\xc3\xa9")


@pytest.mark.parametrize("line", [b"", b"  ", b"get a\tb", b"a\rb", b"a\0", b"a\x7f", b"a\x0bb", b"a\x0cb", b"\n"])
def test_control_characters_are_malformed(line: bytes) -> None:
    """A line without words is malformed, and one with a control character, on which programs disagree."""
    with pytest.raises(MalformedFrame, match="takes words with spaces between them"):
        words_of(line)


def test_words_are_joined_as_they_are_read() -> None:
    """A line that is sent is read as the same words."""
    assert joined([b"get", b"a", b"\xff"]) == b"get a \xff"
    assert words_of(joined((b"x", b"y"))) == (b"x", b"y")


@pytest.mark.parametrize("words", [(), (b"",), (b"a b",), (b"a", b""), (b"a\r\nflush_all",), ("a",), (b"a", 5), None])
def test_words_that_a_peer_would_read_otherwise_are_not_sent(words: Any) -> None:
    """A word that is empty, not bytes, or has spaces or line ends is refused: it would be other words."""
    with pytest.raises(UnsendableMessage, match="a line takes one word or more"):
        joined(words)


@parser()
def three() -> Parse:
    """A block of three bytes."""
    return (yield from block(3))


def test_a_block_ends_with_cr_and_lf() -> None:
    """A block is as long as announced, whatever is in it; bytes other than CR and LF behind it are malformed."""
    assert same(three(), b"abc\r\n\r\n\r\r\nx").messages == (b"abc", b"\r\n\r")
    assert same(three(), b"abcd\r\n") == Outcome((), MalformedFrame, 0)
    assert same(three(), b"abc\n\n") == Outcome((), MalformedFrame, 0)
    assert same(three(), b"abc\r") == Outcome((), TruncatedMessage, 0)


@parser()
def large() -> Parse:
    """A block that is not copied."""
    return (yield from block(SMALL + 1))


def test_a_large_block_is_read_as_a_small_one() -> None:
    """A large block, which is not copied, has the same end."""
    data = b"x" * (SMALL + 1)
    assert read(large(), [data + b"\r\n", data, b"\r", b"\n"]).messages == (data, data)
    assert read(large(), [data + b"x\n"]) == Outcome((), MalformedFrame, 0)
    assert read(large(), [data + b"\r"]) == Outcome((), TruncatedMessage, 0)
