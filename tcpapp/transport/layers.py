"""The layers below a connection: Twisted's transports, with TLS and PROXY headers on them."""

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

ITSELF = "nobody listens there: the system gave the client the port that it connects to, so it was connected to itself"
"""The text of the error of a client's connection that `talks_to_itself`."""


def bottom_of(transport: Any) -> Any:
    """
    Return the transport below all layers (TLS, a PROXY header). It is needed for calls that the layers do not pass on.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def send_at_once(transport: Any) -> None:
    """
    Let a `transport`, or the transport below its layers, send small writes at once (TCP_NODELAY).

    Otherwise Nagle's algorithm (RFC 896) holds a write back while an earlier write is not acknowledged. A peer with
    nothing to send acknowledges a write about 40 ms later. Does nothing for transports other than TCP.
    """
    bottom = bottom_of(transport)
    if hasattr(bottom, "setTcpNoDelay"):
        with suppress(OSError):  # the peer is gone already, and its end is reported later
            bottom.setTcpNoDelay(True)


def talks_to_itself(transport: Any) -> bool:
    """
    Return whether a client is connected to itself: the connection has the same address and port at both ends.

    TCP makes such a connection (RFC 9293, section 3.5, simultaneous open) when the system gives a client the very port
    that it connects to. That can happen for an ephemeral port on which no server listens.
    """
    try:
        host, peer = transport.getHost(), transport.getPeer()
    except (AttributeError, OSError):  # the transport has no addresses, or is lost already
        return False
    return isinstance(host, (IPv4Address, IPv6Address)) and host == peer


def tls_layer(transport: Any) -> Any:
    """Return the TLS layer of a `transport`: itself, or what ``startTLS`` put on it; `None` without TLS."""
    tls = sys.modules.get("twisted.protocols.tls")  # if it was never imported, no transport can be TLS
    if tls is None:
        return None
    layers = (transport, getattr(bottom_of(transport), "protocol", None))
    return next((each for each in layers if isinstance(each, tls.TLSMemoryBIOProtocol)), None)


def serves_tls(port: Any) -> bool:
    """Return whether the connections that a `port` accepts are TLS from their beginning."""
    tls = sys.modules.get("twisted.protocols.tls")  # as above
    return tls is not None and isinstance(getattr(port, "factory", None), tls.TLSMemoryBIOFactory)


def sets_up_tls(transport: object) -> bool:
    """
    Return whether `transport` is TLS with an unfinished handshake. Twisted reports the connection before the handshake.
    """
    return tls_layer(transport) is transport and not getattr(transport, "_handshakeDone", False)


def close_by_halves(layer: Any) -> None:
    """Let a TLS `layer` close one side after the other, as TCP does, if its version supports that."""
    from tcpapp.transport.tls import closing  # late: it needs pyOpenSSL, which is there by now

    closing.close_by_halves(layer)


def close_unanswered(transport: Any) -> bool:
    """
    If all was sent, close TLS on a `transport` without waiting for the peer's close_notify. Returns whether it did.
    """
    close = getattr(tls_layer(transport), "close_unanswered", None)
    return close is not None and bool(close())


def session_on(transport: Any) -> Any:
    """Return the TLS session of a transport (`tcpapp.transport.tls.session.Session`); `None` if there is no TLS yet."""
    layer = tls_layer(transport)
    if layer is None or sets_up_tls(layer):
        return None
    from tcpapp.transport.tls.session import session_of  # late: it needs pyOpenSSL, which is there by now

    return session_of(layer)


def tls_trouble(error: BaseException | None) -> str | None:
    """Return a text for a TLS `error` of OpenSSL or service_identity; `None` for other errors."""
    module = type(error).__module__.partition(".")[0]
    if module == "OpenSSL":
        told = error.args[0] if error is not None and error.args and isinstance(error.args[0], list) else []
        return f"TLS failed: {', '.join(each[-1] for each in told) or 'OpenSSL gives no reason'}"
    if module == "service_identity":
        wanted = [_wanted(getattr(each, "mismatched_id", each)) for each in getattr(error, "errors", ())]
        return f"TLS failed: the certificate is for other names than {', '.join(wanted)}"
    return None


def _wanted(name: Any) -> str:
    """Return, as text, a name that service_identity expected in the certificate."""
    found = getattr(name, "hostname", None) or getattr(name, "ip", None) or name
    return found.decode("ascii", "backslashreplace") if isinstance(found, bytes) else str(found)
