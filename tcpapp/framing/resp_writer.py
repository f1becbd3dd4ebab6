"""How values are written in RESP, version 2 and 3. `resp` says which value is which type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any

from tcpapp.errors import UnsendableMessage
from tcpapp.framing.resp_scalars import DIGITS, INTEGERS
from tcpapp.framing.resp_values import DEEPEST, Attributed, ErrorReply, Map, Push, Set, SimpleString, VerbatimString

__all__ = ["write", "write_request"]

_LARGEST = 10**DIGITS


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _line(kind: bytes, text: bytes) -> bytes:
    if b"\r" in text or b"\n" in text:
        raise UnsendableMessage("a simple string or an error is sent in one line; takes text without CR and LF")
    return b"%b%b\r\n" % (kind, text)


def _simple(value: bytes) -> bytes:
    return _line(b"+", value)


def _integer(value: int) -> bytes:
    return b":%d\r\n" % value if value in INTEGERS else _bulk(_digits(value))


def _any_integer(value: int) -> bytes:
    return b":%d\r\n" % value if value in INTEGERS else b"(%b\r\n" % _digits(value)


def _digits(value: int) -> bytes:
    if abs(value) >= _LARGEST:
        raise UnsendableMessage(f"an integer of more than {DIGITS} digits; takes fewer")
    return b"%d" % value


def _error(value: ErrorReply) -> bytes:
    return _line(b"-", value.text)


def _any_error(value: ErrorReply) -> bytes:
    text = value.text
    return b"!%d\r\n%b\r\n" % (len(text), text) if b"\r" in text or b"\n" in text else _error(value)


def _verbatim(value: VerbatimString) -> bytes:
    if len(value.format) != 3:
        raise UnsendableMessage(f"the format of a verbatim string has 3 bytes, not {len(value.format)}")
    return b"=%d\r\n%b:%b\r\n" % (4 + len(value.text), *value)


_Writers = dict[type, Callable[[Any], bytes]]

_VERSION_3: _Writers = {
    bytes: _bulk,
    SimpleString: _simple,
    int: _any_integer,
    NoneType: lambda _: b"_\r\n",
    bool: lambda value: b"#t\r\n" if value else b"#f\r\n",
    float: lambda value: b",%b\r\n" % repr(value).encode(),
    ErrorReply: _any_error,
    VerbatimString: _verbatim,
}
_VERSION_2: _Writers = _VERSION_3 | {
    int: _integer,
    NoneType: lambda _: b"$-1\r\n",
    bool: lambda value: b":%d\r\n" % value,
    float: lambda value: _bulk(repr(value).encode()),
    ErrorReply: _error,
    VerbatimString: lambda value: _bulk(value.text),
}
_SCALARS = {2: _VERSION_2, 3: _VERSION_3}
_LISTS: dict[type, bytes] = {list: b"*", tuple: b"*", Set: b"~", set: b"~", frozenset: b"~", Push: b">"}
"""Containers, and their types in version 3. In version 2 they are all arrays, and so are maps."""


def write(value: Any, version: int, left: int = DEEPEST) -> bytes:
    """
    Return the bytes of `value`, which has at most `left` containers within each other. Raises `UnsendableMessage`.

    In version 2, a value of a type that only version 3 has is sent as Redis sends it to a client of version 2.
    """
    kind = type(value)
    scalar = _SCALARS[version].get(kind)
    if scalar is not None:
        return scalar(value)
    if not left:
        raise UnsendableMessage(f"more than {DEEPEST} containers within each other; takes fewer")
    if kind is Attributed:
        own = write(value.value, version, left - 1)
        return _pairs(b"|", value.attributes, version, left) + own if version == 3 else own
    if kind is Map or kind is dict:
        return _pairs(b"%", value.items() if kind is dict else value, version, left)
    if kind in _LISTS:
        return _items(_LISTS[kind] if version == 3 else b"*", len(value), value, version, left)
    raise UnsendableMessage(f"a value of RESP is bytes, an int, a list …, not {kind.__name__}; a text is encoded first")


def _pairs(kind: bytes, pairs: Iterable[tuple[Any, Any]], version: int, left: int) -> bytes:
    items = [each for key, value in pairs for each in (key, value)]
    if version == 2:
        return _items(b"*", len(items), items, version, left)
    return _items(kind, len(items) // 2, items, version, left)


def _items(kind: bytes, count: int, items: Iterable[Any], version: int, left: int) -> bytes:
    return b"".join([b"%b%d\r\n" % (kind, count), *[write(each, version, left - 1) for each in items]])


def write_request(words: list[bytes]) -> bytes:
    """Return the bytes of a request: an array of one bulk string or more. Raises `UnsendableMessage`."""
    if not isinstance(words, (list, tuple)) or set(map(type, words)) != {bytes}:
        raise UnsendableMessage('a request is a list of bytes, such as [b"GET", b"key"]: encode texts and numbers')
    return b"".join([b"*%d\r\n" % len(words), *map(_bulk, words)])
