"""Lines of words, and blocks of data with an end: the parts that memcached, Redis and NATS share."""

from __future__ import annotations

from collections.abc import Sequence

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.reader import Parse
from tcpapp.framing.wants import exactly

__all__ = ["block", "joined", "words_of"]

SMALL = 4096
"""Up to this many bytes a block is read with its end, and then copied. Our choice: it is faster than two wants."""

_CONTROL = bytes((*range(0x20), 0x7F))


def words_of(line: bytes) -> tuple[bytes, ...]:
    """
    Return the words of a peer's `line`, which spaces separate.

    Raises `MalformedFrame` for a line without words, and for one with control characters: programs disagree on which of
    them separate words, so another program could read another message.
    """
    words = tuple(line.split())
    if not words or len(line.translate(None, _CONTROL)) < len(line):
        raise MalformedFrame(f"{quoted(line)}: takes words with spaces between them, without control characters")
    return words


def joined(words: Sequence[bytes]) -> bytes:
    """Return the line of our own `words`. Raises `UnsendableMessage` if a peer would not read these words in it."""
    try:
        line = b" ".join(words)
        if words_of(line) == tuple(words):
            return line
    except (TypeError, MalformedFrame):
        pass
    raise UnsendableMessage("a line takes one word or more: bytes, none empty, no spaces or control characters")


def block(size: int) -> Parse:
    """Read a block of `size` bytes with CR and LF behind it, and return it without them."""
    if size <= SMALL:
        whole: bytes = yield exactly(size + 2)
        data, end = whole[:-2], whole[-2:]
    else:
        data = yield exactly(size)
        end = yield exactly(2)
    if end != b"\r\n":
        raise MalformedFrame(f"{quoted(end)} behind {size} bytes of data; CR and LF end them")
    return data
