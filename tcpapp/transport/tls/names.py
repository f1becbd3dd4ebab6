"""
The names of a certificate, in one form for comparisons.

Host names are compared in the form of `tcpapp.transport.hostnames.comparable`. Names that are neither host names nor IP
addresses are left out. These functions raise for no certificate.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import NameOID

from tcpapp.transport.hostnames import comparable, is_ip

__all__ = ["common_name", "matches", "names_of"]

OCTETS, IDENTIFIER, EXTENSIONS = 0x04, 0x06, 0xA3
"""The DER tags that are read (X.690; RFC 5280, section 4.1)."""

ALTERNATIVES = bytes.fromhex("551d11")
"""The extension subjectAltName: 2.5.29.17, in DER."""

HOST, ADDRESS = 0x82, 0x87
"""The tags of dNSName and iPAddress in a GeneralName (RFC 5280, section 4.2.1.6)."""


def names_of(certificate: x509.Certificate) -> list[str]:
    """
    Return the host names and addresses of a certificate. Its common name counts only if it lists no names (RFC 6125).

    Other kinds of names are left out, and so are impossible names.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        listed = [common_name(certificate)]
    except Exception:  # noqa: BLE001 - cryptography does not accept a name, or another extension
        listed = list(_listed(certificate))
    else:
        listed = [str(each.value) for each in found if isinstance(each, (x509.DNSName, x509.IPAddress))]
    return [name for each in listed if (name := comparable(each))]


def common_name(certificate: x509.Certificate) -> str:
    """Return the common name of the certificate's subject; the empty text if it has none, or an unreadable one."""
    try:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception:  # noqa: BLE001 - cryptography can raise anything for an unreadable subject
        return ""
    return str(found[0].value) if found else ""


def matches(pattern: str, name: str) -> bool:
    """
    Return whether the `pattern` in a certificate matches `name`. ``*.`` in it matches one label (RFC 6125, 6.4.3).
    """
    if not pattern.startswith("*."):
        return pattern == name
    label, dot, rest = name.partition(".")
    return bool(label and dot) and rest == pattern[2:] and not is_ip(name)


# Names beside a name that cryptography does not accept --------------------------------------------------------------


def _listed(certificate: x509.Certificate) -> Iterator[str]:
    """Yield the host names and addresses of subjectAltName, read from the certificate's DER."""
    for tag, value in _alternatives(certificate.tbs_certificate_bytes):
        if tag == HOST:
            yield value.decode("utf-8", "replace")
        elif tag == ADDRESS and len(value) in (4, 16):
            yield str(ipaddress.ip_address(value))


def _alternatives(body: bytes) -> Iterator[tuple[int, bytes]]:
    for _, fields in _elements(body):
        for tag, held in _elements(fields):
            if tag == EXTENSIONS:
                for _, extensions in _elements(held):
                    yield from _names_in(extensions)


def _names_in(extensions: bytes) -> Iterator[tuple[int, bytes]]:
    for _, extension in _elements(extensions):
        parts = list(_elements(extension))
        if parts and parts[0] == (IDENTIFIER, ALTERNATIVES) and parts[-1][0] == OCTETS:
            for _, names in _elements(parts[-1][1]):
                yield from _elements(names)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each DER element in `data`, up to an incomplete element."""
    at = 0
    while at + 2 <= len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size > 0x7F:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            return
        yield tag, data[at : at + size]
        at += size
