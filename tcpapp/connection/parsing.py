"""
How a connection uses a parser.

A connection handles messages as bytes, and gives the app their values. So it uses a parser as two parts: a framing
whose messages are bytes with their values beside them, and a codec. The app gets the value that was read. A message
that has to wait does so as its bytes, and is read again from them. The codec makes the bytes of replies.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from tcpapp.codecs import Codec
from tcpapp.errors import UndecodableMessage, UnreadableStream
from tcpapp.framing import Framing, Parser
from tcpapp.framing.decoded import Streamed

__all__ = ["Parsing", "parts_of", "users_codec"]


class Parsing(Codec[Any]):
    """The bytes of whole messages of a parser ↔ what its generator returns."""

    __slots__ = ("_parser",)

    name = "parser"

    def __init__(self, parser: Parser) -> None:
        super().__init__()
        self._parser = parser

    @override
    def decode(self, message: Any) -> Any:
        """
        Read the bytes of one message, again if it had to wait.

        Raises `UndecodableMessage` for any other bytes, and for a parser that reads it differently this time.
        """
        if isinstance(message, Streamed):
            message.body.give()
            return message.value
        state = self._parser.alone(message)
        try:
            found = state.receive(message)
            state.finish()
        except UnreadableStream as error:
            raise UndecodableMessage(f"not one message of {self._parser}: {error}", message=message) from error
        if len(found) != 1:
            raise UndecodableMessage(f"not one message of {self._parser}, but {len(found)}", message=message)
        return found[0]

    @override
    def encode(self, value: Any) -> bytes:
        """The bytes of `value` on the wire. Raises `UnsendableMessage`."""
        return Parser.frame(self._parser, value)  # a parser that notes what it sends does so when its stream frames it


def parts_of(framing: Framing, codec: Codec[Any] | None) -> tuple[Framing, Codec[Any] | None]:
    """
    The framing and the codec that connections use, for those of a factory.

    With a codec of the user's, the messages of a parser must be bytes, and the codec decodes them.
    """
    if not isinstance(framing, Parser):
        return framing, codec
    if codec is not None:
        return framing.of_bytes(), codec
    return framing.whole(), Parsing(framing)


def users_codec(codec: Codec[Any] | None) -> Codec[Any] | None:
    """The codec of the user's that a connection with this `codec` has; `None` where a parser reads the values."""
    return None if isinstance(codec, Parsing) else codec
