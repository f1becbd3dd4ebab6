"""
A client that recovers: it comes back when its connection is lost, loses nothing silently, and says what it is doing.

::

    client        the Client: a service with a connection, or on its way to one
    connector     how it comes to a connection, and to the next one
    delivery      what it sends, and what becomes of that where a connection is lost
    send_queue    what is to be sent: what waits for a connection, and what was given to one and may be lost with it
    backoff       where to connect to next, and how long to wait before
    fatal_errors  which errors end a client, and which are tried again
    states        what it is doing, told to whoever watches
    retry_budget  how many requests may be sent again
"""

from __future__ import annotations

from tcpapp.client.reconnecting.client import Client
from tcpapp.client.reconnecting.states import Connected, Connecting, Stopped, Waiting

__all__ = ["Client", "Connected", "Connecting", "Stopped", "Waiting"]
