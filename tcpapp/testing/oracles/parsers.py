"""What the oracles need for a parser: its messages are any values, and its peer can frame them in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.framing import Body, Framing, Parser
from tcpapp.testing.strategies import sendable

__all__ = ["arrived", "bodies_in", "different", "framed_by", "is_in_body", "size_of"]


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


def bodies_in(message: Any) -> list[Body]:
    """Return the bodies in a message: in tuples, lists, and the attributes of its own classes."""
    if isinstance(message, Body):
        return [message]
    if isinstance(message, (tuple, list)):
        return [body for each in message for body in bodies_in(each)]
    return [body for each in getattr(message, "__dict__", {}).values() for body in bodies_in(each)]


def arrived(framing: Framing, messages: list[Any]) -> list[Any]:
    """Return the messages that have arrived whole, with their bodies. A parser returns a message before its body."""
    if isinstance(framing, Parser) and messages and not all(body.is_whole for body in bodies_in(messages[-1])):
        return messages[:-1]
    return messages


def is_in_body(framing: Framing) -> bool:
    """Return whether the stream is inside a body: its state cannot be dumped then."""
    return isinstance(framing, Parser) and framing.in_body
