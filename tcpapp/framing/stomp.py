"""STOMP: frames of a command, headers and a body."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tcpapp.errors import MalformedFrame
from tcpapp.framing.numerals import decimal
from tcpapp.framing.parsers import parser
from tcpapp.framing.reader import NO_MESSAGE
from tcpapp.framing.stomp_frames import COMMAND, HEARTBEAT, StompFrame, write_frame
from tcpapp.framing.stomp_headers import read_headers
from tcpapp.framing.wants import exactly, until

__all__ = ["HEARTBEAT", "StompFrame", "stomp"]


@parser(frame=write_frame)
def stomp() -> Generator[Any, Any, Any]:
    r"""
    STOMP 1.2, and the frames of 1.0 and 1.1::

        'SEND', 'destination:/queue/a', '', 'hello' 00  →  StompFrame("SEND", {"destination": "/queue/a"}, b"hello")

    Servers and clients receive the same frames. A line ends with LF or CR LF, and escapes such as ``\c`` are undone.
    The line ends between two frames, which can be heart-beats, are no messages; `HEARTBEAT` sends one. ``max`` bounds a
    whole frame, which has at most 1,000 headers of at most 10,240 bytes, as in ActiveMQ Apollo.

    Errors: `MalformedFrame` for another command than letters A to Z, for a header that is no ``name:value`` in UTF-8 or
    has an unknown escape, and if no NUL is behind a body of ``content-length`` bytes. Source: "STOMP Protocol
    Specification, Version 1.2" (stomp.github.io).
    """
    command = (yield until(b"\n", max=64)).removesuffix(b"\r").decode("latin-1")
    if not command:
        return NO_MESSAGE
    if not COMMAND.fullmatch(command):
        raise MalformedFrame(f"{command!r}: a command is 1 to 32 letters A to Z")
    headers = yield from read_headers(command)
    if "content-length" not in headers:
        return StompFrame(command, headers, (yield until(b"\0")))
    body = yield exactly(decimal(headers["content-length"].encode()))
    if (yield exactly(1)) != b"\0":
        raise MalformedFrame(f"no NUL behind the {len(body)} bytes of the body")
    return StompFrame(command, headers, body)
