"""One side of a connection through the proxy: the protocol towards the client, or towards the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPullProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.testing.faultproxy.stages import Item, Mark, discard

if TYPE_CHECKING:
    from tcpapp.testing.faultproxy.stages import Gate

__all__ = ["Side"]


@implementer(IPullProducer)
class _Flushed:
    """A producer without data, which the transport asks again when all is sent."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._asked = False

    def resumeProducing(self) -> None:
        """
        Call the function, if all is sent. The transport calls this at the registration, and each time when all is sent.
        """
        if self._asked:
            self._call()
        self._asked = True

    def stopProducing(self) -> None:
        """Do nothing: the connection was lost before all was sent."""


@implementer(IHalfCloseableProtocol)
class Side(Protocol):
    """
    Passes received bytes and the end to `on_item`. Its methods for the proxy repeat the other side's events on its
    transport.

    `on_made` is called when it is connected, and `on_lost` at its end, after `on_item`. Methods do nothing on a lost
    side.
    """

    transport: Any

    def __init__(self, on_made: Callable[[], None], on_lost: Callable[[], None]) -> None:
        self.on_item: Callable[[Item], None] = discard
        self._on_made = on_made
        self._on_lost = on_lost
        self._made = False
        self._ended = False
        self._gate: Gate | None = None
        self._ending = False
        self.lost = False

    # Called by the transport.

    def connectionMade(self) -> None:
        """Begin. Small writes are sent at once, also slices, as in Go, whose sockets Toxiproxy uses."""
        self._made = True
        self.lost = False
        if isinstance(self.transport.getHost(), (IPv4Address, IPv6Address)):
            self.transport.setTcpNoDelay(True)
        self._on_made()

    def dataReceived(self, data: bytes) -> None:
        """Pass on received bytes."""
        self.on_item(data)

    def readConnectionLost(self) -> None:
        """Pass on the end of the peer's stream. The peer can still read."""
        self._end()

    def writeConnectionLost(self) -> None:
        """Do nothing: our stream has ended, as requested."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on the end of the connection: as a reset, unless the peer closed it or we cut it."""
        self.lost = True
        if reason.check(ConnectionDone):
            self._end()
        elif not reason.check(ConnectionAborted):
            self.on_item(Mark.RESET)
        self._on_lost()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.on_item(Mark.END)

    # Called by the proxy.

    @property
    def reads(self) -> bool:
        """Whether bytes can still be received."""
        return self._made and not self.lost and not self._ended

    def feed_from(self, gate: Gate) -> None:
        """Register `gate` as the producer, so that the transport pauses it when it has enough bytes to send."""
        self._gate = gate
        self.transport.registerProducer(gate, True)

    def pause(self) -> None:
        """Pause reading."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Resume reading, if bytes can still be received: Twisted would read an end again."""
        if self.reads:
            self.transport.resumeProducing()

    def write(self, data: bytes) -> None:
        """Send `data`."""
        if not self.lost:
            self.transport.write(data)

    def half_close(self) -> None:
        """Half-close when all is sent. Over TLS, which has no half-close, close."""
        if self.lost:
            return
        self._release_gate()
        if ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def close(self) -> None:
        """Close when all is sent."""
        if self._made and not self.lost:
            self._release_gate()
            self.transport.loseConnection()

    def reset(self) -> None:
        """
        Close with a reset when all is sent: a reset keeps its place after earlier bytes.

        The reset is sent at once if the peer accepts no bytes, if an end is under way already, or over TLS.
        """
        if not self._made or self.lost:
            return
        full = self._gate is None or not self._gate.open
        if full or self._ending or ISSLTransport.providedBy(self.transport):
            self.transport.abortConnection()
            return
        self._release_gate()
        self.transport.registerProducer(_Flushed(self.transport.abortConnection), False)
        self.transport.startWriting()  # otherwise it would not call the producer if all is sent already

    def abort(self) -> None:
        """Close with a reset now. Unsent bytes are lost."""
        if self._made and not self.lost:
            self.transport.abortConnection()

    def _release_gate(self) -> None:
        """Remove the producer at the end, so that the transport does not wait for it."""
        if self._gate is not None and not self._ending:
            self.transport.unregisterProducer()
        self._ending = True
