"""Records of one size."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.errors import InvalidFraming, UnsendableMessage
from tcpapp.framing.base import DEFAULT_MAX, Oversize, whole
from tcpapp.framing.sized import UNKNOWN, Sized

__all__ = ["Fixed"]


class Fixed(Sized):
    """
    Records of `size` bytes, with nothing between them. With ``size=5``::

        'hellohello'  →  hello, hello

    Errors: only `TruncatedMessage`, if the stream ends inside a record; a message of another size cannot be sent.
    Source: Netty's ``FixedLengthFrameDecoder``.
    """

    __slots__ = ("size",)
    frames_alike = True
    _name = "fixed"

    size: int

    def __init__(self, size: int, *, max: int = DEFAULT_MAX, oversize: Oversize = "close") -> None:  # noqa: A002
        self.size = whole("size", size, 1)
        super().__init__(max=max, oversize=oversize)
        if self.size > self.max:
            raise InvalidFraming(f"size={size!r}: takes at most max={max} bytes")

    @override
    def _is_possible(self) -> bool:
        return super()._is_possible() and self._wanted == (self.size if self._held else UNKNOWN)

    @override
    def _cut(self, chunk: bytes, messages: list[bytes]) -> None:
        size = self.size
        whole_size = len(chunk) - len(chunk) % size
        messages += [chunk[at : at + size] for at in range(0, whole_size, size)]
        if whole_size < len(chunk):
            self._wanted = size
            self._held = chunk[whole_size:]

    @override
    def frame(self, message: bytes) -> bytes:
        """`message` itself. Raises `UnsendableMessage` unless it is `size` bytes."""
        self._sendable(message)
        if len(message) != self.size:
            raise UnsendableMessage(f"a message of {len(message)} bytes; a record has {self.size}")
        return message

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """`messages` joined. Raises `UnsendableMessage` as `frame` does."""
        if set(map(type, messages)) == {bytes} and set(map(len, messages)) == {self.size}:
            return b"".join(messages)
        return super().frame_all(messages)
