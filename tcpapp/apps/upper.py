"""Send every message back in capitals. It shows the first form of app as a coroutine function, which can await."""

from __future__ import annotations

from typing import TypeVar

from tcpapp.connection.connection import Connection

__all__ = ["upper"]

Text = TypeVar("Text", bytes, str)


async def upper(message: Text, connection: Connection) -> Text:
    """
    Reply with `message` in capitals. In bytes only ASCII letters change; the text codec's `str` changes as a whole.
    """
    return message.upper()
