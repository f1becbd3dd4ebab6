"""Messages of HTTP/1.1 as bytes: none that another reader could take for another message, or for two."""

from __future__ import annotations

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.http_bodies import CHUNKED, has_body, length_of
from tcpapp.framing.http_heads import write_head, write_headers
from tcpapp.framing.http_values import Request, Response

__all__ = ["write_message"]


def write_message(message: Request | Response) -> bytes:
    """Return the bytes of `message`. Raises `UnsendableMessage`."""
    if not isinstance(message, Request | Response):
        raise UnsendableMessage(f"{message!r:.80}: takes a Request or a Response")
    try:
        length = length_of(message)
    except MalformedFrame as error:
        raise UnsendableMessage(f"{error}") from error
    if isinstance(message, Response) and not has_body(message.status, ""):
        return _without_body(message, length)
    if length == CHUNKED:
        return write_head(message) + _chunked(message)
    return _with_length(message, length)


def _without_body(response: Response, length: int | None) -> bytes:
    """Return a response that has no body. Only 304 says the length of the body that it stands for."""
    if response.body or response.trailers or (length is not None and response.status != 304):
        raise UnsendableMessage(f"a body, or its length, in a response of status {response.status}: takes none")
    return write_head(response)


def _chunked(message: Request | Response) -> bytes:
    body = message.body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk + b"0\r\n" + write_headers(message.trailers)


def _with_length(message: Request | Response, length: int | None) -> bytes:
    """
    Return a message with a Content-Length, which is added where there is none: not to a request without a body.

    A response without a body can have the length of a body: the response to HEAD says what GET would give.
    """
    body: bytes = message.body
    if message.trailers:
        raise UnsendableMessage("trailers: take a Transfer-Encoding of chunked, or there is no place for them")
    if length is None and (body or isinstance(message, Response)):
        added = (*message.headers, ("Content-Length", str(len(body))))
        return write_head(message._replace(headers=added)) + body
    if length not in (None, len(body)) and (body or isinstance(message, Request)):
        raise UnsendableMessage(f"Content-Length is {length}, and the body has {len(body)} bytes")
    return write_head(message) + body
