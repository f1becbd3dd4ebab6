"""How requests and values of RESP are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted
from tcpapp.framing.numerals import decimal
from tcpapp.framing.reader import NO_MESSAGE, Parse
from tcpapp.framing.resp_inline import read_inline
from tcpapp.framing.resp_scalars import read_scalar
from tcpapp.framing.resp_values import DEEPEST, Attributed, ErrorReply, Map, Push, Set, VerbatimString
from tcpapp.framing.wants import until
from tcpapp.framing.words import block

__all__ = ["read_request", "read_value"]

LONGEST_LINE = 64 * 1024
"""The most bytes of a line: of an inline command, as in Redis, and of a simple string or error."""

MOST_WORDS = 1024 * 1024
"""The most words of a request, as in Redis. Nothing is reserved for them before they come."""


LINE = until(b"\r\n", max=LONGEST_LINE)
ANY_LINE = until(b"\n", max=LONGEST_LINE)

_SHORT = {b"$%d" % size: size for size in range(256)}
"""The headers of short strings. A look-up costs less than reading digits, and most strings are short."""


def read_request() -> Parse:
    """Read an array of bulk strings, or a line of words. A request without words is no message."""
    line: bytes = yield ANY_LINE
    if line[:1] != b"*":
        return read_inline(line) or NO_MESSAGE
    count = decimal(line[1:].removesuffix(b"\r"))
    if count > MOST_WORDS:
        raise MalformedFrame(f"a request of {count} words; takes at most {MOST_WORDS}")
    words = []
    for _ in range(count):
        header: bytes = yield LINE
        size = _SHORT.get(header)
        if size is None:
            words.append((yield from block(_size(header))))
            continue
        data: bytes = yield size + 2
        if data[size:] != b"\r\n":
            raise MalformedFrame(f"{quoted(data[size:])} behind {size} bytes of data; CR and LF end them")
        words.append(data[:size])
    return words or NO_MESSAGE


def _size(header: bytes) -> int:
    if header[:1] != b"$":
        raise MalformedFrame(f"{quoted(header)} in a request; takes bulk strings, which begin with $")
    return decimal(header[1:])


def _verbatim(data: bytes) -> VerbatimString:
    if data[3:4] != b":":
        raise MalformedFrame(f"{quoted(data)}: a verbatim string begins with three bytes and a colon")
    return VerbatimString(data[:3], data[4:])


def _map(items: list[Any]) -> Map:
    return Map(zip(items[::2], items[1::2], strict=True))


_NULLS = (b"$-1", b"*-1")
"""The nulls of version 2: a string and an array."""

_STRINGS: dict[bytes, Callable[[bytes], Any]] = {b"$": bytes, b"!": ErrorReply, b"=": _verbatim}
_CONTAINERS: dict[bytes, Callable[[list[Any]], Any]] = {
    b"*": list,
    b"~": Set,
    b">": Push,
    b"%": _map,
    b"|": lambda items: Attributed(_map(items[:-1]), items[-1]),
}


class _Container:
    """A container that is being read: its `kind`, the `items` that have come, and how many are `wanted`."""

    __slots__ = ("items", "kind", "wanted")

    def __init__(self, kind: bytes, count: int) -> None:
        self.kind = kind
        self.wanted = {b"%": 2 * count, b"|": 2 * count + 1}.get(kind, count)
        self.items: list[Any] = []


def read_value() -> Parse:
    """Read a value of any type. The containers that are being read are a list: no depth uses up Python's stack."""
    containers: list[_Container] = []
    while True:
        line: bytes = yield LINE
        kind, text = line[:1], line[1:]
        if kind in _CONTAINERS and line not in _NULLS:
            if len(containers) == DEEPEST:
                raise MalformedFrame(f"more than {DEEPEST} containers within each other")
            containers.append(_Container(kind, decimal(text)))
        else:
            if kind in _STRINGS and line not in _NULLS:
                value = _STRINGS[kind]((yield from block(decimal(text))))
            else:
                value = None if line in _NULLS else read_scalar(kind, text)
            if not containers:
                return value
            containers[-1].items.append(value)
        while len(containers[-1].items) == containers[-1].wanted:
            whole = containers.pop()
            value = _CONTAINERS[whole.kind](whole.items)
            if not containers:
                return value
            containers[-1].items.append(value)
