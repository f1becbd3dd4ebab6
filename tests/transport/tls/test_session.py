"""The session of a TLS connection; all of it is tested on real ports, in `test_endpoints`."""

from __future__ import annotations

from typing import Any

from tcpapp.transport.tls.session import session_of


def test_a_certificate_that_cannot_be_read_names_nobody() -> None:
    """OpenSSL trusts it, and cryptography cannot read it: that raises nothing, and identifies no peer."""

    class Handle:
        def get_peer_certificate(self, *, as_cryptography: bool) -> Any:
            raise ValueError

        def get_alpn_proto_negotiated(self) -> bytes:
            return b""

        def get_servername(self) -> None:
            return None

        def get_protocol_version_name(self) -> str:
            return "TLSv1.3"

        def get_cipher_name(self) -> None:
            return None

        def getHandle(self) -> Any:
            return self

    session = session_of(Handle())
    assert (session.certificate, session.subject, session.names) == (None, "", ())
