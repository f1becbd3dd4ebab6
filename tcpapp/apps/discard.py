"""
Take every message and say nothing (RFC 863).

The second form of app: an object. This one is an instance, so that it serves all connections, and what it counts is
their sum.
"""

from __future__ import annotations

from typing import Any

from tcpapp.connection.connection import MessageProtocol

__all__ = ["Discard", "discard"]


class Discard:
    """Counts the `messages` that it has thrown away."""

    def __init__(self) -> None:
        self.messages = 0

    def received(self, message: Any, connection: MessageProtocol) -> None:
        """Throw `message` away."""
        self.messages += 1


discard = Discard()
