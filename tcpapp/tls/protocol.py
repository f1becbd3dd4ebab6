"""Twisted's TLS of a server's connection, which lets go of itself when it ends."""

from __future__ import annotations

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

    @override
    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            drop_frames(reason)
