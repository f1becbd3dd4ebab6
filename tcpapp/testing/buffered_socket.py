"""The socket in memory that Twisted's `tcp.Connection` needs: the base of the kit's transports."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from errno import EPIPE, EWOULDBLOCK

__all__ = ["MemorySocket", "would_block"]


def _nobody() -> None:
    """Do nothing."""


def would_block() -> BlockingIOError:
    """The error of a socket that can neither read nor write now."""
    return BlockingIOError(EWOULDBLOCK, "nothing can be read or sent now")


class MemorySocket:
    """
    One end of a connection, without the kernel, and always non-blocking.

    It has only the methods that `twisted.internet.tcp.Connection` uses. A subclass defines `recv`, `send`, `shut_down`
    and `hang_up`, and calls `on_ready` whenever `readable` or `writable` may have become true. Options are kept and
    have no effect, except ``SO_LINGER``: a socket closed with a linger of 0 hangs up with a reset, as in the kernel.
    """

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = _nobody
        self.closed = False
        self._options: dict[tuple[int, int], object] = {}

    @property
    def readable(self) -> bool:
        """Whether `recv` would return, or raise another error than that it would block."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """Whether `send` would accept a byte, or raise another error than that it would block."""
        raise NotImplementedError

    def recv(self, most: int) -> bytes:
        """Return up to `most` bytes, ``b""`` at the end of the stream. Raises the kernel's errors (`OSError`)."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        """Accept as much of `data` as there is room for; return how much. Raises the kernel's errors (`OSError`)."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """The stream to the peer ends here. It can be called twice."""
        raise NotImplementedError

    def hang_up(self, *, reset: bool) -> None:
        """The socket is closed: nobody reads any more; with `reset`, the peer must learn of it at once."""
        raise NotImplementedError

    # Called by tcp.Connection.

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def fileno(self) -> int:
        """-1: there is no descriptor, so `select` cannot watch it."""
        return -1

    def shutdown(self, how: int) -> None:
        """End the stream to the peer. The transport itself knows whether it still reads."""
        if self.closed:
            raise BrokenPipeError(EPIPE, "the socket is closed")
        self.shut_down()

    def close(self) -> None:
        """Close both directions, once."""
        if not self.closed:
            self.closed = True
            linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
            self.hang_up(reset=linger == struct.pack("ii", 1, 0))

    def setsockopt(self, level: int, name: int, value: object) -> None:
        """Keep an option."""
        self._options[level, name] = value

    def getsockopt(self, level: int, name: int) -> object:
        """Return an option that was set; 0, which is off, until then."""
        return self._options.get((level, name), 0)
