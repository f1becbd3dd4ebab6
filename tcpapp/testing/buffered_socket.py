"""The base class of sockets in memory, on which Twisted's `tcp.Connection` runs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from errno import EPIPE, EWOULDBLOCK

__all__ = ["MemorySocket", "would_block"]


def _nobody() -> None:
    """Do nothing."""


def would_block() -> BlockingIOError:
    """Return the error of a socket that cannot read or write now."""
    return BlockingIOError(EWOULDBLOCK, "nothing can be read or sent now")


class MemorySocket:
    """
    One end of a connection, without the kernel, and always non-blocking.

    It has only the methods that `twisted.internet.tcp.Connection` uses. A subclass defines `readable`, `writable`,
    `recv`, `send`, `shut_down` and `hang_up`, and calls `on_ready` whenever `readable` or `writable` has possibly
    become true. Options are kept and have no effect, except ``SO_LINGER``: a socket that is closed with a linger of 0
    hangs up with a reset, as in the kernel.
    """

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = _nobody
        self.closed = False
        self._options: dict[tuple[int, int], object] = {}

    @property
    def readable(self) -> bool:
        """Whether `recv` would not block: it would return, or raise another error."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """Whether `send` would not block: it would accept a byte, or raise another error."""
        raise NotImplementedError

    def recv(self, most: int) -> bytes:
        """Return up to `most` bytes, ``b""`` at the end of the stream. Raises the kernel's errors (`OSError`)."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        """Accept as much of `data` as there is room for; return how much. Raises the kernel's errors (`OSError`)."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """End the stream to the peer. It can be called twice."""
        raise NotImplementedError

    def hang_up(self, *, reset: bool) -> None:
        """Close the socket: nothing is read any more. With `reset`, the peer gets a reset."""
        raise NotImplementedError

    # Called by tcp.Connection.

    def setblocking(self, flag: bool) -> None:
        """Do nothing: the socket never blocks."""

    def fileno(self) -> int:
        """Return -1: there is no descriptor, so `select` cannot watch the socket."""
        return -1

    def shutdown(self, how: int) -> None:
        """End the stream to the peer. `how` is ignored, because the transport itself knows whether it still reads."""
        if self.closed:
            raise BrokenPipeError(EPIPE, "the socket is closed")
        self.shut_down()

    def close(self) -> None:
        """Close both directions. Later calls do nothing."""
        if not self.closed:
            self.closed = True
            linger = self._options.get((socket.SOL_SOCKET, socket.SO_LINGER))
            self.hang_up(reset=linger == struct.pack("ii", 1, 0))

    def setsockopt(self, level: int, name: int, value: object) -> None:
        """Keep the value of an option."""
        self._options[level, name] = value

    def getsockopt(self, level: int, name: int) -> object:
        """Return the value of an option; 0 (off) if it was not set."""
        return self._options.get((level, name), 0)
