"""Send every message back in capitals. The first form of app again, as a coroutine function: it can await."""

from __future__ import annotations

from typing import TypeVar

from tcpapp.connection.connection import Connection

__all__ = ["upper"]

Text = TypeVar("Text", bytes, str)


async def upper(message: Text, connection: Connection) -> Text:
    """Reply with `message` in capitals: bytes, of which the ASCII letters change, or the text codec's str."""
    return message.upper()
