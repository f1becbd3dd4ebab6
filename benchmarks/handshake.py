"""How long one step of a TLS handshake blocks a server's loop: OpenSSL's time for a ClientHello."""

from __future__ import annotations

import contextlib
import ssl
import statistics
import tempfile
import time
from pathlib import Path

import trustme
from OpenSSL import SSL

from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec

TIMES = 200

KEYS = {"tcpapp-tls": trustme.KeyType.ECDSA, "tcpapp-tls-rsa": trustme.KeyType.RSA}
"""The key of each server's certificate: ECDSA on P-256, or RSA with 2,048 bits."""


def write_certificate(server: str, path: Path) -> None:
    """Write a certificate for localhost, with its key, into one file."""
    made = trustme.CA().issue_cert("localhost", key_type=KEYS[server])
    made.private_key_and_cert_chain_pem.write_to_path(str(path))


def microseconds(server: str) -> float:
    """Return the median of the processor time that such a server's OpenSSL takes for a ClientHello."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cert.pem"
        write_certificate(server, path)
        contexts = ServerContexts(ServerSpec(certificate=path))
    return statistics.median(_once(contexts) for _ in range(TIMES)) * 1e6


def client_hello() -> bytes:
    """Return the first bytes that a TLS client sends."""
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl._create_unverified_context().wrap_bio(ssl.MemoryBIO(), sent).do_handshake()
    return sent.read()


def _once(contexts: ServerContexts) -> float:
    connection = contexts.serverConnectionForTLS(None)
    connection.set_accept_state()
    connection.bio_write(client_hello())
    began = time.thread_time()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return time.thread_time() - began
