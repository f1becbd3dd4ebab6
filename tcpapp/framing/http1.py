"""HTTP/1.1: requests and responses with their bodies."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from tcpapp.framing.http_asked import Asked, asking
from tcpapp.framing.http_reading import read_message
from tcpapp.framing.http_values import Request, Response
from tcpapp.framing.http_writing import write_message
from tcpapp.framing.parsers import parser

__all__ = ["Request", "Response", "http1"]


@asking(read_message)
@parser(frame=write_message)
def http1(
    *, side: Literal["server", "client"] = "server", bodies: Literal["whole", "stream"] = "whole"
) -> Generator[Any, Any, Any]:
    """
    HTTP/1.1 and 1.0::

        'GET / HTTP/1.1', 'Host: a', ''  →  Request("GET", "/", (("Host", "a"),)), in a server
        'HTTP/1.1 204 No Content', ''    →  Response(204, "No Content"), in a client

    - `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends. A client knows what it asked,
      and so reads the response to HEAD without a body.
    - `bodies`: with ``"whole"``, a message comes when its body has come, and ``max`` bounds both. With ``"stream"``, it
      comes when its head has come, and its `body` is a `Body`. It can have any length, or end with the connection.

    A head has at most 32 KiB, and 100 fields.

    Errors: `MalformedFrame` for what two readers could read as different messages (RFC 9112, sections 5, 6 and 11).
    These are a length and chunks, several lengths, another coding than chunked, a folded field, a space before a colon,
    a line that ends with LF alone, no Host or two. Source: RFC 9110 and 9112.
    """
    return (yield from read_message(side, bodies, Asked()))
