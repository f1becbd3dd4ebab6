"""A socket whose other end is the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcpapp.testing.buffered_socket import MemorySocket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PeerSocket"]


class PeerSocket(MemorySocket):
    """A socket whose other end is the test. The test accepts `allowed` bytes, and gives the bytes to receive."""

    def __init__(self, keep: Callable[[bytes], object], allowed: float) -> None:
        super().__init__()
        self.keep = keep
        self.allowed = allowed
        self.incoming = bytearray()
        self.ended = False
        self.was_reset = False
        self.finished = False
        self.hung_up_with_reset = False

    @property
    def readable(self) -> bool:
        """Whether the test has sent something."""
        return bool(self.incoming) or self.ended or self.was_reset

    @property
    def writable(self) -> bool:
        """Whether the test accepts bytes."""
        return self.allowed > 0 or self.was_reset

    def recv(self, most: int) -> bytes:
        """Read what the test sent."""
        if self.was_reset and not self.incoming and not self.ended:
            raise ConnectionResetError("the peer reset it")
        data = bytes(self.incoming[:most])
        del self.incoming[:most]
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Let the test keep the bytes that it accepts."""
        if self.was_reset or self.finished:
            raise BrokenPipeError("the peer reset it" if self.was_reset else "the stream has been ended")
        taken = bytes(data[: int(min(self.allowed, len(data)))])
        self.allowed -= len(taken)
        self.keep(taken)
        return len(taken)

    def shut_down(self) -> None:
        """Note for the test that no more bytes come."""
        self.finished = True

    def hang_up(self, *, reset: bool) -> None:
        """Note for the test how the connection ended. It is a reset, too, if some bytes were not read."""
        self.finished = True
        self.hung_up_with_reset = reset or bool(self.incoming)
