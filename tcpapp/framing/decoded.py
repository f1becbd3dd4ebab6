"""Messages whose value is known before the app takes them."""

from __future__ import annotations

from typing import Any

__all__ = ["Decoded", "as_bytes"]


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


def as_bytes(messages: list[Any]) -> list[Any]:
    """`messages` as the bytes that came: each `Decoded` message becomes its bytes again."""
    if any(type(each) is Decoded for each in messages):
        return [each.message if type(each) is Decoded else each for each in messages]
    return messages
