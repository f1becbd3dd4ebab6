"""sendfile: the kernel sends a part of a file over a socket, and none of its bytes come into the process."""

from __future__ import annotations

import os
import sys
from socket import socket
from typing import Any, Final

from twisted.internet import tcp

from tcpapp.transport.layers import bottom_of, tls_layer
from tcpapp.transport.unsent import holds_bytes

__all__ = ["MOST_AT_ONCE", "carries_files", "send_file"]

MOST_AT_ONCE: Final = 256 * 1024
"""The most bytes of one call: our choice; the kernel copies them in about as long as a turn of a connection lasts."""

HAS_SENDFILE: Final = sys.platform == "linux"
"""Other systems have a sendfile with other arguments, or none for files of each kind."""


def carries_files(transport: Any) -> bool:
    """
    Return whether the kernel can send a file over `transport`: over TCP and UNIX sockets without TLS, on Linux.

    A transport of another kind, such as a test's, has no socket of its own.
    """
    bottom = bottom_of(transport)
    has_socket = isinstance(bottom, tcp.Connection) and isinstance(getattr(bottom, "socket", None), socket)
    return HAS_SENDFILE and has_socket and tls_layer(transport) is None


def send_file(transport: Any, file: int, offset: int, size: int) -> int:
    """
    Send up to `size` bytes of the descriptor `file` from `offset`, over a transport that `carries_files`. Returns how
    many bytes the kernel took.

    Returns 0 where the kernel takes none now: the transport holds earlier bytes, its socket is full or lost, the file
    has ended or cannot be sent in this way. Write the next bytes to the transport then: it waits for the socket, and
    finds out about the loss.
    """
    bottom = bottom_of(transport)
    if holds_bytes(bottom):
        return 0
    try:
        return os.sendfile(bottom.socket.fileno(), file, offset, min(size, MOST_AT_ONCE))
    except OSError:
        return 0
