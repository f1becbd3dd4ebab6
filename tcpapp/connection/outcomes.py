"""
What the parts of a connection report to it: the bits of an outcome.

A part does not know what its connection does about an outcome. It returns it, and the connection settles it. An
outcome that nobody waits for enters by `Settler.settle` too: of a timer, of the transport, of what the app gave or
raised. `settle` acts on the bits in the order in which they stand here.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

__all__ = [
    "ALL_RELEASED",
    "APP_ANSWERED",
    "APP_FAILED",
    "APP_IDLE",
    "APP_WAITS",
    "BUFFERED_CHANGED",
    "CONVERSATION_ENDED",
    "HANDED_OVER",
    "HEARTBEAT",
    "MEMORY_SHORT",
    "MESSAGES_SKIPPED",
    "NOTHING",
    "OVERDUE",
    "REFUSED",
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

# Of the bytes that come.
REFUSED: Final = 1
"""The inbox found a message that is no value, and takes nothing after it."""
ALL_RELEASED: Final = 2
"""The throttle holds no message any more."""
TOO_MANY_MESSAGES: Final = 4
"""More came than ``message_rate`` allows, and the peer is not made to wait."""
TOO_MANY_BYTES: Final = 8
"""More came than ``byte_rate`` allows, and the peer is not made to wait."""
MESSAGES_SKIPPED: Final = 16
"""The framing left out messages, or cannot read the rest of the stream; the detail is the chunk."""
UNANSWERED: Final = 32
"""A reply cannot be matched: the detail is the `Failure` of its decoding, or of the user's key function, and how many
messages behind it nobody takes."""
UNSECURED: Final = 64
"""TLS cannot be set up in mid-conversation, or nobody waits for it any longer."""

# Of the bytes that go.
WRITE_BLOCKED: Final = 128
"""The transport asks for no more: the app waits."""
WRITE_RESUMED: Final = 256
"""The transport has all that waited."""
TOO_MUCH_UNSENT: Final = 512
"""More than ``max_unsent`` waited, and more came; the detail is how many bytes waited."""
HANDED_OVER: Final = 1024
"""The transport has all that was written before the flush."""

# Of the app.
APP_WAITS: Final = 2048
"""What the app returned is to be waited for."""
APP_ANSWERED: Final = 4096
"""That came, or failed."""
APP_FAILED: Final = 8192
"""The app raised; the detail is the `Failure`."""
CONVERSATION_ENDED: Final = 16384
"""The conversation returned."""

# Of the clock, and of all connections together.
OVERDUE: Final = 32768
"""A wait is over; the detail is its name, and its seconds."""
HEARTBEAT: Final = 65536
"""A heartbeat is due; the detail is how many before it were missed."""
MEMORY_SHORT: Final = 131072
"""All connections hold too much, and this one the most; the detail is the `CloseReason`."""

# Of any.
BUFFERED_CHANGED: Final = 262144
"""The parts hold more bytes than before, or fewer."""
APP_IDLE: Final = 524288
"""The app is not being called."""


class Settler(Protocol):
    """A connection, as its parts know it."""

    @property
    def is_handling(self) -> bool:
        """Whether a message is in our hands, so that the peer owes us nothing."""
        ...

    def settle(self, outcome: int, detail: Any = None) -> None:
        """Do what `outcome` asks for."""
