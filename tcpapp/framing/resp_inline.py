"""Inline commands of Redis: a line of words, as one types it into ``nc``, in place of an array of bulk strings."""

from __future__ import annotations

import re

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted

__all__ = ["read_inline"]

_WORD = re.compile(rb"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^ \t"']+))(?=[ \t]|$)""", re.DOTALL)
"""A word in double quotes, in single quotes, or without quotes."""

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def read_inline(line: bytes) -> list[bytes]:
    """
    Return the words of a `line`, without their quotes; none for an empty line.

    Double quotes take the escapes of C and ``\\xNN``, single quotes only ``\\'``. Raises `MalformedFrame` for a quote
    that does not begin or end a word.
    """
    words, at, line = [], 0, line.rstrip(b" \t\r")
    while at < len(line):
        found = _WORD.match(line, at)
        if found is None:
            raise MalformedFrame(f"{quoted(line[at:])}: takes words without quotes, or with quotes around them")
        double, single, plain = found.groups()
        if double is not None:
            words.append(_ESCAPE.sub(_unescaped, double))
        else:
            words.append(plain if single is None else single.replace(b"\\'", b"'"))
        at = found.end()
    return words


def _unescaped(escape: re.Match[bytes]) -> bytes:
    text = escape[1]
    return bytes([int(text[1:], 16)]) if len(text) == 3 else _ESCAPES.get(text, text)
