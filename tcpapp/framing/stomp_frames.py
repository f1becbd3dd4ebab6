"""A frame of STOMP, as a value and as bytes."""

from __future__ import annotations

import re
from typing import NamedTuple

from tcpapp.errors import UnsendableMessage
from tcpapp.framing.stomp_headers import write_headers

__all__ = ["COMMAND", "HEARTBEAT", "StompFrame", "write_frame"]

COMMAND = re.compile(r"[A-Z]{1,32}")
"""A command. The longest of STOMP 1.2 has 11 letters, and servers have some of their own."""


class StompFrame(NamedTuple):
    """A frame: its `command`, its `headers` (of a repeated one, the first value), and its `body`."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


HEARTBEAT = StompFrame("", {})
"""An LF between two frames: it can be sent, and is not received."""


def write_frame(frame: StompFrame) -> bytes:
    """Return the bytes of `frame`, with a ``content-length`` if its body has a NUL. Raises `UnsendableMessage`."""
    command, headers, body = frame
    if frame == HEARTBEAT:
        return b"\n"
    length = headers.get("content-length", str(len(body)) if b"\0" in body else None)
    if not COMMAND.fullmatch(command) or length not in (None, str(len(body))):
        raise UnsendableMessage(f"{command!r:.80}, content-length {length!r:.80}: takes A to Z, and {len(body)}")
    fields = headers if length is None else {**headers, "content-length": length}
    return b"".join([command.encode(), b"\n", write_headers(command, fields), b"\n", body, b"\0"])
