"""
Send the time each second, in UTC (ISO 8601), one message a second.

It shows the third form of app: a conversation. The server sends by a clock while it receives the messages of the
client. It does not reply to them. But receiving tells it that the client has left, or that the server is stopping.
"""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tcpapp.connection.app import conversation
from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import protocol_of

__all__ = ["time"]


@conversation
async def time(connection: Connection) -> None:
    """Send the time once a second. A slow client gets fewer messages, but no late one."""

    def tell() -> Deferred[None]:
        return connection.send(now())

    await tell()
    ticks = LoopingCall(tell)
    ticks.clock = protocol_of(connection).clock
    ticking = ticks.start(1, now=False)
    try:
        async for _ in connection:
            pass
    finally:
        ticks.stop()
        await ticking


def now() -> bytes:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").encode()
