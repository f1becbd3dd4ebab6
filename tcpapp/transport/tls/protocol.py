"""Twisted's TLS of a server's connection, without a reference cycle at its end."""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.errors import drop_frames

__all__ = ["ServerTLS"]


class ServerTLS(TLSMemoryBIOProtocol):
    """
    One connection's TLS.

    Twisted keeps OpenSSL's error in a variable of a frame that the error's traceback holds. So TLS would keep itself
    and OpenSSL's 29 kB alive until Python's collector runs.
    """

    may_be_quick = True
    """Whether our reactor can replace this class by its own."""

    def makeConnection(self, transport: Any) -> None:
        """
        The transport is connected. Twisted calls it.

        Twisted's own method declares the transport's interfaces one by one, each in place of the previous one. It also
        asks OpenSSL to begin the handshake, which a server cannot do before the client's first bytes. Together that
        takes a third of the time.
        """
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            drop_frames(reason)
