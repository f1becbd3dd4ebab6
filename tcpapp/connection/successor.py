"""
The protocol that takes over the transport of a connection, and what its transport calls until it is lost.

A transport knows the protocol that it was made with. So that protocol stays, and passes every call on. It also keeps
the connection's place in its factory: a server counts the connection, drains it and closes it as before.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.connection.outcomes import NOTHING
from tcpapp.connection.parts import ClosedReceiver
from tcpapp.telemetry.statistics import Totals

__all__ = ["Successor"]


class Successor(ClosedReceiver):
    """
    Passes the calls of a transport on to `protocol`, from `begin` on. Until then it keeps the bytes that come.

    `passing` says that the connection ends for it, and `begun` that the protocol has the transport. Nothing is called
    after the protocol knows of the end.
    """

    def __init__(self, protocol: Any, unread: bytes) -> None:
        super().__init__(Totals())
        self.protocol = protocol
        self._unread = [unread] if unread else []
        self._feeds = self._ended = False
        self.begun = self.passing = False

    def begin(self, transport: Any) -> None:
        """Give the protocol the `transport`, which is read from again, and then the bytes that it has to read first."""
        self.begun = True
        transport.resumeProducing()
        self.protocol.makeConnection(transport)
        self._feeds = True
        unread, self._unread = b"".join(self._unread), []
        if unread and not self._ended:
            self.protocol.dataReceived(unread)

    @override
    def receive(self, data: bytes) -> int:
        """Bytes came. Returns the outcome: nothing."""
        if self._feeds:
            self.protocol.dataReceived(data)
        else:
            self._unread.append(data)
        return NOTHING

    def read_lost(self, transport: Any) -> None:
        """The peer closed its side. A protocol that cannot keep half a connection loses the whole."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            transport.loseConnection()

    def write_lost(self) -> None:
        """Our side is closed for writing."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    def lost(self, reason: Failure) -> None:
        """The transport is lost."""
        self._ended = True
        self.protocol.connectionLost(reason)
