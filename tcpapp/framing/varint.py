"""Messages behind a length of one to ten bytes: protobuf's delimited streams."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted
from tcpapp.framing.loops import cut_varints, frame_varints
from tcpapp.framing.sized import Sized

__all__ = ["Varint"]

LONGEST = 10
"""The most bytes of a varint: 64 bits in groups of 7 (protobuf, "Base 128 Varints")."""


class Varint(Sized):
    """
    A base-128 varint, then the message::

        05 'hello'  →  hello

    The length comes in groups of seven bits, the lowest first. All bytes but the last have the high bit set, so 150 is
    ``96 01``. Each length has one valid form: a length with empty groups at its end (``80 00``), or of more than 64
    bits, is malformed. Up to 9 bytes of an incomplete length are held, even if ``max`` is less.

    Errors: `MessageTooLong` as soon as the length is there; `MalformedFrame`; `TruncatedMessage`.
    Source: protobuf's ``writeDelimitedTo`` and ``parseDelimitedFrom``; Netty's ``ProtobufVarint32FrameDecoder``.
    """

    __slots__ = ()
    frames_alike = True
    _name = "varint"

    @override
    def _cut(self, chunk: bytes, messages: list[bytes]) -> None:
        start, size = cut_varints(chunk, 0, self.max, messages), len(chunk)
        while start < size:
            length, begin = _read(chunk, start)
            if begin == start:
                self._held = chunk[start:]
                return
            start = self._take(chunk, begin, begin + length, messages)
            start = cut_varints(chunk, start, self.max, messages)

    @override
    def frame(self, message: bytes) -> bytes:
        """The length of `message`, and the message. Raises `UnsendableMessage`."""
        self._sendable(message)
        return _write(len(message)) + message

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """Each of `messages` behind its length. Raises `UnsendableMessage` as `frame` does."""
        framed = frame_varints(messages, self.max, _write)
        return super().frame_all(messages) if framed is None else framed


def _write(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _read(chunk: bytes, start: int) -> tuple[int, int]:
    """The varint at `start` and where it ends; that is `start` if it goes on beyond `chunk`."""
    value = 0
    for place, byte in enumerate(chunk[start : start + LONGEST]):
        value |= (byte & 0x7F) << 7 * place
        if place == LONGEST - 1 and byte > 1:
            raise MalformedFrame(f"a length {quoted(chunk[start : start + LONGEST])}; a varint is at most 64 bits")
        if byte <= 0x7F:
            if byte == 0 and place:
                raise MalformedFrame(
                    f"a length {quoted(chunk[start : start + place + 1])}; a varint does not end in an empty group"
                )
            return value, start + place + 1
    return 0, start
