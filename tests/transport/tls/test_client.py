"""The server name of a TLS client: it is sent in one form, whatever its spelling, and compared with the certificate."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from service_identity import VerificationError
from twisted.internet.endpoints import quoteStringArgument

from tcpapp import connect, listen
from tcpapp.errors import InvalidAddress
from tcpapp.transport.tls.client import client_options
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

NAMES = {
    "Bücher.example": "xn--bcher-kva.example",
    "BÜCHER.example.": "xn--bcher-kva.example",
    "Ünicode\uff0eEXAMPLE\u3002": "xn--nicode-2ya.example",
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "LOCALHOST.": "localhost",
    "under_score.example": "under_score.example",
    "ab--cd.example": "ab--cd.example",
    "\u2603.example": "xn--n3h.example",
    "127.0.0.1": None,
    "::1": None,
    "fe80::1%eth0": None,
}
"""Names, each with the server name that the server gets (SNI): none for an address (RFC 6066, section 3)."""


def certificate(folder: Path) -> Path:
    """
    Write a certificate for all these names, which is its own authority, and return its path.

    trustme accepts no name that IDNA refuses.
    """
    key, now, name = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc), x509.Name([])
    hosts = [x509.DNSName(each) for each in dict.fromkeys(NAMES.values()) if each]
    addresses = [x509.IPAddress(ip_address(each)) for each in ("127.0.0.1", "::1", "fe80::1")]
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([*hosts, *addresses]), critical=True)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = key.private_bytes(pem, form, serialization.NoEncryption())
    path = folder / "all.pem"
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


def asked(message: bytes, connection: Any) -> bytes:
    """Return the name that the client asked for."""
    return str(connection.tls.server_name).encode()


def quoted(value: Any) -> str:
    made: str = quoteStringArgument(str(value))
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a file with a certificate for all `NAMES`, and its key."""
    return certificate(tmp_path)


@pytest.fixture
def server(file: Path) -> Any:
    """Give a server with the certificate of `file`."""
    made = pytest_twisted.blockon(listen(f"tls:0:interface=127.0.0.1:certificate={quoted(file)}", asked))
    yield made
    pytest_twisted.blockon(made.close(0))


@pytest.mark.parametrize("kind", ["tls", "ssl"])
@pytest.mark.parametrize("name", NAMES)
@pytest_twisted.ensureDeferred
async def test_a_name_is_sent_and_compared_in_one_form(file: Path, server: Any, kind: str, name: str) -> None:
    """Whatever its capitals and dots, a name is sent to the server in one form and matches the certificate."""
    trusted = f"trustRoots={quoted(file)}" if kind == "tls" else f"caCertsDir={quoted(file.parent)}"
    client = await connect(f"{kind}:127.0.0.1:{server.port}:{trusted}:hostname={quoted(name)}")
    assert await client.request(b"?") == str(NAMES[name]).encode()
    await client.close()


@pytest.mark.parametrize("name", ["bÜcher.example.", "other.example"])
@pytest_twisted.ensureDeferred
async def test_a_name_in_mid_conversation(file: Path, name: str) -> None:
    """`start_tls` takes names in the same way, and rejects a certificate for another name."""
    contexts = ServerContexts(ServerSpec(certificate=file))

    async def app(message: bytes, connection: Any) -> Any:
        if message == b"STARTTLS":
            await connection.start_tls(contexts, last=b"go ahead")
            return None
        return asked(message, connection)

    server = await listen("tcp:0:interface=127.0.0.1", app)
    client = await connect(f"tcp:127.0.0.1:{server.port}")
    await client.request(b"STARTTLS")
    starting = client.start_tls(client_options(name, trust=file))
    if name == "other.example":
        with pytest.raises(VerificationError):
            await starting
    else:
        await starting
        assert await client.request(b"?") == b"xn--bcher-kva.example"
    await client.close()
    await server.close(0)


@pytest.mark.parametrize("name", ["", "a b", "a..b", "1.2.3", "\ud800", b"localhost", None])
def test_an_invalid_server_name_raises(file: Path, name: Any) -> None:
    """An invalid server name raises InvalidAddress with its value, before any file is read."""
    says = f"hostname={name!r}: takes an IP address or a host name (RFC 1123; not ending in a number)"
    for trust in (None, file):
        with pytest.raises(InvalidAddress) as raised:
            client_options(name, trust=trust)
        assert str(raised.value) == says
