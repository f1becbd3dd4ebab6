"""The TLS session of one connection: the agreed parameters, and the identity of the peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509

from tcpapp.transport.tls.names import common_name, names_of

__all__ = ["Session", "session_of"]


@dataclass(frozen=True)
class Session:
    """
    The agreed TLS parameters of a connection, and the identity of the peer.

    - `version`, `cipher`: with OpenSSL's names, such as ``"TLSv1.3"``.
    - `protocol`: the protocol agreed on by ALPN, or `None`.
    - `server_name`: the name that the client asked for (SNI), or `None`.
    - `certificate`: the certificate of the peer. A trusted authority has signed it, and for a client it has the name of
      the server. It is `None` if the peer has presented none, or if cryptography cannot read it.
    - `subject`, `names`: the common name of the certificate, and its host names and addresses, in small letters and
      ASCII (``xn--…``). Other kinds of names are left out.
    """

    version: str
    cipher: str | None
    protocol: str | None
    server_name: str | None
    certificate: x509.Certificate | None
    subject: str
    names: tuple[str, ...]


def session_of(layer: Any) -> Session:
    """Return the session of a `TLSMemoryBIOProtocol` whose handshake is done."""
    connection = layer.getHandle()
    shown = _certificate_of(connection)
    agreed, asked = connection.get_alpn_proto_negotiated(), connection.get_servername()
    return Session(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name(),
        protocol=agreed.decode("ascii", "replace") or None,
        server_name=asked.decode("ascii", "replace") if asked else None,
        certificate=shown,
        subject="" if shown is None else common_name(shown),
        names=() if shown is None else tuple(names_of(shown)),
    )


def _certificate_of(connection: Any) -> x509.Certificate | None:
    try:
        shown: x509.Certificate | None = connection.get_peer_certificate(as_cryptography=True)
    except Exception:  # noqa: BLE001 - OpenSSL accepts it, and cryptography cannot read it
        return None
    return shown
