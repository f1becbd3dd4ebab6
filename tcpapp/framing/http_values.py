"""The messages of HTTP/1.1, as an app has them."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Header", "Request", "Response", "values_of"]

Header = tuple[str, str]
"""The name and the value of a header field, in Latin-1: each character is a byte of the wire."""


class Request(NamedTuple):
    """
    A request: its `body` is whole, whether a length was given or it came in chunks. It is bytes, or with
    ``http1(bodies="stream")`` a `tcpapp.framing.Body`.

    `trailers` are fields that came behind the chunks. They are no headers: do not trust them as headers.
    """

    method: str
    target: str
    headers: tuple[Header, ...] = ()
    body: Any = b""
    version: str = "HTTP/1.1"
    trailers: tuple[Header, ...] = ()

    def header(self, name: str) -> str:
        """Return the values of the headers of this `name`, joined by a comma; an empty string if there are none."""
        return ", ".join(values_of(self.headers, name))

    @property
    def keeps_alive(self) -> bool:
        """Whether another request can come on this connection (RFC 9112, section 9.3)."""
        return _keeps_alive(self.version, self.header("connection"))


class Response(NamedTuple):
    """A response: a `status` such as 200, a `reason` such as ``"OK"``, and the other parts as in a `Request`."""

    status: int
    reason: str = ""
    headers: tuple[Header, ...] = ()
    body: Any = b""
    version: str = "HTTP/1.1"
    trailers: tuple[Header, ...] = ()

    def header(self, name: str) -> str:
        """Return the values of the headers of this `name`, joined by a comma; an empty string if there are none."""
        return ", ".join(values_of(self.headers, name))

    @property
    def keeps_alive(self) -> bool:
        """Whether another response can come on this connection (RFC 9112, section 9.3)."""
        return _keeps_alive(self.version, self.header("connection"))

    def answering(self, request: Request) -> Response:
        """
        Return this response as the reply to `request`.

        HEAD gets the length of the body in place of the body. A ``Connection`` header says whether the connection goes
        on, where the client could expect something else.
        """
        headers, body, trailers = list(self.headers), self.body, self.trailers
        if request.method == "HEAD" and body:
            headers = [each for each in headers if each[0].lower() not in ("content-length", "transfer-encoding")]
            headers.append(("Content-Length", str(len(body))))
            body, trailers = b"", ()
        if not request.keeps_alive:
            headers.append(("Connection", "close"))
        elif request.version == "HTTP/1.0":
            headers.append(("Connection", "keep-alive"))
        return self._replace(headers=tuple(headers), body=body, trailers=trailers)


def values_of(headers: tuple[Header, ...], name: str) -> list[str]:
    """Return the values of the `headers` of this `name`, in any case of its letters."""
    size, name = len(name), name.lower()
    return [value for each, value in headers if len(each) == size and each.lower() == name]  # few need the letters


def _keeps_alive(version: str, connection: str) -> bool:
    options = {each.strip(" \t") for each in connection.lower().split(",")}
    return "close" not in options and (version != "HTTP/1.0" or "keep-alive" in options)
