"""Certificates and keys in files: valid ones are read, and errors are reported before any peer sees them."""

from __future__ import annotations

import errno
import os
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL

from tcpapp.errors import InvalidAddress
from tcpapp.transport.tls.files import LONGEST_FILE, named, pem_files, read_directory, read_identity, roots_in


def split(files: Any) -> None:
    """Put the server's key and certificates into files of their own."""
    content = (files / "server.pem").read_text()
    key, *certificates = re.split(r"(?=-----BEGIN CERTIFICATE)", content)
    (files / "key.pem").write_text(key)
    (files / "cert.pem").write_text(certificates[0])
    (files / "chain.pem").write_bytes((files / "roots.pem").read_bytes())


def test_one_file_can_hold_key_and_certificate(files: Any) -> None:
    """One file can hold the private key and the certificate; the identity has the names of the certificate."""
    identity = read_identity(files / "server.pem")
    assert identity.names == ("localhost", "127.0.0.1")
    assert identity.key.public_key() == identity.certificate.public_key()


def test_certificate_key_and_chain_can_be_in_three_files(files: Any) -> None:
    """Certificate, key, and the chain to the authority can each have a file of its own."""
    split(files)
    identity = read_identity(files / "cert.pem", files / "key.pem", files / "chain.pem")
    assert identity.chain == (files.authority._certificate,)


def test_a_directory_has_an_identity_for_each_key(files: Any) -> None:
    """
    A directory gives an identity for each key, in the order of the files' names.

    The key can be in a file of its own; a certificate without a key is skipped.
    """
    split(files)
    (files / "server.pem").unlink()
    (files / "notes.pem").write_text("nothing of the kind")
    held = read_directory(files.folder)
    assert held.troubles == []
    assert [each.names for each in held.identities] == [
        ("localhost", "127.0.0.1"),
        (),
        ("other.example", "*.wild.example"),
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.pem"], f"none.pem: {os.strerror(errno.ENOENT)}"),
        (["key.pem"], "key.pem: it holds no certificate in PEM"),
        (["cert.pem"], "cert.pem: it holds no private key in PEM"),
        (["cert.pem", "locked.pem"], "locked.pem: its private key has a password"),
        (["cert.pem", "other.pem"], "other.pem: the private key does not belong to the certificate in"),
        (["long.pem"], f"long.pem: it is longer than {LONGEST_FILE} bytes, and no PEM file"),
        (["old.pem"], "old.pem: the certificate has expired: it was valid until "),
        (["new.pem"], "new.pem: the certificate is valid from "),
    ],
)
def test_an_invalid_file_is_named(files: Any, arguments: list[str], says: str) -> None:
    """An invalid file raises InvalidAddress with the file's path and its error."""
    split(files)
    (files / "long.pem").write_bytes(b"-" * (LONGEST_FILE + 1))
    now = datetime.now(timezone.utc)
    files.issue("old.pem", "localhost", not_before=now - timedelta(9), not_after=now - timedelta(1))
    files.issue("new.pem", "localhost", not_before=now + timedelta(1), not_after=now + timedelta(9))
    (files / "locked.pem").write_bytes((files / "key.pem").read_bytes())
    lock(files, "locked.pem")
    with pytest.raises(InvalidAddress) as caught:
        read_identity(*(files / each for each in arguments))
    assert str(caught.value).startswith(f"{files.folder}/{says}")


def lock(files: Any, name: str) -> None:
    """Give the private key in this file a password."""
    key = serialization.load_pem_private_key((files / name).read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (files / name).write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))


def test_a_bad_file_of_a_directory_does_not_affect_the_others(files: Any) -> None:
    """The other files of a directory are read, and each invalid file is reported in a line with its error."""
    files.issue("expired.pem", "old.example", not_after=datetime.now(timezone.utc) - timedelta(1))
    files.issue("locked.pem", "locked.example")
    lock(files, "locked.pem")
    files.issue("lonely.pem", "lonely.example")
    (files / "lonely.pem").write_text((files / "lonely.pem").read_text().partition("-----BEGIN CERT")[0])
    (files / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n")
    (files / "wide.pem").mkdir()
    held = read_directory(files.folder)
    assert [each.file.name for each in held.identities] == ["client.pem", "other.pem", "server.pem"]
    told = [each.removeprefix(f"{files.folder}/") for each in held.troubles]
    starts = [
        "locked.pem: its private key has a password; write one without: openssl pkey -in FILE -out NEW",
        "torn.pem: it holds no certificate in PEM (",
        "wide.pem: Is a directory",
        "expired.pem: the certificate has expired: it was valid until ",
        f"lonely.pem: no certificate in {files.folder} goes with this private key",
    ]
    assert len(told) == len(starts)
    assert all(line.startswith(start) for line, start in zip(told, starts, strict=True))


def test_a_directory_of_authorities_holds_at_least_one(files: Any, tmp_path: Any) -> None:
    """Authorities are read from a file or a directory; a directory without any raises InvalidAddress."""
    folder = tmp_path / "roots"
    folder.mkdir()
    with pytest.raises(InvalidAddress, match="there is no certificate in it"):
        roots_in(folder)
    (folder / "root.pem").write_bytes((files / "roots.pem").read_bytes())
    assert roots_in(folder) == roots_in(files / "roots.pem") == [files.authority._certificate]


def test_a_directory_that_cannot_be_read_has_no_files() -> None:
    """`pem_files` gives an empty list when the system raises an error."""

    class Broken:
        def glob(self, pattern: str) -> Any:
            raise PermissionError

    assert pem_files(Broken()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (SSL.Error([("x509", "", "key too small"), ("", "", "no")]), "OpenSSL refuses it: key too small, no"),
        (SSL.Error([]), "OpenSSL refuses it: it gives no reason"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (InvalidAddress("as it is"), "as it is"),
    ],
)
def test_an_error_of_a_file_becomes_one_line(raised: Exception, says: str) -> None:
    """`named` turns any error into an InvalidAddress of one line with the file's name, and keeps an InvalidAddress."""
    with pytest.raises(InvalidAddress) as caught, named("cert.pem"):
        raise raised
    assert str(caught.value) == (says if isinstance(raised, InvalidAddress) else f"cert.pem: {says}")
