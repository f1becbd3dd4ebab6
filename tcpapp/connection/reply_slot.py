"""The place of one message among several that an app works on at once."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tcpapp.connection.reply_stream import ReplyStream

__all__ = ["SLOT_COST", "Slot"]

SLOT_COST: Final = 1024
"""
Bytes that count for a message in the app's hands besides the message. Its slot and the Deferred of its reply take 760
bytes on CPython 3.11.
"""


class Slot:
    """
    The place of a message whose reply is not sent yet.

    `reply` is the Deferred that the app returned, until it has fired. The app has the message `since` that time.
    `replies` are the replies, of `size` bytes; `None` while they are not there. `weight` counts the bytes of memory
    that the app holds for the message, or that its replies take while they wait. `dropped` says that an earlier message
    failed: what the app still gives is not sent. `stream` sends a reply that is many messages.
    """

    __slots__ = ("dropped", "failure", "replies", "reply", "since", "size", "stream", "weight")

    def __init__(self) -> None:
        self.reply: Deferred[Any] | None = None
        self.replies: list[Any] | None = None
        self.failure: Failure | None = None
        self.stream: ReplyStream | None = None
        self.dropped = False
        self.since = 0.0
        self.size = 0
        self.weight = 0

    def take_failure(self) -> Failure | None:
        """The failure, which the slot holds no longer: its frames can hold the slot."""
        failure, self.failure = self.failure, None
        return failure
