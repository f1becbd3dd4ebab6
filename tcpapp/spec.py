r"""
The language of specs: ``name:key=value:key=value``, written like Twisted's endpoint strings.

A ``\`` escapes ``:``, ``=`` and ``\``; ``\n``, ``\r``, ``\t``, ``\0`` and ``\xNN`` stand for those bytes. Values are
bytes (literal text in UTF-8), because a delimiter can be any bytes. `framing.from_string` and `codecs.from_string` read
specs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["LINE", "InvalidSpec", "escape", "line_of", "nearest", "shown", "split", "suggest"]

LINE = 200
"""The most characters of a peer's text in a log line. NATS cuts at the same number."""

_TOKEN = re.compile(
    rb"""
      \\x(?P<hex>[0-9A-Fa-f]{2})
    | \\(?P<named>[nrt0])
    | \\(?P<literal>[:=\\])
    | (?P<mark>[:=])
    | (?P<wrong>\\)
    | (?P<plain>[^\\:=]+)
    """,
    re.VERBOSE,
)
_NAMED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0"}
_ESCAPES = {0x3A: rb"\:", 0x3D: rb"\=", 0x5C: rb"\\", 0x0A: rb"\n", 0x0D: rb"\r", 0x09: rb"\t", 0x00: rb"\0"}


class InvalidSpec(ValueError):
    """A text is not of the form ``name:key=value``. The error says what was wrong and what would be right."""


def split(spec: str) -> tuple[str, dict[str, bytes]]:
    """Return the name and the options of `spec`. Raises `InvalidSpec`, the caller's fault."""
    try:
        # Python turns bytes of a command line that are not UTF-8 into surrogates; this makes them bytes again
        text = spec.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidSpec(f"{spec!r}: holds a lone surrogate, which has no bytes; write a byte as \\xNN") from error
    name, *options = _fields(text, spec)
    if len(name) != 1 or not name[0]:
        raise InvalidSpec(f"{spec!r}: begins with a name, as in name:key=value")
    found: dict[str, bytes] = {}
    for option in options:
        if len(option) < 2 or not option[0]:
            raise InvalidSpec(
                rf"{spec!r}: after the name come key=value options, separated by ':' (escape ':' '=' '\' with '\')"
            )
        key, value = option[0].decode("utf-8", "replace"), b"=".join(option[1:])
        if key in found:
            raise InvalidSpec(f"{spec!r}: {shown(key)}= is given twice; give it once")
        found[key] = value
    return name[0].decode("utf-8", "replace"), found


def _fields(text: bytes, spec: str) -> list[list[bytes]]:
    """
    Split `text`, a part of `spec`, at each unescaped ``:``, and each piece at each unescaped ``=``; undo the escapes.
    """
    fields = [[b""]]
    for token in _TOKEN.finditer(text):
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "wrong":
            raise InvalidSpec(rf"{spec!r}: after a backslash comes one of : = \ n r t 0 or xNN (two hex digits)")
        if kind == "mark":
            if value == b":":
                fields.append([b""])
            else:
                fields[-1].append(b"")
            continue
        if kind == "hex":
            value = bytes.fromhex(value.decode())
        elif kind == "named":
            value = _NAMED[value]
        fields[-1][-1] += value
    return fields


def escape(value: bytes) -> str:
    """Return `value` with escapes, so that `split` reads the same bytes from it."""
    return b"".join(
        _ESCAPES.get(byte) or (bytes([byte]) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte) for byte in value
    ).decode()


def shown(text: str) -> str:
    """Return `text` for a log line: escaped if it is not printable."""
    return text if text.isprintable() else repr(text)[1:-1]


def line_of(text: str, most: int = LINE) -> str:
    """Return `text`, which can come from a peer, for a log line: escaped, and cut to at most `most` characters."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:most])
    return line if len(line) <= most and len(text) <= most else f"{line[: most - 3]}..."


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return the entry of `known` that is similar to `wrong`; the empty string if there is none."""
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return near[0] if near else ""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` if an entry of `known` is similar to `wrong`, else the empty string."""
    near = nearest(wrong, known)
    return f"; did you mean {near!r}?" if near else ""
