"""What lies below a connection: Twisted's transports, and the layers on them."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.protocols.policies import ProtocolWrapper

__all__ = [
    "ITSELF",
    "bottom_of",
    "close_by_halves",
    "close_unanswered",
    "send_at_once",
    "serves_tls",
    "session_on",
    "sets_up_tls",
    "talks_to_itself",
    "tls_layer",
    "tls_trouble",
]

ITSELF = "nobody listens there: the client was given the port that it connects to, and was connected to itself"
"""What is wrong with the connection of a client that `talks_to_itself`."""


def bottom_of(transport: Any) -> Any:
    """The transport below all layers (TLS, a proxy's header): what those are told they keep to themselves."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def send_at_once(transport: Any) -> None:
    """
    Have TCP send small writes as they come (TCP_NODELAY), on a `transport` or below the layers on it.

    Else Nagle's algorithm (RFC 896) keeps a write back while one before it is not acknowledged, and a peer that has
    nothing to send acknowledges it some 40 ms later. Nothing is done for what is no TCP.
    """
    bottom = bottom_of(transport)
    if hasattr(bottom, "setTcpNoDelay"):
        with suppress(OSError):  # the peer is gone already: that will be told
            bottom.setTcpNoDelay(True)


def talks_to_itself(transport: Any) -> bool:
    """
    Whether a client's connection is one with itself: the same address and port at both ends.

    TCP makes such a connection (RFC 9293, section 3.5, simultaneous open) where a client is given the very port that it
    connects to: one of the ephemeral range, on which nobody listens.
    """
    try:
        host, peer = transport.getHost(), transport.getPeer()
    except (AttributeError, OSError):  # a transport without addresses, or one that is lost already
        return False
    return isinstance(host, (IPv4Address, IPv6Address)) and host == peer


def tls_layer(transport: Any) -> Any:
    """The layer that is TLS of a `transport`: itself, or what ``startTLS`` put on it; `None` where there is none."""
    tls = sys.modules.get("twisted.protocols.tls")  # where it is not imported, nothing can be TLS
    if tls is None:
        return None
    layers = (transport, getattr(bottom_of(transport), "protocol", None))
    return next((each for each in layers if isinstance(each, tls.TLSMemoryBIOProtocol)), None)


def serves_tls(port: Any) -> bool:
    """Whether the connections that a `port` accepts are TLS from their beginning."""
    tls = sys.modules.get("twisted.protocols.tls")  # as above
    return tls is not None and isinstance(getattr(port, "factory", None), tls.TLSMemoryBIOFactory)


def sets_up_tls(transport: object) -> bool:
    """Whether `transport` is TLS, and its handshake is still to come: Twisted connects first."""
    return tls_layer(transport) is transport and not getattr(transport, "_handshakeDone", False)


def close_by_halves(layer: Any) -> None:
    """Have a `layer` that is TLS close one side after the other, as TCP does, where its version has that."""
    from tcpapp.transport.tls import closing  # late: it needs pyOpenSSL, which is there by now

    closing.close_by_halves(layer)


def close_unanswered(transport: Any) -> bool:
    """Close TLS on a `transport` without waiting for the peer's answer, if all was sent. Whether that is so."""
    close = getattr(tls_layer(transport), "close_unanswered", None)
    return close is not None and bool(close())


def session_on(transport: Any) -> Any:
    """What was agreed on by TLS (`tcpapp.transport.tls.session.Session`); `None` where there is no TLS yet."""
    layer = tls_layer(transport)
    if layer is None or sets_up_tls(layer):
        return None
    from tcpapp.transport.tls.session import session_of  # late: it needs pyOpenSSL, which is there by now

    return session_of(layer)


def tls_trouble(error: BaseException | None) -> str | None:
    """What went wrong with TLS, in words, where `error` is OpenSSL's or service_identity's; else `None`."""
    module = type(error).__module__.partition(".")[0]
    if module == "OpenSSL":
        told = error.args[0] if error is not None and error.args and isinstance(error.args[0], list) else []
        return f"TLS failed: {', '.join(each[-1] for each in told) or 'OpenSSL gives no reason'}"
    if module == "service_identity":
        wanted = [_wanted(getattr(each, "mismatched_id", each)) for each in getattr(error, "errors", ())]
        return f"TLS failed: the certificate is for other names than {', '.join(wanted)}"
    return None


def _wanted(name: Any) -> str:
    """A name that a certificate was to have, as service_identity has it, in words."""
    found = getattr(name, "hostname", None) or getattr(name, "ip", None) or name
    return found.decode("ascii", "backslashreplace") if isinstance(found, bytes) else str(found)
