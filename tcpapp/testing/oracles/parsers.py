"""What the oracles need for a parser: its messages are any values, and its peer can frame them in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.framing import Framing, Parser
from tcpapp.testing.strategies import sendable

__all__ = ["different", "framed_by", "size_of"]


def framed_by(framing: Framing, frame: Callable[[Any], bytes] | None) -> Framing:
    """
    Return `framing` with another function that makes the bytes of a message: what its peer sends.

    Raises `TypeError` for a framing that is no parser; such a framing sends what it receives.
    """
    if frame is None:
        return framing
    if not isinstance(framing, Parser):
        raise TypeError(f"frame={frame!r}: takes a parser, not {framing!r}, which frames its messages itself")
    own = type(framing)
    kind = type(own.__name__, (own,), {"__slots__": (), "_frame": staticmethod(frame), "_frame_options": ()})
    made: Framing = kind(**{name: getattr(framing, name) for name in own._defaults})
    return made


def size_of(framing: Framing, message: Any) -> int:
    """Return how many bytes of `message` count for ``max``: all bytes on the wire of a parser's message."""
    return len(framing.frame(message)) if isinstance(framing, Parser) else len(message)


def different(framing: Framing, messages: list[Any]) -> list[Any]:
    """Return the different ones of `messages` that `framing` can send, the shortest first. Some cannot be hashed."""
    found: list[Any] = []
    for each in messages:
        if each not in found and sendable(framing, each):
            found.append(each)
    if isinstance(framing, Parser):
        return sorted(found, key=lambda each: size_of(framing, each))
    return sorted(found, key=lambda each: (len(each), each))
