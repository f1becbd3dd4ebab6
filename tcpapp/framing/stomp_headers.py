r"""
The headers of a STOMP frame, as text and as bytes.

CR, LF, ``:`` and ``\`` are escaped, except in the frames CONNECT and CONNECTED: peers of STOMP 1.0 read these, too.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.base import quoted
from tcpapp.framing.wants import until

__all__ = ["read_headers", "write_headers"]

LONGEST_LINE, MOST_HEADERS = 10_240, 1_000
"""The most bytes of a header, and the most headers of a frame, as in ActiveMQ Apollo."""

UNESCAPED = ("CONNECT", "CONNECTED")
"""The commands of frames without escapes."""

ESCAPES = {"\\": r"\\", "\r": r"\r", "\n": r"\n", ":": r"\c"}
CHARACTERS = {escape: character for character, escape in ESCAPES.items()}

ESCAPE = re.compile(r"\\.?", re.DOTALL)
FORBIDDEN = re.compile(rb"[\r\n\0]")
ESCAPED = re.compile(r"[\\\r\n:]")


def read_headers(command: str) -> Generator[Any, Any, dict[str, str]]:
    """Read the headers of a `command` frame, and the empty line behind them."""
    headers: dict[str, str] = {}
    for _ in range(MOST_HEADERS + 1):
        line = (yield until(b"\n", max=LONGEST_LINE)).removesuffix(b"\r")
        if not line:
            return headers
        name, value = _read(command, line)
        headers.setdefault(name, value)
    raise MalformedFrame("too many headers", value=MOST_HEADERS + 1, limit=MOST_HEADERS)


def write_headers(command: str, headers: dict[str, str]) -> bytes:
    """Return the lines of the headers of a `command` frame. Raises `UnsendableMessage`, our fault."""
    if len(headers) > MOST_HEADERS:
        raise UnsendableMessage(f"{len(headers)} headers; at most {MOST_HEADERS} are sent")
    return b"".join([_written(command, name, value) for name, value in headers.items()])


def _read(command: str, line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode().partition(":")
    if not name or not colon or FORBIDDEN.search(line):
        raise MalformedFrame(f"{quoted(line)}: a header is name:value, without CR and NUL")
    if command in UNESCAPED or b"\\" not in line:
        return name, value
    try:
        return ESCAPE.sub(_character, name), ESCAPE.sub(_character, value)
    except KeyError as error:
        raise MalformedFrame(f"{quoted(line)}: the escapes are {' '.join(CHARACTERS)}") from error


def _written(command: str, name: str, value: str) -> bytes:
    if command not in UNESCAPED:
        name, value = ESCAPED.sub(_escape, name), ESCAPED.sub(_escape, value)
    line = f"{name}:{value}".encode()
    if not name or ":" in name or FORBIDDEN.search(line) or len(line) > LONGEST_LINE:
        raise UnsendableMessage(f"{quoted(line, 80)}: no header of a {command} frame can be this")
    return line + b"\n"


def _character(escape: re.Match[str]) -> str:
    return CHARACTERS[escape[0]]


def _escape(character: re.Match[str]) -> str:
    return ESCAPES[character[0]]
