"""How many messages of one connection its app works on at once, and in which order their replies are sent."""

from __future__ import annotations

from typing import Any, Final

from tcpapp.connection.handlers import Conversation
from tcpapp.errors import InvalidOption
from tcpapp.spec import suggest

__all__ = ["AS_READY", "IN_ORDER", "REPLIES", "check_concurrency", "check_replies"]

IN_ORDER: Final = "in-order"
"""Send the replies in the order of the messages that they answer."""

AS_READY: Final = "as-ready"
"""Send each reply as soon as it is there, as protocols do whose replies carry the id of their message."""

REPLIES: Final = (IN_ORDER, AS_READY)


def check_concurrency(concurrency: Any, app: Any) -> int:
    """
    `concurrency` itself, or 1 for `None`. Raises `InvalidOption` for an invalid number, and for an app that takes 1.
    """
    if concurrency is None:
        return 1
    if type(concurrency) is not int or concurrency < 1:
        raise InvalidOption(f"concurrency={concurrency!r}: takes a number of messages, from 1 on")
    if concurrency > 1 and app is None:
        raise InvalidOption(f"concurrency={concurrency}: takes an app that gets the messages; receive() has no limit")
    if concurrency > 1 and isinstance(app, Conversation):
        raise InvalidOption(
            f"concurrency={concurrency}: takes no @conversation, which fetches its messages itself; use a function of"
            " (message, connection)"
        )
    return concurrency


def check_replies(replies: Any) -> str:
    """`replies` itself, or `IN_ORDER` for `None`. Raises `InvalidOption` for another word."""
    if replies is None:
        return IN_ORDER
    if not isinstance(replies, str) or replies not in REPLIES:
        raise InvalidOption(f"replies={replies!r}: takes {' or '.join(REPLIES)}{suggest(str(replies), REPLIES)}")
    return replies
