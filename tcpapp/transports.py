"""What lies below a connection: Twisted's transports, and the layers on them."""

from __future__ import annotations

import sys
from typing import Any

from twisted.protocols.policies import ProtocolWrapper

__all__ = ["bottom_of", "sets_up_tls"]


def bottom_of(transport: Any) -> Any:
    """The transport below all layers (TLS, a proxy's header): what those are told they keep to themselves."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def sets_up_tls(transport: object) -> bool:
    """Whether `transport` is TLS, and its handshake is still to come: Twisted connects first."""
    tls = sys.modules.get("twisted.protocols.tls")  # where it is not imported, nothing can be TLS
    if tls is None or not isinstance(transport, tls.TLSMemoryBIOProtocol):
        return False
    return not getattr(transport, "_handshakeDone", False)
