"""
How TLS ends: as TCP does, one side after the other, where its version has that.

A peer that has sent all says so by close_notify. With TLS 1.3 that closes the peer's side alone (RFC 8446, section
6.1): what it sent is answered, as over TCP. With TLS 1.2 it ends both sides: whoever is told has to answer with a
close_notify of its own, and to discard what it had still to send (RFC 5246, section 7.2.1). Twisted does the latter in
all versions.

When we close, we wait for the peer's close_notify, but it need not come (both sections): the end is a proper one all
the same, if the system has taken all that was sent, and we need not wait for ever. A peer that ends the connection
without close_notify while our side is open may have been cut off by anyone, and that is told.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import SENT_SHUTDOWN, TLS1_3_VERSION
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import alsoProvides

__all__ = ["ByHalves", "close_by_halves"]


def close_by_halves(layer: Any) -> None:
    """Have a connection's TLS end as this module says, of whatever class it is. To do it twice does nothing more."""
    kind: Any = type(layer)
    if not issubclass(kind, ByHalves):
        if kind not in _kinds:
            _kinds[kind] = type(f"{kind.__name__}ByHalves", (ByHalves, kind), {})
        layer.__class__ = _kinds[kind]


_kinds: dict[Any, Any] = {}
"""What goes on in the place of each class of TLS."""


class ByHalves(TLSMemoryBIOProtocol):
    """What is put before a class of Twisted's TLS, or ours."""

    _tlsConnection: Any  # noqa: N815 - this and what else has such a name is Twisted's
    transport: Any
    wrappedProtocol: Any  # noqa: N815
    _peer_has_closed = False
    """Whether the peer's close_notify came while our side was open, and left it so."""

    # The peer closes -------------------------------------------------------------------------------------------------

    @override
    def _flushReceiveBIO(self) -> None:
        """Hand on what can be decrypted; then, if that was the last, say so."""
        before = self._peer_has_closed
        super()._flushReceiveBIO()
        if self._peer_has_closed is not before:
            self._lostTLSConnection = False  # which ended Twisted's loop: what is written still goes out
            alsoProvides(self, IHalfCloseableProtocol)
            self.transport.pauseProducing()  # nothing that could still come would mean anything
            self.wrappedProtocol.readConnectionLost()

    @override
    def _shutdownTLS(self) -> None:
        """Send close_notify. Twisted calls it when we close, and when the peer's has come."""
        if not self._stays_open():
            super()._shutdownTLS()

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """TLS is over, for this reason, or by the peer's close_notify. Twisted calls it."""
        if reason is None and self._stays_open():
            self._peer_has_closed = self._lostTLSConnection = True
        else:
            super()._tlsShutdownFinished(reason)

    def _stays_open(self) -> bool:
        """Whether our side does, where the peer's close_notify has come."""
        return (
            not (self.disconnecting or self._peer_has_closed)
            and self._tlsConnection.get_protocol_version() >= TLS1_3_VERSION
            and IHalfCloseableProtocol.providedBy(self.wrappedProtocol)
        )

    def readConnectionLost(self) -> None:
        """The peer's FIN, after its close_notify: no news. The transport calls it."""

    def writeConnectionLost(self) -> None:
        """Our side of the transport is closed. It calls it; it follows from our closing."""

    # We close --------------------------------------------------------------------------------------------------------

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is lost: in good order, if we had said all, and whatever of it the peer had still to read."""
        if reason.check(ConnectionDone, ConnectionLost) and self._has_said_all():
            self._lostTLSConnection = True  # nothing more is to be read, and no close_notify is missed
            reason = Failure(CONNECTION_DONE)
        super().connectionLost(reason)

    def close_unanswered(self) -> bool:
        """Close the transport, if we have said all, and wait for the peer's close_notify no longer. Whether it did."""
        if not self._has_said_all():
            return False
        self.transport.loseConnection()
        return True

    def _has_said_all(self) -> bool:
        """Whether our close_notify, and all before it, is the system's."""
        return (
            bool(self._tlsConnection.get_shutdown() & SENT_SHUTDOWN)
            and not self._aborted  # which sends a close_notify, too
            and not _holds_bytes(self.transport)
        )


def _holds_bytes(transport: Any) -> bool:
    """Whether bytes wait in a transport of Twisted's, or in one of our reactor's, that the system has not taken."""
    unsent = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return unsent > 0 or bool(getattr(transport, "_tempDataLen", 0) or getattr(transport, "_blocked", False))
