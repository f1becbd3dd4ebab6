"""Certificates and keys in files: what is right is read, what is wrong is told before anybody is shown it."""

from __future__ import annotations

import errno
import os
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tcpapp.errors import InvalidAddress
from tcpapp.tls.files import (
    LONGEST_FILE,
    certificates_in,
    common_name,
    matches,
    names_of,
    read_directory,
    read_identity,
)


def split(files: Any) -> None:
    """Put the server's key and certificates into files of their own."""
    content = (files / "server.pem").read_text()
    key, *certificates = re.split(r"(?=-----BEGIN CERTIFICATE)", content)
    (files / "key.pem").write_text(key)
    (files / "cert.pem").write_text(certificates[0])
    (files / "chain.pem").write_bytes((files / "roots.pem").read_bytes())


def test_one_file_may_hold_it_all(files: Any) -> None:
    """A private key, the certificate to it, and the names it is for."""
    identity = read_identity(files / "server.pem")
    assert identity.names == ("localhost", "127.0.0.1")
    assert identity.key.public_key() == identity.certificate.public_key()


def test_each_may_have_a_file_of_its_own(files: Any) -> None:
    """Certificate, key, and what leads to the authority."""
    split(files)
    identity = read_identity(files / "cert.pem", files / "key.pem", files / "chain.pem")
    assert identity.chain == (files.authority._certificate,)


def test_a_directory_holds_as_many_as_there_are_keys(files: Any) -> None:
    """In the order of their names; keys may be in files of their own, and what has no key is left out."""
    split(files)
    (files / "server.pem").unlink()
    (files / "notes.pem").write_text("nothing of the kind")
    found = [each.names for each in read_directory(files.folder)]
    assert found == [("localhost", "127.0.0.1"), (), ("other.example", "*.wild.example")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.pem"], f"none.pem: {os.strerror(errno.ENOENT)}"),
        (["key.pem"], "key.pem: it holds no certificate in PEM"),
        (["cert.pem"], "cert.pem: it holds no private key in PEM"),
        (["cert.pem", "locked.pem"], "locked.pem: its private key has a password"),
        (["cert.pem", "other.pem"], "other.pem: the private key is not that of the certificate in"),
        (["long.pem"], f"long.pem: it is longer than {LONGEST_FILE} bytes, and no PEM file"),
        (["old.pem"], "old.pem: the certificate has expired: it was valid until "),
        (["new.pem"], "new.pem: the certificate is valid from "),
    ],
)
def test_what_is_not_right_is_told(files: Any, arguments: list[str], says: str) -> None:
    """With the file that it is wrong with."""
    split(files)
    (files / "long.pem").write_bytes(b"-" * (LONGEST_FILE + 1))
    now = datetime.now(timezone.utc)
    files.issue("old.pem", "localhost", not_before=now - timedelta(9), not_after=now - timedelta(1))
    files.issue("new.pem", "localhost", not_before=now + timedelta(1), not_after=now + timedelta(9))
    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (files / "locked.pem").write_bytes(key.private_bytes(*form, locked))
    with pytest.raises(InvalidAddress) as caught:
        read_identity(*(files / each for each in arguments))
    assert str(caught.value).startswith(f"{files.folder}/{says}")


def test_a_directory_without_a_pair_is_told(files: Any, tmp_path: Any) -> None:
    """A certificate whose key is elsewhere is none to be shown."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "roots.pem").write_bytes((files / "roots.pem").read_bytes())
    with pytest.raises(InvalidAddress, match="there is no certificate in it with its private key"):
        read_directory(empty)


def test_a_certificate_without_names_is_for_its_common_name(files: Any) -> None:
    """As old ones are; one that has neither is for nobody."""
    [root] = certificates_in(files / "roots.pem")
    assert (list(names_of(root)), common_name(root)) == ([], "")
    named = x509.load_pem_x509_certificate(
        (files / "client.pem").read_bytes()[(files / "client.pem").read_bytes().index(b"-----BEGIN CERT") :]
    )
    assert common_name(named) == "ann"


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
    """Of a host's name, and not of an address."""
    assert matches(pattern, name) == expected
