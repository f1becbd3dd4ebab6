"""The agreed TLS of one connection, and the identity of the peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cryptography import x509

from tcpapp.transport.tls.names import common_name, names_of

__all__ = ["Session", "session_of"]


@dataclass(frozen=True)
class Session:
    """
    The TLS of a connection.

    - `version`, `cipher`: as OpenSSL names them: ``"TLSv1.3"``.
    - `protocol`: the protocol agreed on by ALPN, or `None`.
    - `server_name`: the name that the client asked for (SNI), or `None`.
    - `certificate`: the peer's, which a trusted authority has signed and which, for a client, names the server. It is
      `None` if the peer has shown none, or if cryptography cannot read it.
    - `subject`, `names`: its common name, and its host names and addresses. Names are in small letters and ASCII
      (``xn--…``); other kinds of names are left out.
    """

    version: str
    cipher: str | None
    protocol: str | None
    server_name: str | None
    certificate: x509.Certificate | None
    subject: str
    names: tuple[str, ...]


def session_of(layer: Any) -> Session:
    """The session of a `TLSMemoryBIOProtocol` whose handshake is done."""
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
    except Exception:  # noqa: BLE001 - OpenSSL trusts it, and cryptography cannot read it
        return None
    return shown
