"""No framing at all."""

from __future__ import annotations

from typing_extensions import override

from tcpapp.framing.base import Framing
from tcpapp.framing.rereading import Mark

__all__ = ["Raw"]


class Raw(Framing):
    """
    No boundaries: each chunk is a message, cut as the network happened to cut it::

        'hello'  →  hello

    For apps that find their own boundaries, and for bytes without boundaries. It is the only framing whose messages
    depend on the cuts; only the joined bytes are always the same. A chunk over ``max`` is split into slices of ``max``,
    so nothing is ever too long, malformed or truncated.
    """

    __slots__ = ()
    frames_alike = True
    _name = "raw"
    _gapless = _by_chunk = True

    @override
    def _most_held(self) -> int:
        return 0

    @override
    def receive(self, chunk: bytes) -> list[bytes]:
        """The chunk, in slices of at most ``max`` bytes. Never raises."""
        if len(chunk) <= self.max:
            return [chunk] if chunk else []
        return [chunk[at : at + self.max] for at in range(0, len(chunk), self.max)]

    @override
    def behind(self, mark: Mark | None, data: bytes, count: int) -> bytes:
        """The bytes behind the first `count` slices: each is of ``max`` bytes, whatever the network does."""
        return data[count * self.max :]

    @override
    def frame(self, message: bytes) -> bytes:
        """`message` itself. Raises `UnsendableMessage` if it is over ``max`` or not bytes."""
        self._sendable(message)
        return message

    @override
    def frame_all(self, messages: list[bytes]) -> bytes:
        """`messages` joined. Raises `UnsendableMessage` as `frame` does."""
        if self._all_sendable(messages):
            return b"".join(messages)
        return super().frame_all(messages)
