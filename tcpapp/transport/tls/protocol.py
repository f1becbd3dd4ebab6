"""Twisted's TLS for a server's connection, without the reference cycle that it leaves at its end."""

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
    The TLS of one connection of a server.

    Twisted's class keeps OpenSSL's error in a variable of a frame that the error's traceback holds. So it would keep
    itself and OpenSSL's 29 kB in memory until Python's garbage collector runs. This class does not.
    """

    may_be_quick = True
    """Whether our reactor can replace this class by a faster one."""

    def makeConnection(self, transport: Any) -> None:
        """
        Prepare TLS on a connected transport. Twisted calls it.

        Twisted's own method declares the interfaces of the transport in many slow steps. It also asks OpenSSL to begin
        the handshake, which a server cannot do before the client's first bytes. Together that takes a third of the time
        of setting up a connection.
        """
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        ProtocolWrapper.makeConnection(self, transport)

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            drop_frames(reason)
