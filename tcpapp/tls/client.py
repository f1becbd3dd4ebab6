"""What a client trusts, and what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from tcpapp.tls.contexts import MINIMUMS
from tcpapp.tls.files import named, read_identity, roots_in

__all__ = ["client_options"]


def client_options(
    hostname: str,
    *,
    trust: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    protocols: tuple[bytes, ...] = (),
    minimum: str = "1.2",
) -> Any:
    """
    What a client asks of the server called `hostname`: for Twisted's ``wrapClientTLS``, and ``startTLS``.

    It trusts the authorities in `trust`, or those of the system; shows `certificate`, if there is one; and agrees on
    one of `protocols` by ALPN. Raises `InvalidAddress` for files that are not right.
    """
    extra: dict[str, Any] = {}
    if certificate is not None:
        ours = read_identity(certificate, key)
        extra = {"privateKey": ours.key, "certificate": ours.certificate, "extraCertChain": list(ours.chain)}
    if minimum != "1.2":
        extra["raiseMinimumTo"] = MINIMUMS[minimum]
    with named(certificate or trust or hostname):
        return optionsForClientTLS(
            hostname,
            trustRoot=platformTrust() if trust is None else _roots(trust),
            acceptableProtocols=list(protocols) or None,
            extraCertificateOptions=extra or None,
        )


def _roots(path: Path) -> Any:
    """The authorities in a PEM file, or in those (``*.pem``) of a folder."""
    return trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in roots_in(path)])
