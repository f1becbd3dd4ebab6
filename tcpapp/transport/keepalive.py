"""
TCP keepalive, and TCP's own patience: how a peer that vanished without a word is found out.

A peer whose machine lost its power, or its link, sends nothing ever again, and no error comes of it. On a quiet
connection TCP then asks the peer's system now and again whether it is still there (RFC 1122, section 4.2.3.6); where
data is under way, it waits for it to be acknowledged (RFC 5482). The kernel does both, and no app need know of it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from math import ceil
from typing import Any

from tcpapp.limits import Limits, Timeouts
from tcpapp.transport.layers import bottom_of

__all__ = ["switch_on"]


def switch_on(transport: Any, limits: Limits, timeouts: Timeouts) -> None:
    """
    Have the system watch over `transport`, as the ``keepalive…`` and ``user_timeout`` numbers say.

    Nothing is done for what is no TCP, nor for a number that this system does not know.
    """
    transport = bottom_of(transport)
    if timeouts.keepalive and hasattr(transport, "setTcpKeepAlive"):
        transport.setTcpKeepAlive(True)
    tcp: Any = getattr(transport, "socket", None)
    if getattr(tcp, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in _numbers(limits, timeouts):
        if value and hasattr(socket, name):
            with suppress(OSError):  # the peer is gone already: that will be told
                tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _numbers(limits: Limits, timeouts: Timeouts) -> list[tuple[str, int]]:
    """The options of tcp(7) and their values: whole seconds, but for the last, which has milliseconds."""
    interval, count = (ceil(timeouts.keepalive_interval), limits.keepalive_count) if timeouts.keepalive else (0, 0)
    return [
        ("TCP_KEEPIDLE", ceil(timeouts.keepalive)),
        ("TCP_KEEPALIVE", ceil(timeouts.keepalive)),  # what macOS calls it
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", count),
        ("TCP_USER_TIMEOUT", ceil(timeouts.user_timeout * 1000)),
    ]
