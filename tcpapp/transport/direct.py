"""Sending on the socket of a transport, and closing it, at once. It saves the reactor's work of watching the socket."""

from __future__ import annotations

from functools import lru_cache
from socket import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import connectionDone

__all__ = ["end_now", "has_socket", "send_now", "writes_later"]


def has_socket(transport: Any) -> bool:
    """
    Return whether `send_now` can send over `transport`: over TCP without TLS and without layers, and a real socket.

    A test's transport has no such socket.
    """
    kind: Any = type(transport)
    return _is_tcp(kind) and isinstance(getattr(transport, "socket", None), socket) and not transport.TLS


def writes_later(transport: Any) -> bool:
    """
    Return whether a `transport` that `has_socket` sends in the next turn only. Our reactor's sends in this turn.
    """
    return not hasattr(transport, "_blocked")


def send_now(transport: Any, data: bytes) -> int:
    """
    Send `data` over a transport of any kind if it `has_socket`. Returns how many bytes the system took.

    Returns 0 where it takes none now: the transport holds earlier bytes, is closing, or its socket is full or lost.
    Write the rest to the transport then: it waits for the socket, and finds out about the loss.
    """
    if not has_socket(transport) or not _has_sent_all(transport):
        return 0
    try:
        sent: int = transport.socket.send(data)
    except OSError:
        return 0
    return sent


def end_now(transport: Any) -> bool:
    """
    End a connection whose peer has closed its side, if the `transport` `has_socket` and has sent all bytes.

    Returns whether it did. A transport that is asked to close does the same in its next turn.
    """
    if not has_socket(transport) or not _has_sent_all(transport):
        return False
    transport.stopReading()
    transport.stopWriting()
    transport.connectionLost(connectionDone)
    return True


def _has_sent_all(transport: Any) -> bool:
    """Return whether `transport`, which `has_socket`, is open and holds no bytes that are not sent."""
    if transport.dataBuffer or transport._tempDataLen or not transport.connected:
        return False
    if transport.disconnecting or transport._writeDisconnecting:
        return False
    return not getattr(transport, "_blocked", False)  # our reactor's transport: uvloop holds earlier bytes


@lru_cache(maxsize=64)
def _is_tcp(kind: Any) -> bool:
    """Return whether transports of this class write to their sockets as TCP transports do: UNIX sockets do not."""
    return issubclass(kind, tcp.Connection) and bool(kind.writeSomeData is tcp.Connection.writeSomeData)
