"""
tcpapp: the toolkit for TCP message services in Python, on Twisted.

Write one function. Run it with twistd. Test it without a network. Deploy it without losing a message.

The layers. A package imports only from lines below its own. Lines marked ∥ stand beside the layers and use the public
names. Only the lines from layer 6 on import `apps`, and only `cli` imports `testing`::

    cli/             7  (later) the `tcpapp` command
    plugin.py        7  `twistd tcpapp`: command line → service
    process/         6  the service as a process: signals, systemd, the options file, the loop monitor
    sessions/        5  (later) conversations that survive a lost connection
    groups/          4  (later) one message to many connections
    client/          3  MessageClientFactory, connect(), Client, Pool; for asyncio, and for scripts
    server/          3  MessageServerFactory, listen(), the service, accept control
    connection/      2  one conversation: OPEN → CLOSING → CLOSED; apps and the way of a message
    telemetry/       1  events, the log of them, counters and statistics
    transport/       1  what lies below a connection: endpoint strings, TLS, PROXY headers, keepalive
    limits/          1  every number with its reason, and what enforces it: rates, memory, networks
    proxy_protocol/  0  PROXY header ↔ bytes
    codecs/          0  message bytes ↔ values: text, JSON, MessagePack
    framing/         0  bytes ↔ messages. No Twisted, no clock, no log
    errors.py        0  every error, one tree
    close_reason.py  0  why a connection ended
    target.py        0  things in a user's own module, by their names: ``module:name``
    spec.py          0  the language of specs and endpoint strings
    compiled.py      0  the compiled path of a message: what is compiled, and whether it is used
    apps/            ∥  the small services that ship with it
    testing/         ∥  the test kit
    reactor/         ∥  Twisted's connections on uvloop's transports, for any program
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tcpapp.compiled import use

if TYPE_CHECKING:
    from tcpapp import codecs, errors, framing
    from tcpapp.client import aio, blocking
    from tcpapp.client.connect import connect
    from tcpapp.client.factory import MessageClientFactory
    from tcpapp.client.pool import Pool
    from tcpapp.client.reconnecting import Client
    from tcpapp.close_reason import CloseReason, EndedBy
    from tcpapp.connection.app import batch, conversation
    from tcpapp.connection.connection import Connection, State
    from tcpapp.connection.fan_out import send_to_all
    from tcpapp.connection.handlers import Reply
    from tcpapp.connection.protocol import MessageProtocol, protocol_of
    from tcpapp.limits import Limits, Policies, Recovery, Timeouts
    from tcpapp.server.factory import MessageServerFactory
    from tcpapp.server.listener import Listening, listen
    from tcpapp.server.service import MessageService
    from tcpapp.telemetry import Telemetry

__all__ = [
    "Client",
    "CloseReason",
    "Connection",
    "EndedBy",
    "Limits",
    "Listening",
    "MessageClientFactory",
    "MessageProtocol",
    "MessageServerFactory",
    "MessageService",
    "Policies",
    "Pool",
    "Recovery",
    "Reply",
    "State",
    "Telemetry",
    "Timeouts",
    "aio",
    "batch",
    "blocking",
    "codecs",
    "connect",
    "conversation",
    "errors",
    "framing",
    "listen",
    "protocol_of",
    "send_to_all",
]

accelerated: bool = use()
"""Whether the path of a message is compiled. Otherwise it runs from its Python sources, which is slower."""

_HOMES = {
    "Client": "client.reconnecting",
    "CloseReason": "close_reason",
    "Connection": "connection.connection",
    "EndedBy": "close_reason",
    "Limits": "limits",
    "Listening": "server.listener",
    "MessageClientFactory": "client.factory",
    "MessageProtocol": "connection.protocol",
    "MessageServerFactory": "server.factory",
    "MessageService": "server.service",
    "Policies": "limits",
    "Pool": "client.pool",
    "Recovery": "limits",
    "Reply": "connection.handlers",
    "State": "connection.connection",
    "Telemetry": "telemetry",
    "Timeouts": "limits",
    "aio": "client.aio",
    "batch": "connection.app",
    "blocking": "client.blocking",
    "codecs": "codecs",
    "connect": "client.connect",
    "conversation": "connection.app",
    "errors": "errors",
    "framing": "framing",
    "listen": "server.listener",
    "protocol_of": "connection.protocol",
    "send_to_all": "connection.fan_out",
}
"""The module of each public name. For a name that is a module itself: that module."""

_MODULES = {"aio", "blocking", "codecs", "errors", "framing"}
"""The public names that are modules themselves."""

if not TYPE_CHECKING:  # a type checker would accept every name

    def __getattr__(name: str) -> object:
        """
        Import a public name when it is first used.

        pytest imports this package in every environment where it is installed, to find its plugin. That import must not
        load Twisted.
        """
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f"{__name__}.{_HOMES[name]}")
        globals()[name] = found = home if name in _MODULES else getattr(home, name)
        return found

    def __dir__() -> list[str]:
        """Return all public names, used or not."""
        return sorted({*globals(), *__all__})
