"""Closing a connection on uvloop: the last steps."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any

from twisted.internet.posixbase import _DisconnectSelectableMixin

__all__ = ["disconnect", "reset_at_close", "shut_down"]

RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on with 0 seconds, so that closing resets the connection (RFC 9293, ABORT)."""


def shut_down(skt: socket.socket) -> None:
    """Send FIN to the peer, even if another process holds a copy of the socket."""
    with suppress(OSError):
        skt.shutdown(socket.SHUT_RDWR)


def reset_at_close(skt: socket.socket) -> None:
    """Let the system reset the connection when its socket is closed."""
    with suppress(OSError):
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


class Disconnecting(_DisconnectSelectableMixin):
    """Twisted's way to end a connection after a read or a write, without taking the connection off the reactor."""

    def removeReader(self, stream: Any) -> None:  # noqa: N802 - Twisted's names
        """Do nothing: `Stream._lose` stops the reading if the connection stays open."""
        stream._reading = False

    def removeWriter(self, stream: Any) -> None:  # noqa: N802
        """Stop writing to the connection."""
        stream.stopWriting()


disconnect: Any = Disconnecting()._disconnectSelectable
"""A function that ends a connection: it takes the connection, the reason, and whether reading found the end."""
