"""
A proxy by HTTP CONNECT (RFC 9110, section 9.3.6).

It shows how a connection stops speaking HTTP. Serve an instance with the targets that it allows, with
``--framing http1``.
"""

from __future__ import annotations

from typing import Any

from tcpapp.apps.relay import Proxy
from tcpapp.connection.connection import Connection
from tcpapp.framing.http1 import Request, Response

__all__ = ["ConnectProxy"]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
"""A response to CONNECT has no length: all that comes behind its head is from the target."""


class ConnectProxy(Proxy):
    """The proxy. It refuses all other methods."""

    async def received(self, request: Request, connection: Connection) -> Response | None:
        """Connect to the target, and pass bytes on from then on; or say why not."""
        host, _, port = request.target.rpartition(":")
        if request.method != "CONNECT":
            return Response(405, "Method Not Allowed", (("Allow", "CONNECT"),))
        if not (port.isdecimal() and self.allows(host.removeprefix("[").removesuffix("]"), int(port))):
            return Response(403, "Forbidden")
        try:
            near = await self.connect(host.removeprefix("[").removesuffix("]"), int(port), connection)
        except Exception as error:  # noqa: BLE001 - a connection can fail in any way
            return Response(*((504, "Gateway Timeout") if is_late(error) else (502, "Bad Gateway")))
        connection.switch("raw")
        connection.send(ESTABLISHED).addErrback(lambda _: None)
        connection.take_over(near)
        return None


def is_late(error: Any) -> bool:
    """Return whether the target did not answer in time."""
    return isinstance(error, TimeoutError) or "TimeoutError" in type(error).__name__
