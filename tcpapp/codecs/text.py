"""Text in UTF-8."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.codecs.base import Codec, undecodable, unsendable
from tcpapp.codecs.decoded_size import text_size

__all__ = ["Text"]


class Text(Codec[str]):
    """
    Text in UTF-8 (RFC 3629), strictly: no byte is replaced or left out, in either direction.

    A byte order mark is kept, as U+FEFF. ::

        b"hall\\xc3\\xa5" ↔ "hallå"
    """

    __slots__ = ()

    name = "text"

    @override
    def decode(self, message: bytes) -> str:
        """Return the text. Raises `UndecodableMessage` if `message` is not UTF-8."""
        try:
            return message.decode()
        except Exception as error:
            raise undecodable("UTF-8 text", message, error) from error

    @override
    def weight(self, message: bytes) -> int:
        """Return a bound as `Codec.weight` does: one, two or four bytes for each byte, by the widest character."""
        return text_size(message)

    @override
    def encode(self, value: str) -> bytes:
        """Return the UTF-8 of `value`. Raises `UnsendableMessage` if it is no `str`, or holds half a surrogate pair."""
        try:
            if not isinstance(value, str):
                raise TypeError("not a str")
            return str.encode(value)
        except Exception as error:
            raise unsendable(self, "a str without lone surrogates", value, error) from error
