"""The certificates of a server and their reloads: an invalid file does not end the watch or affect other files."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from twisted.internet.task import Clock
from twisted.protocols.policies import WrappingFactory

from tcpapp import MessageServerFactory
from tcpapp.apps import BUILT_IN
from tcpapp.errors import InvalidAddress
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec, TLSServerFactory
from tests.transport.tls.contexts import first_of

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL


def weak(path: Path, name: str, bits: int = 1024) -> None:
    """Write a well-formed file with a certificate for this common name, whose key of 1,024 bits OpenSSL refuses."""
    key, now = rsa.generate_private_key(65537, bits), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, form, serialization.NoEncryption())
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))


def pair(files: Any, name: str) -> tuple[bytes, bytes]:
    """Return a new certificate for this name, and its key."""
    made = files.authority.issue_cert(name)
    return made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()


class Watched:
    """The contexts of a server, whose files are checked by a clock."""

    def __init__(self, spec: ServerSpec) -> None:
        self.contexts, self.clock = ServerContexts(spec), Clock()
        self.factory = TLSServerFactory(
            self.contexts, WrappingFactory(MessageServerFactory(BUILT_IN["echo"])), self.clock, 60
        )
        self.factory.doStart()

    def look(self) -> None:
        self.clock.advance(60)

    def shows(self, name: str) -> Any:
        return self.contexts.for_name(name.encode())

    def end(self) -> None:
        """Check that the files were watched until now, and stop the watch."""
        assert self.factory._watching.running
        self.factory.doStop()
        assert self.clock.getDelayedCalls() == []


def test_a_certificate_that_openssl_refuses_does_not_end_the_watch(files: Any, said: list[str]) -> None:
    """A certificate that OpenSSL refuses is logged once and the old one stays in use, until a new one is written."""
    watched = Watched(ServerSpec(certificate=files / "server.pem"))
    first = watched.shows("localhost")
    weak(files / "server.pem", "localhost")
    for _ in range(3):
        watched.look()
    assert watched.shows("localhost") is first
    [told] = [line for line in said if line.startswith("certificate not loaded")]
    assert told.startswith(f"certificate not loaded: {files / 'server.pem'}: OpenSSL refuses it: ")
    files.issue("server.pem", "localhost")
    watched.look()
    assert watched.shows("localhost") not in (None, first)
    watched.end()


def test_reload_raises_nothing(files: Any, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`reload` logs each error each time, and returns False."""
    contexts = ServerContexts(ServerSpec(certificate=files / "server.pem"))
    assert contexts.reload()
    weak(files / "server.pem", "localhost")
    assert (contexts.reload(), contexts.reload()) == (False, False)

    def fail(_: object) -> Any:
        raise RuntimeError("out of the blue")

    monkeypatch.setattr(ServerContexts, "_load", fail)
    assert not contexts.reload()
    told = [line for line in said if line.startswith("certificate not loaded")]
    assert [line.rpartition(": ")[2] for line in told][2:] == ["out of the blue"]
    assert len(told) == 3


def test_a_rotation_in_two_writes(files: Any, said: list[str]) -> None:
    """When the key is written before the certificate, the old pair stays in use until both are there."""
    (files / "cert.pem").write_bytes(pair(files, "a.example")[0])
    certificate, key = pair(files, "a.example")
    (files / "cert.pem").write_bytes(certificate)
    (files / "key.pem").write_bytes(key)
    watched = Watched(ServerSpec(certificate=files / "cert.pem", key=files / "key.pem"))
    first = watched.shows("a.example")
    certificate, key = pair(files, "a.example")
    (files / "key.pem").write_bytes(key)
    watched.look()
    assert watched.shows("a.example") is first
    assert "the private key does not belong to the certificate" in said[-2]
    (files / "cert.pem").write_bytes(certificate)
    watched.look()
    assert watched.shows("a.example") is not first
    watched.end()


