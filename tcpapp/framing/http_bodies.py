"""The body of an HTTP/1.1 message: whether there is one, its length, its chunks (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from tcpapp.errors import MalformedFrame
from tcpapp.framing.base import quoted
from tcpapp.framing.body import Body
from tcpapp.framing.http_heads import MOST_HEADERS, headers_of
from tcpapp.framing.http_values import Header, Request, Response, values_of
from tcpapp.framing.numerals import decimal, hexadecimal
from tcpapp.framing.streams import piece, stream
from tcpapp.framing.wants import exactly, until
from tcpapp.spec import line_of

__all__ = ["CHUNKED", "has_body", "length_of", "read_body", "stream_body"]

Message = TypeVar("Message", Request, Response)

CHUNKED = -1
"""The length of a body that comes in chunks."""

LONGEST_LINE = 8192
"""The most bytes of the line before a chunk with its extensions, and of a trailer: about Apache's LimitRequestLine."""


def length_of(message: Request | Response) -> int | None:
    """
    Return the length of the body in bytes, `CHUNKED`, or `None` where no header says it (RFC 9112, section 6.3).

    Raises `MalformedFrame` where two readers could disagree on it. One of them would take a part of the body for the
    next message, which is request smuggling.
    """
    codings, lengths = (values_of(message.headers, name) for name in ("transfer-encoding", "content-length"))
    if len(codings) + len(lengths) > 1:
        raise MalformedFrame(f"{[*codings, *lengths]!r:.80}: one header says where a body ends")
    if codings and (codings[0].lower() != "chunked" or message.version == "HTTP/1.0"):
        raise MalformedFrame(f"'{line_of(codings[0])}' as Transfer-Encoding: takes chunked, in HTTP/1.1")
    return CHUNKED if codings else decimal(lengths[0].encode("latin-1")) if lengths else None


def has_body(status: int, method: str) -> bool:
    """Tell whether a response with this `status`, to a request of this `method`, has a body."""
    return not (status < 200 or status in (204, 304) or method == "HEAD" or (method == "CONNECT" and status < 300))


def read_body(message: Message, length: int) -> Generator[Any, Any, Message]:
    """Read the body of `message`, which has this `length`. Returns `message` with it."""
    if length != CHUNKED:
        return message._replace(body=(yield exactly(length))) if length else message
    body = bytearray()
    while size := (yield from _size()):
        body += yield exactly(size)
        yield from _end_of_chunk()
    return message._replace(body=bytes(body), trailers=(yield from _trailers()))


def stream_body(message: Message, length: int | None) -> Generator[Any, Any, Message]:
    """Return `message` with a `Body`, which is read as it comes: of this `length`, or to the end of the stream."""
    if length == 0:
        return message._replace(body=Body.of(b""))
    return message._replace(body=(yield stream(_pieces() if length == CHUNKED else length)))


def _pieces() -> Generator[Any, Any, None]:
    """Pass on a body in chunks. Its trailers are dropped."""
    while size := (yield from _size()):
        yield piece(size)
        yield from _end_of_chunk()
    yield from _trailers()


def _size() -> Generator[Any, Any, int]:
    """Read the line before a chunk. Its extensions are dropped."""
    return hexadecimal((yield from _line()).partition(b";")[0])


def _end_of_chunk() -> Generator[Any, Any, None]:
    if (end := (yield exactly(2))) != b"\r\n":
        raise MalformedFrame(f"{quoted(end)} behind a chunk: takes CR LF")


def _trailers() -> Generator[Any, Any, tuple[Header, ...]]:
    lines: list[str] = []
    while (line := (yield from _line())) and len(lines) <= MOST_HEADERS:
        lines.append(line.decode("latin-1"))
    return headers_of(lines)


def _line() -> Generator[Any, Any, bytes]:
    line: bytes = yield until(b"\n", max=LONGEST_LINE)
    if line.find(b"\r") != len(line) - 1:
        raise MalformedFrame(f"{quoted(line)}: a line ends with CR LF, and has no other CR")
    return line[:-1]
