"""
The reconnecting client: it connects again when its connection is lost, loses nothing silently, and shows its state.

::

    client        the Client: a service with a connection, or on its way to one
    connector     attempts to connect, the first time and again
    delivery      sending, and the result of each message if a connection is lost
    send_queue    messages that wait for a connection, and messages that can be lost with one
    backoff       where to connect to next, and how long to wait before
    fatal_errors  which errors end a client, and after which it tries again
    states        what it is doing, for watchers
    retry_budget  how many requests can be sent again
"""

from __future__ import annotations

from tcpapp.client.reconnecting.client import Client
from tcpapp.client.reconnecting.states import Connected, Connecting, Stopped, Waiting

__all__ = ["Client", "Connected", "Connecting", "Stopped", "Waiting"]