def test_a_directory_rotates_in_two_writes(files: Any, tmp_path: Path, said: list[str]) -> None:
    """
    In a directory, the old pair stays in use until both files are written.

    A certificate whose files were removed is not used any more.
    """
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name in ("a.example", "b.example"):
        certificate, key = pair(files, name)
        (folder / f"{name}.cert.pem").write_bytes(certificate)
        (folder / f"{name}.key.pem").write_bytes(key)
    watched = Watched(ServerSpec(directory=folder))
    first = watched.shows("a.example")
    certificate, key = pair(files, "a.example")
    (folder / "a.example.key.pem").write_bytes(key)
    watched.look()
    assert watched.shows("a.example") is first
    cert_file, key_file = folder / "a.example.cert.pem", folder / "a.example.key.pem"
    assert said[:2] == [
        f"certificate not loaded: {key_file}: no certificate in {folder} goes with this private key",
        f"certificate not loaded: {cert_file}: there is no private key in {folder} to the certificate in it",
    ]
    cert_file.write_bytes(certificate)
    watched.look()
    assert watched.shows("a.example") not in (None, first)
    for each in (cert_file, key_file):
        each.unlink()
    watched.look()
    assert watched.shows("a.example") is None
    assert watched.shows("b.example") is not None
    watched.end()


def test_a_bad_certificate_of_a_directory_does_not_affect_the_others(files: Any, said: list[str]) -> None:
    """The valid certificates of a directory are used; each invalid one is logged once, when listening begins."""
    weak(files / "weak.pem", "weak.example")
    past = datetime.now(timezone.utc) - timedelta(1)
    files.issue("expired.pem", "expired.example", not_after=past)
    contexts = ServerContexts(ServerSpec(directory=files.folder))
    assert said == []
    assert len(contexts.troubles) == 2
    contexts.log_troubles()
    contexts.serverConnectionForTLS(None)
    assert len(said) == 2
    files.issue("expired2.pem", "more.example", not_after=past)
    contexts.check_files()
    assert len([line for line in said if line.startswith("certificate not loaded")]) == 3
    assert contexts.for_name(b"other.example") is not None
    files.issue("expired.pem", "expired.example")
    contexts.check_files()
    assert contexts.for_name(b"expired.example") is not None
    first = contexts.for_name(b"expired.example")
    files.issue("expired.pem", "expired.example", not_after=past)
    files.issue("new.pem", "new.example")
    contexts.check_files()
    assert contexts.for_name(b"new.example") is not None
    assert contexts.for_name(b"expired.example") is first


def test_a_certificate_that_becomes_valid_is_used_then(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate is used once its validity begins, although its file has not changed since it was refused."""
    contexts = ServerContexts(ServerSpec(certificate=files / "server.pem"))
    first = first_of(contexts)
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    files.issue("server.pem", "localhost", not_before=soon, not_after=soon + timedelta(1))
    contexts.check_files()
    assert first_of(contexts) is first

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return soon + timedelta(minutes=1)

    monkeypatch.setattr("tcpapp.transport.tls.files.datetime", Later)
    contexts.check_files()
    assert first_of(contexts) is not first


@pytest.mark.parametrize("what", ["one file", "directory", "authorities"])
def test_a_server_without_a_valid_certificate_is_refused(files: Any, tmp_path: Path, what: str) -> None:
    """Without any valid certificate or authority, InvalidAddress is raised in one line with the error of each file."""
    folder = tmp_path / "bad"
    folder.mkdir()
    weak(folder / "weak.pem", "weak.example")
    (files / "torn.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
    spec = {
        "one file": ServerSpec(certificate=folder / "weak.pem"),
        "directory": ServerSpec(directory=folder),
        "authorities": ServerSpec(directory=files.folder, clients="wished", authorities=files / "torn.pem"),
    }[what]
    with pytest.raises(InvalidAddress, match=r"weak\.pem: OpenSSL refuses it|torn\.pem: it holds no cert") as caught:
        ServerContexts(spec)
    assert "\n" not in str(caught.value)


def test_names_are_found_however_they_are_written(files: Any) -> None:
    """`for_name` finds a name in capitals or with a dot at the end; an impossible name has no certificate."""
    weak(files / "big.pem", "BIG.Example", bits=2048)
    contexts = ServerContexts(ServerSpec(directory=files.folder))
    found = contexts.for_name(b"big.example")
    assert found is not None
    assert contexts.for_name(b"BIG.example.") is found
    assert contexts.for_name(b"OTHER.Example") is contexts.for_name(b"other.example")
    assert contexts.for_name(b"\xff.example") is None
    assert contexts.for_name(None) is None


def test_relative_paths_are_resolved_once(files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are resolved once: after a change of the current directory, `reload` reads the same files."""
    monkeypatch.chdir(files.folder)
    contexts = ServerContexts(ServerSpec(certificate=Path("server.pem")))
    monkeypatch.chdir("/")
    assert contexts.reload()
    assert contexts.spec.certificate == files / "server.pem"
