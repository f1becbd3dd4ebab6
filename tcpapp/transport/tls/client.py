"""A client's TLS: the authorities that it trusts, and its own certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates

from tcpapp.errors import InvalidAddress
from tcpapp.transport.hostnames import TAKES, comparable, is_host, is_ip
from tcpapp.transport.tls.contexts import MINIMUMS
from tcpapp.transport.tls.files import named, read_identity, roots_in

__all__ = ["STAND_IN", "asks_for", "client_options"]

STAND_IN = "host.invalid"
"""A name that Twisted accepts, and that no host can have (RFC 6761, section 6.4). `asks_for` replaces it."""


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
    Return the TLS options of a client for the server called `hostname`: for Twisted's ``wrapClientTLS``, and
    ``startTLS``.

    The name can have letters outside ASCII, capitals, ``_``, and a dot at its end. It can also be an IP address. The
    client trusts the authorities in `trust`, or the authorities of the system. It presents `certificate`, if there is
    one, and agrees on one of `protocols` by ALPN. Raises `InvalidAddress`, the caller's fault, for an impossible name
    and for invalid files.
    """
    if not isinstance(hostname, str) or not is_host(hostname):
        raise InvalidAddress(f"hostname={hostname!r}: takes {TAKES}")
    extra: dict[str, Any] = {}
    if certificate is not None:
        ours = read_identity(certificate, key)
        extra = {"privateKey": ours.key, "certificate": ours.certificate, "extraCertChain": list(ours.chain)}
    if minimum != "1.2":
        extra["raiseMinimumTo"] = MINIMUMS[minimum]
    with named(certificate or trust or hostname):
        options = optionsForClientTLS(
            STAND_IN,
            trustRoot=platformTrust() if trust is None else _roots(trust),
            acceptableProtocols=list(protocols) or None,
            extraCertificateOptions=extra or None,
        )
    return asks_for(options, hostname)


def asks_for(options: Any, hostname: str) -> Any:
    """
    Change `options`, which Twisted made for `STAND_IN`, to this host name or IP address, and return them.

    Twisted would encode the name again, by a package that refuses host names that exist: names with a ``_``, or with
    two hyphens in the third and fourth place. It would also compare a dot at the end, and the zone of an address, which
    has a meaning only on this machine.
    """
    name = comparable(hostname.partition("%")[0])
    options._hostname = options._hostnameASCII = name
    options._hostnameBytes = name.encode("ascii")
    options._hostnameIsDnsName = options._sendServerName = not is_ip(name)
    return options


def _roots(path: Path) -> Any:
    """Return the authorities in a PEM file, or in all PEM files (``*.pem``) of a folder."""
    return trustRootFromCertificates([Certificate(X509.from_cryptography(each)) for each in roots_in(path)])
