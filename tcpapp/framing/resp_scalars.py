"""The values of RESP that are a line: their type in one byte, and a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted
from tcpapp.framing.resp_values import ErrorReply, SimpleString

__all__ = ["DIGITS", "INTEGERS", "read_scalar"]

DIGITS = 4300
"""The most digits of a big number: as many as Python's `int` reads by default, since its time grows with the square."""

INTEGERS = range(-(2**63), 2**63)
"""The integers that are not big numbers."""

_INTEGER = re.compile(rb"[+-]?[0-9]{1,19}")
_BIG_NUMBER = re.compile(rb"[+-]?[0-9]{1,%d}" % DIGITS)
_DOUBLE = re.compile(rb"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,4})?|inf|nan)")


def _integer(text: bytes) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else 2**63
    if value not in INTEGERS:
        raise MalformedFrame(f"{quoted(text)}: takes an integer of 64 bits")
    return value


def _big_number(text: bytes) -> int:
    if not _BIG_NUMBER.fullmatch(text):
        raise MalformedFrame(f"{quoted(text)}: takes 1 to {DIGITS} digits")
    return int(text)


def _double(text: bytes) -> float:
    if not _DOUBLE.fullmatch(text):
        raise MalformedFrame(f"{quoted(text)}: takes a number such as 1.5, 1e10, inf or nan")
    return float(text)


def _constant(text: bytes, constants: dict[bytes, Any]) -> Any:
    if text not in constants:
        raise MalformedFrame(f"{quoted(text)}: takes t or f in a boolean, and nothing in a null")
    return constants[text]


_READERS: dict[bytes, Callable[[bytes], Any]] = {
    b"+": SimpleString,
    b"-": ErrorReply,
    b":": _integer,
    b"(": _big_number,
    b",": _double,
    b"#": lambda text: _constant(text, {b"t": True, b"f": False}),
    b"_": lambda text: _constant(text, {b"": None}),
}


def read_scalar(kind: bytes, text: bytes) -> Any:
    """Return the value of type `kind` that `text` writes. Raises `MalformedFrame`."""
    reader = _READERS.get(kind)
    if reader is None:
        raise MalformedFrame(
            f"{quoted(kind)} begins a value; takes one of {b' '.join(_READERS).decode()} $ = ! * % ~ > |"
        )
    return reader(text)
