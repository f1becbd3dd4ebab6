"""
Options of sockets that are set once, on a listening socket, and that the kernel copies to each connection.

Linux copies them when a connection is established, which is before it is accepted. So the connections that wait in the
backlog while the options are set can lack them. The options count as inherited once the backlog was seen empty.

Only TCP ports that this process opened have such options. A socket that another program handed over stays as it is,
because another process can listen with it, too.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from tcpapp.limits import Limits, Timeouts
from tcpapp.transport.keepalive import numbers
from tcpapp.transport.layers import bottom_of

__all__ = ["has_inherited", "set_for_clients"]

COPIES = sys.platform.startswith("linux")
"""Whether the system copies the options: tcp(7) of Linux does not say so, but `tests/integration` checks it."""


def set_for_clients(port: Any, limits: Limits, timeouts: Timeouts, *, no_delay: bool) -> bool:
    """
    Set the options on the socket of a listening `port`. Returns whether its later connections inherit them.

    They are TCP_NODELAY, if `no_delay` says so, keepalive, and the numbers of both timeouts.
    """
    listening: Any = getattr(port, "socket", None)
    family = getattr(listening, "family", None)
    if not COPIES or family not in (socket.AF_INET, socket.AF_INET6) or not getattr(port, "_shouldShutdown", False):
        return False
    given = dict(numbers(limits, timeouts))
    try:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(timeouts.keepalive))
        for name, value in given.items():
            if hasattr(socket, name) and (value or name == "TCP_USER_TIMEOUT"):
                listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError:  # the port is closed, or the kernel lacks an option: each connection tries by itself
        return False
    return True


def has_inherited(transport: Any) -> bool:
    """Return whether the socket of a `transport` has the options already, from the port that accepted it."""
    return getattr(getattr(bottom_of(transport), "server", None), "passes_options_on", False)
