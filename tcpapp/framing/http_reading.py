"""Reads a message of HTTP/1.1: its head, and then its body, whole or as a stream."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from tcpapp.errors import MalformedFrame
from tcpapp.framing.http_asked import Asked
from tcpapp.framing.http_bodies import has_body, length_of, read_body, stream_body
from tcpapp.framing.http_heads import request_of, response_of
from tcpapp.framing.wants import until_any

__all__ = ["read_message"]

HEAD = until_any([b"\r\n\r\n", b"\n\n"], max=32_768)
"""A head has at most 32 KiB, as in nginx (``large_client_header_buffers``)."""


def read_message(side: str, bodies: str, asked: Asked) -> Generator[Any, Any, Any]:
    """Read a request or a response. `asked` forgets the request that the response is for."""
    head, end = yield HEAD
    if end == b"\n\n":
        raise MalformedFrame("a line of a head ends with LF: takes CR LF")
    text = head.removeprefix(b"\r\n").decode("latin-1")
    if side == "server":
        request = request_of(text)
        return (yield from _with_body(request, length_of(request) or 0, bodies))
    response = response_of(text)
    length = length_of(response) if has_body(response.status, asked.method) else 0
    response = yield from _with_body(response, length, bodies)
    if response.status >= 200:
        asked.answered()
    return response


def _with_body(message: Any, length: int | None, bodies: str) -> Generator[Any, Any, Any]:
    if bodies == "stream":
        return (yield from stream_body(message, length))
    if length is None:
        raise MalformedFrame("a body that ends with the connection: takes a Content-Length, or bodies=stream")
    return (yield from read_body(message, length))
