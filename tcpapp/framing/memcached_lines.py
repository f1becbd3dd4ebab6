"""The lines of memcached's text protocol, which `memcached` reads and writes: words, and the data behind some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.numerals import decimal
from tcpapp.framing.reader import Parse
from tcpapp.framing.wants import until
from tcpapp.framing.words import block, joined, words_of

__all__ = ["ITEMS", "REPLIES", "REQUESTS", "MemcachedMessage", "read_line", "write"]

REQUESTS = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4, b"prepend": 4, b"cas": 4, b"ms": 2}
REPLIES = {b"VALUE": 3, b"VA": 1}
"""Lines with data: which of their words is its length, counted from 0."""

ITEMS = (b"VALUE", b"STAT", b"ITEM")
"""Lines that more lines of the same reply follow."""

LONGEST_LINE = 64 * 1024
"""The most bytes of a line. Our choice: a ``get`` of 260 of the longest keys. memcached has no limit for a ``get``."""

LINE = until(b"\n", max=LONGEST_LINE)

_SIZES = REQUESTS | REPLIES


class MemcachedMessage(NamedTuple):
    """
    A request, or a whole reply.

    - `words`: its line, without the length of the data.
    - `data`: the block of data behind the line; `None`: the line has none.
    - `items`: the lines of a reply before its last, such as each ``VALUE`` before ``END``.
    """

    words: tuple[bytes, ...]
    data: bytes | None = None
    items: tuple[MemcachedMessage, ...] = ()


def read_line(sizes: Mapping[bytes, int], longest: int = LONGEST_LINE) -> Parse:
    """Read a line, and its data if its first word is in `sizes`. Its words have at most `longest` bytes."""
    line: bytes = yield LINE
    words = words_of(line.removesuffix(b"\r"))
    if len(line) > longest and max(map(len, words)) > longest:
        raise MalformedFrame(f"a word of {max(map(len, words))} bytes; takes at most {longest}")
    at = sizes.get(words[0])
    if at is None:
        return MemcachedMessage(words)
    data = yield from block(decimal(b"".join(words[at : at + 1])))
    return MemcachedMessage(words[:at] + words[at + 1 :], data)


def write(message: MemcachedMessage | bytes) -> bytes:
    """Return the bytes of a request or a reply; `bytes` are a line without data. Raises `UnsendableMessage`."""
    if isinstance(message, bytes):
        message = MemcachedMessage(tuple(message.split(b" ")))
    if not isinstance(message, MemcachedMessage):
        raise UnsendableMessage(f"a message of memcached is a MemcachedMessage or bytes, not {type(message).__name__}")
    if any(each.items or each.words[0] not in ITEMS for each in message.items):
        raise UnsendableMessage(f"items are lines of {b', '.join(ITEMS).decode()}, each without items of its own")
    return b"".join([_written(words, data) for words, data, _ in (*message.items, message)])


def _written(words: tuple[bytes, ...], data: bytes | None) -> bytes:
    at = _SIZES.get(words[0]) if words else None
    if at is None and data is None:
        return joined(words) + b"\r\n"
    if at is None or not isinstance(data, bytes) or len(words) < at:
        raise UnsendableMessage(f"{words[:1]!r:.60}: takes data, and its other words, as protocol.txt says")
    return b"".join((joined((*words[:at], b"%d" % len(data), *words[at:])), b"\r\n", data, b"\r\n"))
