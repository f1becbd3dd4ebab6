"""
TCP keepalive and TCP's user timeout, by which the system detects a vanished peer.

A peer whose machine lost its power or its link sends nothing any more, and causes no error. On a quiet connection, TCP
keepalive asks the peer's system from time to time whether it is still there (RFC 1122, section 4.2.3.6). While data is
unacknowledged, the user timeout bounds the wait (RFC 5482). The kernel does both, without work for an app.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from math import ceil
from typing import Any

from tcpapp.limits import Limits, Timeouts
from tcpapp.transport.layers import bottom_of

__all__ = ["numbers", "switch_on"]


def switch_on(transport: Any, limits: Limits, timeouts: Timeouts) -> None:
    """
    Set the system's options of `transport` to the ``keepalive…`` and ``user_timeout`` numbers.

    Does nothing for transports other than TCP, nor for a number that this system does not support.
    """
    transport = bottom_of(transport)
    if timeouts.keepalive and hasattr(transport, "setTcpKeepAlive"):
        transport.setTcpKeepAlive(True)
    tcp: Any = getattr(transport, "socket", None)
    if getattr(tcp, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in numbers(limits, timeouts):
        if value and hasattr(socket, name):
            with suppress(OSError):  # the peer is gone already, and its end is reported later
                tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def numbers(limits: Limits, timeouts: Timeouts) -> list[tuple[str, int]]:
    """Return the options of tcp(7) and their values: in whole seconds, the last one in milliseconds."""
    interval, count = (ceil(timeouts.keepalive_interval), limits.keepalive_count) if timeouts.keepalive else (0, 0)
    return [
        ("TCP_KEEPIDLE", ceil(timeouts.keepalive)),
        ("TCP_KEEPALIVE", ceil(timeouts.keepalive)),  # the name in macOS
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", count),
        ("TCP_USER_TIMEOUT", ceil(timeouts.user_timeout * 1000)),
    ]
