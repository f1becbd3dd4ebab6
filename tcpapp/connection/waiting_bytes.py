"""Bytes that wait in an outbox until the transport takes them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

__all__ = ["WaitingBytes"]


class WaitingBytes:
    """
    Bytes that wait for the transport: how many of them it has got, and how many `messages` end in them.

    The Deferred `waiter` fires when the transport has them all. Where there is a `stream`
    (`tcpapp.connection.sent_stream.SentStream`), its bytes are sent in this place, and `data` is empty. A `shared`
    message (`tcpapp.connection.shared_message.SharedMessage`) waits in other outboxes, too.
    """

    __slots__ = ("data", "given", "messages", "shared", "stream", "waiter")

    def __init__(
        self,
        data: bytes | bytearray,
        messages: int,
        waiter: Deferred[None] | None,
        stream: Any = None,
        shared: Any = None,
    ) -> None:
        self.data = data
        self.messages = messages
        self.given = 0
        self.waiter = waiter
        self.stream = stream
        self.shared = shared

    def takes(self, data: bytes, most: int) -> bool:
        """Whether `data` can be joined to it without exceeding `most` bytes, which would delay the rest."""
        free = self.waiter is None and self.stream is None and self.shared is None and not self.given
        return free and len(self.data) + len(data) <= most

    def join(self, data: bytes, messages: int) -> None:
        """Append `data` with its `messages`. Many calls together take linear time."""
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        self.data += data
        self.messages += messages
