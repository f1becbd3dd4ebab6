"""Sending straight to the socket of a transport. It saves the reactor's work of watching the socket for each write."""

from __future__ import annotations

from functools import lru_cache
from socket import socket
from typing import Any

from twisted.internet import tcp

__all__ = ["has_socket", "send_now"]


def has_socket(transport: Any) -> bool:
    """
    Return whether `send_now` can send over `transport`: over TCP without TLS and without layers, and a real socket.

    A test's transport has no such socket.
    """
    kind: Any = type(transport)
    return _is_tcp(kind) and isinstance(getattr(transport, "socket", None), socket) and not transport.TLS


def send_now(transport: Any, data: bytes) -> int:
    """
    Send `data` over a transport of any kind if it `has_socket`. Returns how many bytes the system took.

    Returns 0 where it takes none now: the transport holds earlier bytes, is closing, or its socket is full or lost.
    Write the rest to the transport then: it waits for the socket, and finds out about the loss.
    """
    if not has_socket(transport) or transport.dataBuffer or transport._tempDataLen:
        return 0
    if not transport.connected or transport.disconnecting or transport._writeDisconnecting:
        return 0
    if getattr(transport, "_blocked", False):  # our reactor's transport: uvloop holds earlier bytes
        return 0
    try:
        sent: int = transport.socket.send(data)
    except OSError:
        return 0
    return sent


@lru_cache(maxsize=64)
def _is_tcp(kind: Any) -> bool:
    """Return whether transports of this class write to their sockets as TCP transports do: UNIX sockets do not."""
    return issubclass(kind, tcp.Connection) and bool(kind.writeSomeData is tcp.Connection.writeSomeData)
