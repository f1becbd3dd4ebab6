"""The session of a TLS connection. `test_endpoints` tests the rest of it on real ports."""

from __future__ import annotations

from typing import Any

from tcpapp.transport.tls.session import session_of


def test_an_unreadable_certificate_gives_a_session_without_names() -> None:
    """A certificate that cryptography cannot read raises nothing: the session has no certificate and no names."""

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
