"""
tcpapp: the toolkit for TCP message services in Python, on Twisted.

Write one function. Run it with twistd. Test it without a network. Deploy it without losing a message.

The tower; a file imports only from rows below its own::

    plugin              4  twistd tcpapp: command line → service
      process, systemd  4  the service as a process: signals, reloading, its manager
      lag               4  whether the loop goes round, and where it stands when not
      log_stream        4  a log that nobody reads holds nobody up
      lost_lines        4  lines that the log could not take
      configuration     4  options file, environment and command line, checked as a whole
    service             3  listening services: start, drain, stop, start again
    listening           2  listen(): ports, and what is done with them
    server              2  MessageServerFactory: who is connected, how many may be
    client              2  MessageClientFactory, connect()
    aio, blocking       2  the same for asyncio's programs, and for those without a loop
    pool                2  Pool: several connections, used as one
    recovering          2  Client: a connection that comes back
    connection          1  MessageProtocol: one conversation, OPEN → CLOSING → CLOSED
      link              1  its other side: what the transport and the parts call
      arrival           1  bytes → messages, and what is noted of every chunk
      dispatch, holds   1  messages → app → replies, one at a time; what holds that back
      reading           1  whether anything is read, and why not
      intake, turns     1  how much of what came is let in at once, and how fast
      inbox, outbox     1  what waits on either side, with marks and bounds
      memory, load      1  how much all connections together may hold, and one of them does
      requests, ending  1  replies that are waited for; how a connection ends
      deadlines         1  every wait of a connection, on one timer
      keepalive         1  TCP's own watch over a peer that may have vanished
      settings, app     1  what the connections of a factory share; the three forms of app
      unlogged          1  the end of a connection is no unhandled error in the log
      info, traffic     1  what is to be known of a server that serves; how much comes in
      telemetry         1  what happened, told to whoever listens
      log_lines         1  what a line shows of an exception; how many lines there are of a kind
      alarm             1  a limit that is near
      admission, doors  1  who is taken in, and how fast; ports that are shut for a while
      accepting         1  the accept loop of a port: whose trouble a failed accept is
      limits, addresses 1  every number with its reason; endpoint strings, checked
      networks          1  networks of addresses, and who is in them
      listeners         1  TCP and UNIX ports, and why one cannot be listened on
      adopted           1  sockets that were handed over, as systemd does
      happy_eyeballs    1  connecting to all addresses of a name
      transports        1  what lies below a connection
      handshake         1  the TLS handshakes of a server, one step of one of them in a turn
      upgrade           1  TLS in mid-conversation
      tls               1  TLS: files, contexts, SNI, client certificates; renewed while it serves
      proxied           1  PROXY headers before a connection, in and out
      forks             1  whether a process was forked while its reactor ran
      awaiting          1  what is wrong where asyncio's waits and Twisted's are mixed
    proxy_protocol      0  the header of a connection that a proxy opened ↔ bytes
    framing             0  bytes ↔ messages. No Twisted, no clock, no log
    codecs              0  message bytes ↔ values: text, JSON, MessagePack
    decoded_size, …     0  what a peer's values may cost: memory; keys (peer_keys, msgpack_keys, value_types)
    spec, close_reason  0  the language of specs; why a connection ended
    pace, hints         0  how fast something may come; what speaks on the other side
    hostnames           0  names of hosts, in the form in which they are compared
    errors              0  every error, one tree
    apps                ∥  the small services that ship with it
    testing             ∥  the test kit
    reactor             ∥  Twisted's connections on uvloop's own transports, for any program
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcpapp import codecs, errors, framing
    from tcpapp.app import Reply, batch, conversation
    from tcpapp.client import MessageClientFactory, connect
    from tcpapp.close_reason import CloseReason, EndedBy
    from tcpapp.connection import MessageProtocol, State
    from tcpapp.limits import Limits, Policies, Recovery, Timeouts
    from tcpapp.listening import Listening, listen
    from tcpapp.pool import Pool
    from tcpapp.recovering import Client
    from tcpapp.server import MessageServerFactory
    from tcpapp.service import MessageService
    from tcpapp.telemetry import Telemetry

__all__ = [
    "Client",
    "CloseReason",
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
    "batch",
    "codecs",
    "connect",
    "conversation",
    "errors",
    "framing",
    "listen",
]

_ROOMS = {
    "Client": "recovering",
    "CloseReason": "close_reason",
    "EndedBy": "close_reason",
    "Limits": "limits",
    "Listening": "listening",
    "MessageClientFactory": "client",
    "MessageProtocol": "connection",
    "MessageServerFactory": "server",
    "MessageService": "service",
    "Policies": "limits",
    "Pool": "pool",
    "Recovery": "limits",
    "Reply": "app",
    "State": "connection",
    "Telemetry": "telemetry",
    "Timeouts": "limits",
    "batch": "app",
    "codecs": "codecs",
    "connect": "client",
    "conversation": "app",
    "errors": "errors",
    "framing": "framing",
    "listen": "listening",
}
"""Where each public name comes from."""

if not TYPE_CHECKING:  # a type checker would take every name for one that is there

    def __getattr__(name: str) -> object:
        """
        Import a public name when it is first used.

        pytest imports this package for its plugin's sake wherever it is installed, and must not load Twisted by it.
        """
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = import_module(f"{__name__}.{_ROOMS[name]}")
        globals()[name] = found = room if name == _ROOMS[name] else getattr(room, name)
        return found

    def __dir__() -> list[str]:
        """All public names, whether they have been used or not."""
        return sorted({*globals(), *__all__})
