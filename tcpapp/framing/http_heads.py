"""The head of an HTTP/1.1 message, read and written: a start line and header fields (RFC 9112, sections 2 to 5)."""

from __future__ import annotations

import re

from tcpapp.errors import MalformedFrame, UnsendableMessage
from tcpapp.framing.http_values import Header, Request, Response, values_of
from tcpapp.spec import line_of

__all__ = ["MOST_HEADERS", "headers_of", "request_of", "response_of", "write_head", "write_headers"]

MOST_HEADERS = 100
"""The most header fields of a message, as in Apache and in Python's http.client."""

WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TEXT = r"[\t\x20-\x7e\x80-\xff]*"
FIELD = re.compile(f"({WORD}):({TEXT})")
REQUEST_LINE = re.compile(rf"({WORD}) ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])")
STATUS_LINE = re.compile(rf"(HTTP/1\.[01]) ([1-5][0-9][0-9])(?: ({TEXT}))?")


def request_of(head: str) -> Request:
    """Return the request of this head, without a body. Raises `MalformedFrame`."""
    start_line, *fields = head.split("\r\n")
    words = REQUEST_LINE.fullmatch(start_line)
    if words is None:
        raise MalformedFrame(f"'{line_of(start_line)}': a request begins with a method, a target, and HTTP/1.1 or 1.0")
    request = Request(words[1], words[2], headers_of(fields), version=words[3])
    if not _has_a_host(request):
        raise MalformedFrame("a request of HTTP/1.1 has one Host header, and one of 1.0 at most one")
    return request


def _has_a_host(request: Request) -> bool:
    hosts = len(values_of(request.headers, "host"))
    return hosts == 1 or (hosts == 0 and request.version == "HTTP/1.0")


def response_of(head: str) -> Response:
    """Return the response of this head, without a body. Raises `MalformedFrame`."""
    start_line, *fields = head.split("\r\n")
    words = STATUS_LINE.fullmatch(start_line)
    if words is None:
        raise MalformedFrame(f"'{line_of(start_line)}': a response begins with HTTP/1.1 or 1.0, and a status")
    return Response(int(words[2]), words[3] or "", headers_of(fields), version=words[1])


def headers_of(lines: list[str]) -> tuple[Header, ...]:
    """Return the fields in `lines`. Raises `MalformedFrame`, also for a folded line, or a space before a colon."""
    if len(lines) > MOST_HEADERS:
        raise MalformedFrame(f"{len(lines)} header fields", value=len(lines), limit=MOST_HEADERS)
    found = []
    for line in lines:
        field = FIELD.fullmatch(line)
        if field is None:
            raise MalformedFrame(f"'{line_of(line)}': a header field is a name, a colon at once, and text in one line")
        found.append((field[1], field[2].strip("\t ")))
    return tuple(found)


def write_head(message: Request | Response) -> bytes:
    """Return the head of `message`, with the empty line behind it. Raises `UnsendableMessage`."""
    if isinstance(message, Request):
        start_line, pattern = f"{message.method} {message.target} {message.version}", REQUEST_LINE
    else:
        start_line, pattern = f"{message.version} {message.status} {message.reason}", STATUS_LINE
    if not pattern.fullmatch(start_line):
        raise UnsendableMessage(f"'{line_of(start_line)}': no start line of HTTP/1.1 or 1.0")
    if isinstance(message, Request) and not _has_a_host(message):
        raise UnsendableMessage("a request of HTTP/1.1 has one Host header, and one of 1.0 at most one")
    return f"{start_line}\r\n".encode("latin-1") + write_headers(message.headers)


def write_headers(headers: tuple[Header, ...]) -> bytes:
    """Return the lines of `headers`, and the empty line behind them. Raises `UnsendableMessage`."""
    if len(headers) > MOST_HEADERS:
        raise UnsendableMessage(f"{len(headers)} header fields; at most {MOST_HEADERS} are sent")
    for name, value in headers:
        found = FIELD.fullmatch(name + ":" + value)
        if found is None or found[1] != name:
            raise UnsendableMessage(f"'{line_of(f'{name}: {value}')}': no header field of HTTP/1.1")
    return "".join([*(f"{name}: {value}\r\n" for name, value in headers), "\r\n"]).encode("latin-1")
