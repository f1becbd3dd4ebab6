"""Twisted's TLS of a server's connection, which lets go of itself when it ends."""

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

    Twisted keeps OpenSSL's error in a variable of a frame that the error's traceback holds: TLS would hold itself, and
    OpenSSL's 29 kB, until Python's collector comes.
    """

    may_be_quick = True
    """Whether our reactor may put its own class in the place of this one."""

    def makeConnection(self, transport: Any) -> None:
        """
        The transport is connected. Twisted calls it.

        Twisted's own declares the transport's interfaces one by one, each in the place of the one before, and asks
        OpenSSL to begin the handshake, which a server cannot do before the client's first bytes: a third of the time.
        """
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            drop_frames(reason)
