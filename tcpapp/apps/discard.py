"""
Drop every message (RFC 863).

It shows the second form of app: an object. It is an instance, so it serves all connections and counts their messages
together.
"""

from __future__ import annotations

from typing import Any

from tcpapp.connection.connection import Connection

__all__ = ["Discard", "discard"]


class Discard:
    """Drops every message, and counts them in `messages`."""

    def __init__(self) -> None:
        self.messages = 0

    def received(self, message: Any, connection: Connection) -> None:
        """Drop `message`; count it."""
        self.messages += 1


discard = Discard()
