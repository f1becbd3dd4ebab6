"""The protocol of NATS."""

from __future__ import annotations

from typing import Literal

from tcpapp.framing.nats_lines import FROM_CLIENTS, FROM_SERVERS, NatsMessage, read_line, write
from tcpapp.framing.parsers import parser
from tcpapp.framing.reader import Parse

__all__ = ["NatsMessage", "nats"]

CONTROL_LINE = 4096
"""The most bytes of a client's line: the default of nats-server (``max_control_line``)."""

INFO_LINE = 32 * 1024
"""The most bytes of a server's line: an ``INFO`` of a large cluster. The same as in nats.go (``defaultBufSize``)."""


@parser(frame=write)
def nats(*, side: Literal["server", "client"] = "server") -> Parse:
    """
    The protocol of NATS::

        'PUB greet reply 5', 'hello'  →  NatsMessage((b"PUB", b"greet", b"reply"), b"hello")

    A server receives what clients send, from ``CONNECT`` to ``UNSUB``; a client what servers send, from ``INFO`` to
    ``-ERR``. The lengths of headers and payload are left out of the words. A verb is accepted in any case, and received
    in capitals. `frame` takes the messages of both sides.

    `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends. ``max`` bounds a whole message,
    with its line.

    Lines end with CR LF; an LF alone ends them, too, as in nats-server. Errors: `MalformedFrame` for another verb, for
    too few or too many words, for control characters, for lengths that do not fit each other, and if no CR LF is behind
    a payload. Source: "Client Protocol" of the NATS documentation (docs.nats.io), and nats-server 2.9.
    """
    forms, longest = (FROM_CLIENTS, CONTROL_LINE) if side == "server" else (FROM_SERVERS, INFO_LINE)
    return (yield from read_line(forms, longest))
