"""Why no message of a connection is handed to its app just now: the bits of `Dispatch.hold`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "AWAITING",
    "BLOCKED",
    "DEAF",
    "ENDING",
    "GONE",
    "OVER",
    "PAUSED",
    "PULLED",
    "SECURING",
    "WORKING",
    "YIELDED",
]

WORKING: Final = 1
"""The app is being called, and the loop that calls it goes on by itself."""
AWAITING: Final = 2
"""What the app returned last is not there yet."""
PAUSED: Final = 4
"""The user said so."""
BLOCKED: Final = 8
"""The peer does not take the replies."""
PULLED: Final = 16
"""The app has no `received`: messages are fetched from the inbox."""
OVER: Final = 32
"""The connection is closing, or closed."""
ENDING: Final = 64
"""No message comes any more; what came is still handed on, so this alone holds nothing back."""
SECURING: Final = 128
"""TLS is being set up on the connection."""
GONE: Final = 256
"""The connection is closed: no part of it works any more, whatever still comes to its end by then."""
YIELDED: Final = 512
"""The messages took as long as those of one connection can in a turn: other connections have theirs."""
DEAF: Final = 96
"""`ENDING`, or `OVER`: nothing that comes is heard."""
