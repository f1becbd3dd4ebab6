"""
Say the time each second: ISO 8601, in UTC, one message a second.

The third form of app: a conversation, in which the server speaks first, on a clock, while it waits for what the client
says. It says nothing back to that, but so it learns that the client has left, or that the server is stopping.
"""

from __future__ import annotations

from datetime import datetime, timezone

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tcpapp.connection.app import conversation
from tcpapp.connection.connection import MessageProtocol

__all__ = ["time"]


@conversation
async def time(connection: MessageProtocol) -> None:
    """Send the time, and again each second; a client that takes it slowly is told less often, never late."""

    def tell() -> Deferred[None]:
        return connection.send(now())

    await tell()
    ticks = LoopingCall(tell)
    ticks.clock = connection.clock
    ticking = ticks.start(1, now=False)
    try:
        async for _ in connection:
            pass
    finally:
        ticks.stop()
        await ticking


def now() -> bytes:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").encode()
