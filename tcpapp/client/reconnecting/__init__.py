"""
The reconnecting client: it connects again when its connection is lost, loses no message silently, and shows its state.

::

    client        `Client`, a service that keeps a connection open
    connector     connecting and reconnecting
    delivery      sending, and the result of each message when a connection is lost
    send_queue    messages that wait for a connection, and messages that can be lost with one
    backoff       the next endpoint, and the wait before it
    fatal_errors  the errors that end a client
    states        the states of a client, and their watchers
    retry_budget  how many requests can be sent again
"""

from __future__ import annotations

from tcpapp.client.reconnecting.client import Client
from tcpapp.client.reconnecting.states import Connected, Connecting, Stopped, Waiting

__all__ = ["Client", "Connected", "Connecting", "Stopped", "Waiting"]
