"""Reading certificates and private keys from PEM files, and checking them before any peer gets them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tcpapp.errors import InvalidAddress
from tcpapp.transport.tls.names import names_of

__all__ = [
    "Directory",
    "Identity",
    "certificates_in",
    "named",
    "pem_files",
    "read_directory",
    "read_identity",
    "roots_in",
]

LONGEST_FILE = 1024 * 1024
"""The most bytes of a PEM file. Our choice: all the authorities that browsers trust fit into a quarter of it."""

CERTIFICATE, KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"
"""Texts by which a file with a certificate, or with a private key of any kind, is recognised (RFC 7468)."""


@dataclass(frozen=True)
class Identity:
    """
    A certificate with its private key, the chain of certificates to its authority, and its names.

    `file` is the file that the certificate was read from.
    """

    certificate: x509.Certificate
    key: Any
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]
    file: Path


@dataclass
class Directory:
    """The content of a directory of PEM files: the `identities`, and in `troubles` a line for each error."""

    identities: list[Identity] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@contextmanager
def named(what: object) -> Iterator[None]:
    """
    Turn any error raised inside into an `InvalidAddress` of one line, which begins with `what`, such as the file's
    path.

    cryptography and OpenSSL raise errors of many kinds for an invalid file, and add more with each release.
    """
    try:
        yield
    except InvalidAddress:
        raise
    except Exception as error:
        raise InvalidAddress(f"{what}: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    """Return an error as one line. OpenSSL's errors are a list of (library, function, reason)."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    told = error.args[0] if error.args else None
    if isinstance(told, list):
        return "OpenSSL refuses it: " + (", ".join(str(each[-1]) for each in told) or "it gives no reason")
    return " ".join(f"{type(error).__name__}: {error}".split())


def read_identity(certificate: Path, key: Path | None = None, chain: Path | None = None) -> Identity:
    """
    Read these PEM files. Without a `key`, the file of the certificate must hold the private key, too. It can also hold
    the `chain`.

    Raises `InvalidAddress` if a file cannot be read or lacks the content, if the key belongs to another certificate, or
    if the certificate is not valid now.
    """
    first, *others = certificates_in(certificate)
    if chain is not None:
        others += certificates_in(chain)
    at = certificate if key is None else key
    secret = _key_in(at, _read(at))
    with named(certificate):
        if secret.public_key() != first.public_key():
            raise InvalidAddress(f"{at}: the private key does not belong to the certificate in {certificate}")
        _check_dates(first, certificate)
        return Identity(first, secret, tuple(others), tuple(names_of(first)), certificate)


def read_directory(path: Path) -> Directory:
    """
    Read the PEM files (``*.pem``) of a directory, in the order of their names: a certificate for each key.

    A key can be in its certificate's file, or in a file of its own. The chain of a certificate is in the certificate's
    file. The error of a file is one of the `troubles`; all other files are still read.
    """
    found = Directory()
    certificates: list[tuple[Path, list[x509.Certificate]]] = []
    keys: list[tuple[Path, Any]] = []
    for file in pem_files(path):
        try:
            content = _read(file)
            if CERTIFICATE in content:
                certificates.append((file, _certificates(file, content)))
            if KEY in content:
                keys.append((file, _key_in(file, content)))
        except InvalidAddress as error:
            found.troubles.append(str(error))
    unused = dict(keys)
    for file, held in certificates:
        try:
            with named(file):
                found.identities += _identities(file, held, keys, unused)
        except InvalidAddress as error:
            found.troubles.append(str(error))
    found.troubles += [f"{file}: no certificate in {path} goes with this private key" for file in unused]
    return found


def _identities(
    file: Path, held: list[x509.Certificate], keys: list[tuple[Path, Any]], unused: dict[Path, Any]
) -> Iterator[Identity]:
    """
    Yield an identity for each certificate in `file` whose key is among `keys`. Used keys are removed from `unused`.
    """
    for first in held:
        public = first.public_key()
        at, key = next(((at, key) for at, key in keys if key.public_key() == public), (None, None))
        if at is not None:
            unused.pop(at, None)
            _check_dates(first, file)
            chain = tuple(each for each in held if each is not first)
            yield Identity(first, key, chain, tuple(names_of(first)), file)


def pem_files(path: Path) -> list[Path]:
    """
    Return the paths of the PEM files (``*.pem``) of a directory, in the order of their names; none if it cannot be
    read.
    """
    try:
        return sorted(path.glob("*.pem"))
    except OSError:
        return []


def certificates_in(path: Path) -> list[x509.Certificate]:
    """Return all certificates in a PEM file. Raises `InvalidAddress` if there is none."""
    return _certificates(path, _read(path))


def roots_in(path: Path) -> list[x509.Certificate]:
    """
    Return the authorities in a PEM file, or in the files ``*.pem`` of a directory. Raises `InvalidAddress` if there is
    none.
    """
    if not path.is_dir():
        return certificates_in(path)
    found = [each for file in pem_files(path) for each in certificates_in(file)]
    if not found:
        raise InvalidAddress(f"{path}: there is no certificate in it, in files *.pem")
    return found


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except Exception as error:
        raise InvalidAddress(f"{path}: it holds no certificate in PEM ({_in_words(error)})") from error


def _read(path: Path) -> bytes:
    with named(path), path.open("rb") as file:
        content = file.read(LONGEST_FILE + 1)
    if len(content) > LONGEST_FILE:
        raise InvalidAddress(f"{path}: it is longer than {LONGEST_FILE} bytes, and no PEM file")
    return content


def _key_in(path: Path, content: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        text = "its private key has a password; write one without: openssl pkey -in FILE -out NEW"
        raise InvalidAddress(f"{path}: {text}") from error
    except Exception as error:
        raise InvalidAddress(f"{path}: it holds no private key in PEM ({_in_words(error)})") from error


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
