"""
What the proxies share: the targets that they serve, the connection to one of them, and the bytes between the two.

The names of targets are the operator's: a proxy connects to what a listed name resolves to, private addresses too. So
list only names whose owner you trust, and no pattern of a domain in which others can add names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import implementer

from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidOption

__all__ = ["Proxy", "Relay"]


@implementer(IHalfCloseableProtocol)
class Relay(Protocol):
    """One of two ends: it passes all that it receives on to the `other`, which makes it wait while its peer does."""

    def __init__(self, other: Relay | None = None) -> None:
        self.other = other

    @override
    def connectionMade(self) -> None:
        """Wait for the other end, or join it."""
        if self.other is None:
            self.transport.pauseProducing()  # type: ignore[union-attr]
            return
        self.other.other = self
        for one, another in ((self, self.other), (self.other, self)):
            one.transport.registerProducer(another.transport, True)  # type: ignore[union-attr]
        self.other.transport.resumeProducing()  # type: ignore[union-attr]

    @override
    def dataReceived(self, data: bytes) -> None:
        """Pass the bytes on."""
        if self.other is not None:
            self.other.transport.write(data)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        """The peer closed its side: close ours of the other end. TLS closes both."""
        if self.other is not None:
            transport: Any = self.other.transport
            transport.unregisterProducer()
            getattr(transport, "loseWriteConnection", transport.loseConnection)()

    def writeConnectionLost(self) -> None:
        """Our side is closed, as the other end asked for."""

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the other end, behind what it has to send."""
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.unregisterProducer()  # type: ignore[union-attr]
            other.transport.loseConnection()  # type: ignore[union-attr]


class Proxy:
    """
    A proxy to the targets of `allow`: ``"example.com:443"``, ``"*.example.com:443"`` or ``"[2001:db8::1]:22"``.

    The name is compared as the client gives it, before it is resolved. A connection to a target has `timeout` seconds,
    with all addresses of its name. Raises `InvalidOption` for any other form of a target.
    """

    def __init__(self, allow: Iterable[str], *, timeout: float = 10, reactor: Any = None) -> None:
        self.allow = frozenset(_checked(each) for each in allow)
        self.timeout = timeout
        self.reactor = reactor

    def allows(self, host: str, port: int) -> bool:
        """Whether clients can have this target."""
        name = host.lower().rstrip(".")
        parts = name.split(".")
        names = [name, *["*." + ".".join(parts[place:]) for place in range(1, len(parts))]]
        return any((each, port) in self.allow for each in names)

    def refuse(self, reply: bytes, connection: Connection) -> Any:
        """Send the last `reply`, and close."""
        connection.send(reply).addErrback(lambda _: None)
        connection.close()

    async def connect(self, host: str, port: int, connection: Connection) -> Relay:
        """Connect to a target. Returns the end for the client, whose transport it gets by ``take_over``."""
        reactor = protocol_of(connection).clock if self.reactor is None else self.reactor
        endpoint = HostnameEndpoint(reactor, host, port, timeout=self.timeout)
        target: Any = await endpoint.connect(Factory.forProtocol(Relay)).addTimeout(self.timeout, reactor)
        near = Relay(target)
        connection.when_closed().addCallback(lambda _: near.transport or target.transport.abortConnection())
        return near


def _checked(target: str) -> tuple[str, int]:
    host, colon, port = target.rpartition(":")
    if not (colon and host and port.isdecimal() and port.isascii() and 0 < int(port) < 65536) or "*" in host[1:]:
        raise InvalidOption(f"allow={target!r}: takes NAME:PORT, where NAME can begin with *.")
    return host.removeprefix("[").removesuffix("]").lower().rstrip("."), int(port)
