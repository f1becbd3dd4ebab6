"""
Many messages of one connection in one step.

They are for clients in other threads, for which each step is a switch of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.connection.connection import Connection
from tcpapp.connection.inbox import ABSENT

__all__ = ["in_one_write", "take_at_hand"]


def in_one_write(connection: Connection, send: Callable[[], object]) -> None:
    """Call `send`, and write all that it sends on `connection` together, up to the write mark."""
    outbox = connection._protocol._outbox
    outbox.cork()
    try:
        send()
    finally:
        outbox.uncork()


def take_at_hand(connection: Connection, most: int, size: int) -> list[Any]:
    """
    Take messages that ``receive`` of `connection` would give at once: up to `most`, and until they had `size` bytes in
    the inbox. An undecodable message is given as its error.
    """
    protocol = connection._protocol
    if protocol._bodies is not None or not protocol._lifecycle.stage.is_open:
        return []
    inbox = protocol._inbox
    found: list[Any] = []
    while len(found) < most and size > 0:
        before = inbox.size
        message = protocol._dispatcher.take_now()
        if message is ABSENT:
            break
        found.append(message)
        size -= len(message) if type(message) is bytes else before - inbox.size  # new messages can make that less
    if found and protocol._buffered.reported:
        protocol._buffered.update()
    return found
