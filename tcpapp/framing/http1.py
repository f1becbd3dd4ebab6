"""HTTP/1.1: requests and responses with their bodies."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Literal

from tcpapp.errors import MalformedFrame
from tcpapp.framing.http_asked import Asked, asking
from tcpapp.framing.http_bodies import has_body, length_of, read_body
from tcpapp.framing.http_heads import request_of, response_of
from tcpapp.framing.http_values import Request, Response
from tcpapp.framing.http_writing import write_message
from tcpapp.framing.parsers import parser
from tcpapp.framing.wants import until_any

__all__ = ["Request", "Response", "http1"]

HEAD = until_any([b"\r\n\r\n", b"\n\n"], max=32_768)
"""A head has at most 32 KiB, as in nginx (``large_client_header_buffers``)."""


def _read(side: str, asked: Asked) -> Generator[Any, Any, Request | Response]:
    head, end = yield HEAD
    if end == b"\n\n":
        raise MalformedFrame("a line of a head ends with LF: takes CR LF")
    text = head.removeprefix(b"\r\n").decode("latin-1")
    if side == "server":
        request = request_of(text)
        return (yield from read_body(request, length_of(request) or 0))
    response = response_of(text)
    length = length_of(response) if has_body(response.status, asked.method) else 0
    if length is None:
        raise MalformedFrame("a response whose body ends with the connection: takes a Content-Length")
    response = yield from read_body(response, length)
    if response.status >= 200:
        asked.answered()
    return response


@asking(_read)
@parser(frame=write_message)
def http1(*, side: Literal["server", "client"] = "server") -> Generator[Any, Any, Request | Response]:
    """
    HTTP/1.1 and 1.0::

        'GET / HTTP/1.1', 'Host: a', ''  →  Request("GET", "/", (("Host", "a"),)), in a server
        'HTTP/1.1 204 No Content', ''    →  Response(204, "No Content"), in a client

    `side`: ``"server"`` receives what a client sends, ``"client"`` what a server sends. ``max`` bounds a whole message.
    A client reads the response to HEAD without a body, as it knows what it asked.

    Errors: `MalformedFrame` for what two readers could read as different messages (RFC 9112, sections 5, 6 and 11).
    """
    return (yield from _read(side, Asked()))
