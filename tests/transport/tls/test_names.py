"""The names of a certificate: they have the form of comparable host names, and reading them raises nothing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

from tcpapp.transport.tls.names import common_name, matches, names_of


def der(tag: int, *content: bytes) -> bytes:
    """Return one element in DER."""
    body = b"".join(content)
    size = bytes([len(body)]) if len(body) < 0x80 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + size + body


X400 = der(0xA3, der(0x30))
"""An x400Address, which cryptography does not read."""


def certificate(*alternatives: Any, subject: str = "", raw: bytes | None = None) -> x509.Certificate:
    """Return a certificate with these names; `raw` is the content of the extension subjectAltName."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else [])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    if alternatives:
        made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if raw is not None:
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, raw)
        made = made.add_extension(extension, critical=False)
    return made.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("ann", ["ann"]),
        ("WWW.Example.COM", ["www.example.com"]),
        ("B\u00dcCHER.example", ["xn--bcher-kva.example"]),
        ("J\u00f6rg M\u00fcller", []),
        ("", []),
    ],
)
def test_a_certificate_without_names_has_its_common_name(subject: str, names: list[str]) -> None:
    """A certificate without a list of names has its common name, in comparable form; without both, it has no name."""
    made = certificate(subject=subject)
    assert (names_of(made), common_name(made)) == (names, subject)


def test_kinds_of_names_that_are_no_hosts_are_left_out() -> None:
    """`names_of` gives the host names and IP addresses of a certificate, and skips all other kinds of names."""
    made = certificate(
        x509.DNSName("Host.EXAMPLE."),
        x509.RFC822Name("ann@example.org"),
        x509.DirectoryName(x509.Name([])),
        x509.RegisteredID(ObjectIdentifier("1.2.3")),
        x509.OtherName(ObjectIdentifier("1.2.3"), der(0x0C, b"x")),
        x509.UniformResourceIdentifier("spiffe://example.org/ann"),
        x509.IPAddress(ip_address("2001:db8::1")),
        subject="not.this",
    )
    assert names_of(made) == ["host.example", "2001:db8::1"]


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        (der(0x30, X400, der(0x82, b"Host.Example")), ["host.example"]),
        (der(0x30, der(0x87, b"abc"), der(0x87, b"\x7f\0\0\x01"), der(0x82, b"a.example")), ["127.0.0.1", "a.example"]),
        (der(0x30, X400, der(0x82, b"a" * 64 + b".example"), der(0x82, b"\xff\xfe")), ["a" * 64 + ".example"]),
        (der(0x30, X400, der(0x82, b"a" * 300)), []),
        (der(0x30, X400, der(0x82, b"b" * 150)), ["b" * 150]),
        (b"\x30\x05abc", []),
        (b"", []),
    ],
)
def test_names_beside_an_unreadable_name_are_kept(raw: bytes, names: list[str]) -> None:
    """Unreadable names, such as an x400Address or an address of three bytes, raise nothing and hide no other."""
    assert names_of(certificate(raw=raw, subject="not.this")) == names


def test_a_subject_that_cannot_be_read_has_no_common_name() -> None:
    """A certificate whose subject raises has an empty common name."""

    class Broken:
        @property
        def subject(self) -> Any:
            raise ValueError

    assert common_name(Broken()) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", False),
        ("*.a.example", "a.example", False),
        ("*.0.0.1", "127.0.0.1", False),
        ("*.a.example", ".a.example", False),
    ],
)
def test_a_star_stands_for_one_label(pattern: str, name: str, expected: bool) -> None:
    """A star matches one label of a host name, and no part of an IP address."""
    assert matches(pattern, name) == expected
