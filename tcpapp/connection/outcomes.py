"""
What the parts of a connection report to it: the bits of an outcome.

A part does not know what its connection does about an outcome. It returns the outcome, and the connection settles it.
The part calls `Settler.settle` itself in two cases. Either no caller takes the outcome: after a timer, a call of the
transport, or a result of the app. Or the part has more to do, and the outcome must take effect before that: an app that
writes on over ``max_unsent``, or a reply that belongs to no request. `settle` acts on the bits in the order in which
they stand here.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

__all__ = [
    "ALL_RELEASED",
    "APP_ANSWERED",
    "APP_FAILED",
    "APP_IDLE",
    "APP_WAITS",
    "BODY_CAME",
    "BUFFERED_CHANGED",
    "CONVERSATION_ENDED",
    "HANDED_OVER",
    "HEARTBEAT",
    "LATE_REPLY",
    "MEMORY_SHORT",
    "MESSAGES_SKIPPED",
    "NOTHING",
    "OVERDUE",
    "REFUSED",
    "STREAM_CUT",
    "TOO_MANY_BYTES",
    "TOO_MANY_MESSAGES",
    "TOO_MUCH_UNSENT",
    "UNANSWERED",
    "UNSECURED",
    "WRITE_BLOCKED",
    "WRITE_RESUMED",
    "Settler",
]

NOTHING: Final = 0

# Received bytes.
REFUSED: Final = 1
"""The inbox found an undecodable message, and takes no message after it."""
ALL_RELEASED: Final = 2
"""The throttle holds no message any more."""
TOO_MANY_MESSAGES: Final = 4
"""More came than ``message_rate`` allows, and the policy is not to wait."""
TOO_MANY_BYTES: Final = 8
"""More came than ``byte_rate`` allows, and the policy is not to wait."""
MESSAGES_SKIPPED: Final = 16
"""The framing left out messages, or cannot read the rest of the stream; the detail is the chunk."""
UNANSWERED: Final = 32
"""A reply cannot be matched. The detail is the `Failure` of its decoding, or of the user's key function, and the
number of dropped messages behind it."""
UNSECURED: Final = 64
"""TLS cannot be set up in mid-conversation, or its Deferred was cancelled."""

BODY_CAME: Final = 4194304
"""Bytes of a body have come, and a reader waits for them."""

# Sent bytes.
WRITE_BLOCKED: Final = 128
"""The transport asks for no more: the app waits."""
WRITE_RESUMED: Final = 256
"""The transport has all bytes that waited."""
TOO_MUCH_UNSENT: Final = 512
"""More than ``max_unsent`` waited, and more came; the detail is how many bytes waited."""
HANDED_OVER: Final = 1024
"""The transport has all bytes that were written before the flush."""

STREAM_CUT: Final = 2097152
"""The bytes of a stream will never be whole; the detail is the `CloseReason`."""

# The app.
APP_WAITS: Final = 2048
"""The app returned a reply that is not there yet. The detail is since when, by the clock; `None`: now."""
APP_ANSWERED: Final = 4096
"""That reply came, or failed, and no other is waited for."""
APP_FAILED: Final = 8192
"""The app raised; the detail is the `Failure`."""
CONVERSATION_ENDED: Final = 16384
"""The conversation returned."""

# The clock, and the memory of all connections.
OVERDUE: Final = 32768
"""A wait is over; the detail is its name, and its seconds."""
HEARTBEAT: Final = 65536
"""A heartbeat is due; the detail is how many before it were missed."""
MEMORY_SHORT: Final = 131072
"""All connections hold too much, and this one the most; the detail is the `CloseReason`."""

# Requests.
LATE_REPLY: Final = 1048576
"""A reply came that no request waits for any more. It is dropped."""

# Any part.
BUFFERED_CHANGED: Final = 262144
"""The parts hold more bytes than before, or fewer."""
APP_IDLE: Final = 524288
"""The app is not being called."""


class Settler(Protocol):
    """A connection, as its parts know it."""

    @property
    def is_handling(self) -> bool:
        """Whether our side has a message to answer, so that the peer need not send."""
        ...

    def settle(self, outcome: int, detail: Any = None) -> None:
        """Do what `outcome` asks for."""


class _EndedSettler:
    """Stands in for an ended connection, so that its parts do not keep it in memory."""

    is_handling = False

    def settle(self, outcome: int, detail: Any = None) -> None: ...


ENDED: Final = _EndedSettler()
