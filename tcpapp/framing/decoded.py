"""Messages whose value is known before the app takes them."""

from __future__ import annotations

from typing import Any

from tcpapp.framing.body import Body

__all__ = ["Decoded", "Streamed", "as_bytes", "bytes_of"]


class Decoded:
    """
    The bytes and the value of a message that was decoded early.

    A parser decodes a message when it reads it, and a codec to see whether a message is the reply to a request. Where
    such a message has to wait, it waits as its bytes.
    """

    __slots__ = ("message", "value")

    def __init__(self, message: bytes, value: Any) -> None:
        self.message = message
        self.value = value

    def __len__(self) -> int:
        return len(self.message)


class Streamed(Decoded):
    """A message whose `body` comes after it. It waits as it is: it cannot be read again."""

    __slots__ = ("body",)

    def __init__(self, message: bytes, value: Any, body: Body) -> None:
        super().__init__(message, value)
        self.body = body


def as_bytes(messages: list[Any]) -> list[Any]:
    """`messages` as the bytes that came: each `Decoded` message becomes its bytes again."""
    if any(type(each) is Decoded for each in messages):
        return [each.message if type(each) is Decoded else each for each in messages]
    return messages


def bytes_of(messages: list[Any]) -> list[bytes]:
    """The bytes of `messages` that came, without bodies."""
    return [each.message if isinstance(each, Decoded) else each for each in messages]
