"""Certificates and private keys in PEM files: read, and checked, before anybody is shown them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from tcpapp.errors import InvalidAddress

__all__ = ["Identity", "certificates_in", "common_name", "matches", "names_of", "read_directory", "read_identity"]

LONGEST_FILE = 1024 * 1024
"""Bytes that a PEM file may have: our choice; the certificates that all browsers trust fit into a quarter of it."""


@dataclass(frozen=True)
class Identity:
    """A certificate, the private key to it, the certificates that lead to its authority, and the names it is for."""

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]


def read_identity(certificate: Path, key: Path | None = None, chain: Path | None = None) -> Identity:
    """
    What these PEM files hold; without a `key` the first one holds that, too, and the `chain` may be in it.

    Raises `InvalidAddress` where a file cannot be read, holds no such thing, where the key is another's, and where the
    certificate is not valid now.
    """
    first, *others = certificates_in(certificate)
    if chain is not None:
        others += certificates_in(chain)
    secret = _key_in(certificate if key is None else key)
    if secret.public_key() != first.public_key():
        raise InvalidAddress(f"{key or certificate}: the private key is not that of the certificate in {certificate}")
    _check_dates(first, certificate)
    return Identity(first, secret, tuple(others), tuple(names_of(first)))


def read_directory(path: Path) -> list[Identity]:
    """
    What the PEM files (``*.pem``) of a directory hold, in the order of their names: a certificate for each private key.

    A key may be in its certificate's file, or in one of its own; the certificates that lead to an authority are in that
    of the certificate. Raises `InvalidAddress` where there is none, or one is not valid now.
    """
    certificates = [(file, _certificates(_read(file))) for file in sorted(path.glob("*.pem"))]
    keys = [key for file in sorted(path.glob("*.pem")) if (key := _key(_read(file))) is not None]
    found = []
    for file, held in certificates:
        for first in held:
            key = next((each for each in keys if each.public_key() == first.public_key()), None)
            if key is not None:
                _check_dates(first, file)
                chain = tuple(each for each in held if each is not first)
                found.append(Identity(first, key, chain, tuple(names_of(first))))
    if not found:
        raise InvalidAddress(f"{path}: there is no certificate in it with its private key, in files *.pem")
    return found


def certificates_in(path: Path) -> list[x509.Certificate]:
    """All certificates in a PEM file: one at the least. Raises `InvalidAddress`."""
    content = _read(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise InvalidAddress(f"{path}: it holds no certificate in PEM ({error})") from error


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        return []


def _key(content: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        return None


def names_of(certificate: x509.Certificate) -> Iterable[str]:
    """The host names and addresses that a certificate is for (RFC 6125: its common name only where there are none)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        name = common_name(certificate)
        return [name] if name else []
    return [str(each.value).lower() for each in alternatives if isinstance(each, (x509.DNSName, x509.IPAddress))]


def common_name(certificate: x509.Certificate) -> str:
    """The common name of whom a certificate is for; the empty text where it has none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def matches(pattern: str, name: str) -> bool:
    """Whether a certificate's name stands for `name`: itself, or ``*.`` and one label before it (RFC 6125, 6.4.3)."""
    if not pattern.startswith("*."):
        return pattern == name
    label, dot, rest = name.partition(".")
    return bool(label and dot) and rest == pattern[2:] and not _is_ip(name)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise InvalidAddress(f"{path}: {error.strerror}") from error
    if len(content) > LONGEST_FILE:
        raise InvalidAddress(f"{path}: it is longer than {LONGEST_FILE} bytes, and no PEM file")
    return content


def _key_in(path: Path) -> Any:
    content = _read(path)
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        what = "its private key has a password" if isinstance(error, TypeError) else "it holds no private key in PEM"
        raise InvalidAddress(f"{path}: {what} ({error})") from error


def _check_dates(certificate: x509.Certificate, path: Path) -> None:
    now = datetime.now(timezone.utc)
    if now >= certificate.not_valid_after_utc:
        raise InvalidAddress(
            f"{path}: the certificate has expired: it was valid until {_day(certificate.not_valid_after_utc)}"
        )
    if now < certificate.not_valid_before_utc:
        raise InvalidAddress(f"{path}: the certificate is valid from {_day(certificate.not_valid_before_utc)} on")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
