"""
Closing TLS: one side after the other, as TCP does, if the version of TLS supports that.

A peer that has sent everything sends close_notify. With TLS 1.3 that closes only the peer's side (RFC 8446, section
6.1), and we still send our replies, as over TCP. With TLS 1.2 it ends both sides: the receiver must answer with a
close_notify of its own, and discard its unsent data (RFC 5246, section 7.2.1). Twisted does the latter in all versions.

When we close, we wait for the peer's close_notify, but the peer need not send it (both sections). If the system has
accepted everything that we sent, the end is clean without it, so we do not wait for ever. If a peer ends the connection
without close_notify while our side is open, an attacker has possibly cut it, and this is reported.
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

from tcpapp.transport.unsent import holds_bytes

__all__ = ["ByHalves", "close_by_halves"]


def close_by_halves(layer: Any) -> None:
    """Let a TLS `layer`, of any class, close as this module describes. A second call has no effect."""
    kind: Any = type(layer)
    if not issubclass(kind, ByHalves):
        if kind not in _kinds:
            _kinds[kind] = type(f"{kind.__name__}ByHalves", (ByHalves, kind), {})
        layer.__class__ = _kinds[kind]


_kinds: dict[Any, Any] = {}
"""The class that replaces each class of TLS."""


class ByHalves(TLSMemoryBIOProtocol):
    """A mixin for a TLS class of Twisted or of ours, which comes first in the bases."""

    _tlsConnection: Any  # noqa: N815 - this name and the others like it are Twisted's
    transport: Any
    wrappedProtocol: Any  # noqa: N815
    _peer_has_closed = False
    """Whether the peer's close_notify came while our side was open, and left our side open."""

    # The peer closes -------------------------------------------------------------------------------------------------

    @override
    def _flushReceiveBIO(self) -> None:
        """Pass on the bytes that can be decrypted. Then report the end of the peer's side, if it has come."""
        before = self._peer_has_closed
        super()._flushReceiveBIO()
        if self._peer_has_closed is not before:
            self._lostTLSConnection = False  # it was set to end Twisted's loop; written bytes must still be sent
            alsoProvides(self, IHalfCloseableProtocol)
            self.transport.pauseProducing()  # later bytes would have no meaning
            self.wrappedProtocol.readConnectionLost()

    @override
    def _shutdownTLS(self) -> None:
        """Send close_notify. Twisted calls it when we close, and when the peer's close_notify has come."""
        if not self._stays_open():
            super()._shutdownTLS()

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """Handle the end of TLS: for this reason, or by the peer's close_notify (`None`). Twisted calls it."""
        if reason is None and self._stays_open():
            self._peer_has_closed = self._lostTLSConnection = True
        else:
            super()._tlsShutdownFinished(reason)

    def _stays_open(self) -> bool:
        """Return whether our side stays open after the peer's close_notify."""
        return (
            not (self.disconnecting or self._peer_has_closed)
            and self._tlsConnection.get_protocol_version() >= TLS1_3_VERSION
            and IHalfCloseableProtocol.providedBy(self.wrappedProtocol)
        )

    def readConnectionLost(self) -> None:
        """Do nothing: the peer's FIN after its close_notify says nothing new. The transport calls it."""

    def writeConnectionLost(self) -> None:
        """Do nothing: our side of the transport is closed, because we closed. The transport calls it."""

    # We close --------------------------------------------------------------------------------------------------------

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Report the loss of the transport: as a clean end, if we had sent everything and only a close_notify was missing.
        """
        if reason.check(ConnectionDone, ConnectionLost) and self._has_sent_all():
            self._lostTLSConnection = True  # nothing more can be read, and no close_notify is needed
            reason = Failure(CONNECTION_DONE)
        super().connectionLost(reason)

    def close_unanswered(self) -> bool:
        """
        If we have sent everything, close the transport without waiting for the peer's close_notify. Returns whether it
        did.
        """
        if not self._has_sent_all():
            return False
        self.transport.loseConnection()
        return True

    def _has_sent_all(self) -> bool:
        """Return whether the system has accepted our close_notify, and all bytes before it."""
        return (
            bool(self._tlsConnection.get_shutdown() & SENT_SHUTDOWN)
            and not self._aborted  # aborting sends a close_notify, too
            and not holds_bytes(self.transport)
        )
