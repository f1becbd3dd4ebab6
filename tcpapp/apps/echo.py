"""Send every message back (RFC 862). It shows the first form of app: a function, message in, reply out."""

from __future__ import annotations

from typing import Any

from tcpapp.connection.connection import Connection

__all__ = ["echo"]


def echo(message: Any, connection: Connection) -> Any:
    """Reply with `message` itself, whatever it is: bytes, or a codec's value."""
    return message
