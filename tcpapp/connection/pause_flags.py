"""Why no message of a connection is handed to its app just now: the bits of `Dispatcher.pauses`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AWAITING_REPLY",
    "AWAITING_TURN",
    "CONNECTION_CLOSED",
    "CONNECTION_CLOSING",
    "HANDLING",
    "MOVING",
    "NOT_RECEIVING",
    "NO_MORE_INPUT",
    "PAUSED",
    "RECEIVE_ONLY",
    "SWITCHING",
    "TLS_STARTING",
    "WRITE_BLOCKED",
]

HANDLING: Final = 1
"""The app is being called, and the loop that calls it goes on by itself."""
AWAITING_REPLY: Final = 2
"""The last reply of the app is not there yet."""
PAUSED: Final = 4
"""The user called `pause`."""
WRITE_BLOCKED: Final = 8
"""The peer does not take the replies."""
RECEIVE_ONLY: Final = 16
"""The app has no `received`: messages are fetched from the inbox."""
CONNECTION_CLOSING: Final = 32
"""The connection is closing, or closed."""
NO_MORE_INPUT: Final = 64
"""No message comes any more. The messages that came are still handed on, so this bit alone holds nothing back."""
TLS_STARTING: Final = 128
"""TLS is being set up on the connection."""
CONNECTION_CLOSED: Final = 256
"""The connection is closed: no part of it works any more, even where a reply still comes."""
AWAITING_TURN: Final = 512
"""The messages used the budget of a turn: other connections have their turns now."""
MOVING: Final = 1024
"""The connection is to continue in another process: it comes to a message boundary."""
SWITCHING: Final = 2048
"""The framing was switched: the reply to the message in hand is the last one of the old framing."""
NOT_RECEIVING: Final = 96
"""`NO_MORE_INPUT` or `CONNECTION_CLOSING`: received bytes are ignored."""
