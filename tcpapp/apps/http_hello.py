"""
Answer requests of HTTP/1.1: a greeting to GET and HEAD, and to POST and PUT the body that came.

It shows an app whose messages are values: ``request`` has a method, a target, headers and a body. Serve it with
``--framing http1``, and ask it with ``curl``.
"""

from __future__ import annotations

from tcpapp.connection.connection import Connection
from tcpapp.framing.http1 import Request, Response

__all__ = ["http_hello"]

PLAIN = ("Content-Type", "text/plain; charset=utf-8")


def http_hello(request: Request, connection: Connection) -> Response:
    """Reply to `request`, and close the connection where no other request can come."""
    if not request.keeps_alive:
        connection.close()
    return response_to(request).answering(request)


def response_to(request: Request) -> Response:
    """Return the response to `request`, as if it were a GET that keeps the connection open."""
    if request.method in ("GET", "HEAD"):
        return Response(200, "OK", (PLAIN,), b"Hello\n")
    if request.method in ("POST", "PUT"):
        kind = request.header("content-type") or "application/octet-stream"
        return Response(200, "OK", (("Content-Type", kind),), request.body)
    return Response(405, "Method Not Allowed", (("Allow", "GET, HEAD, POST, PUT"), PLAIN), b"GET, HEAD, POST or PUT\n")
