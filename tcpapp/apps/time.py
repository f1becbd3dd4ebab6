"""
Send the time each second, in UTC (ISO 8601), one message a second.

It shows the third form of app: a conversation, with a task that sends by a clock while the conversation receives the
messages of the client. The server does not reply to them. But receiving tells it that the client has left, or that the
server is stopping.
"""

from __future__ import annotations

from datetime import datetime, timezone

from tcpapp.connection.app import conversation
from tcpapp.connection.connection import Connection

__all__ = ["time"]


@conversation
async def time(connection: Connection) -> None:
    """Send the time once a second. A slow client gets fewer messages, but no late one."""
    connection.spawn(tell(connection))
    async for _ in connection:
        pass


async def tell(connection: Connection) -> None:
    """Send the time now, and once a second from now on."""
    async for _ in connection.every(1, now=True):
        await connection.send(now())


def now() -> bytes:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").encode()
