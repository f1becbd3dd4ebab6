"""A peer that has half-closed still gets its replies, through each kind of endpoint with half-close."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tcpapp import Telemetry, conversation
from tcpapp.telemetry import Closed
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec
from tests.patience import PATIENCE
from tests.secret import Secret

from .peers import bounded

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

ANNOUNCED = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 7007\r\n"


def answers(kind: str, where: Any) -> bytes:
    """Return the replies to a peer that sends two messages, half-closes, and reads to the end."""
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as plain:
        plain.settimeout(PATIENCE)
        plain.connect(where if kind == "unix" else ("127.0.0.1", where))
        if kind.startswith("haproxy:"):
            plain.sendall(ANNOUNCED)
        if kind == "starttls":
            plain.sendall(b"STARTTLS\n")
            heard = b""
            while heard != b"go ahead\n":
                heard += plain.recv(100)
        secret = "tls" in kind
        client = Secret(plain, "1.2" if kind.endswith("1.2") else "1.3") if secret else plain
        client.sendall(b"one\ntwo\n")
        client.shutdown(socket.SHUT_WR)
        if kind == "tls, and TCP":
            plain.shutdown(socket.SHUT_WR)
        heard = b""
        while some := client.recv(1000):
            heard += some
        return heard


@pytest.fixture
def ended() -> Any:
    """Give a list for the reasons of ended server connections, with the telemetry that fills it."""

    class Ended(list[Any]):
        def note(self, event: Any) -> None:
            if isinstance(event, Closed):
                self.append(event.reason)

        @property
        def telemetry(self) -> Telemetry:
            return Telemetry(self.note)

    return Ended()


KINDS = ["tcp", "unix", "tls", "tls, and TCP", "ssl, tls", "haproxy:tcp", "haproxy:tls", "starttls"]


@pytest.mark.parametrize("kind", [*KINDS, "tls 1.2"])
@bounded
async def test_a_peer_that_has_half_closed_gets_its_answers(
    kind: str, serve: Any, ended: Any, certificates: Path, tmp_path: Path
) -> None:
    """
    A peer gets the answers that the app sends after the peer's half-close. Over TLS 1.2, without half-close, they are
    dropped.
    """
    contexts = ServerContexts(ServerSpec(certificate=certificates / "cert.pem", key=certificates / "key.pem"))

    @conversation
    async def in_the_end(connection: Any) -> None:
        messages = []
        async for message in connection:
            if message == b"STARTTLS":
                await connection.start_tls(contexts, last=b"go ahead")
            else:
                messages.append(message)
        await connection.send(b"+".join(messages))

    pem = f"{certificates}/cert.pem:privateKey={certificates}/key.pem"
    endpoint = "tcp:0:interface=127.0.0.1"
    if kind == "unix":
        endpoint = f"unix:{tmp_path}/socket"
    elif "ssl" in kind:
        endpoint = f"ssl:0:interface=127.0.0.1:certKey={pem}"
    elif "tls" in kind and kind != "starttls":
        endpoint = f"tls:0:interface=127.0.0.1:certificate={pem}"
    server = await serve(
        in_the_end, f"haproxy:{endpoint}" if kind.startswith("haproxy") else endpoint, telemetry=ended.telemetry
    )
    heard = await deferToThread(answers, kind, f"{tmp_path}/socket" if kind == "unix" else server.port)
    assert heard == (b"" if kind == "tls 1.2" else b"one+two\n")
    await server.drain()
    assert [(reason.rule, str(reason.by), reason.clean) for reason in ended] == [("end-of-stream", "peer", True)]


def leave(kind: str, port: int) -> bytes:
    """Read until the server has closed, and then end TCP without close_notify. Return the received bytes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
        client = context.wrap_socket(plain) if kind == "tls" else plain
        with client:
            client.sendall(b"bye\n")
            heard = b""
            while some := client.recv(100):
                heard += some
            return heard


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@bounded
async def test_an_end_without_close_notify_after_the_servers_close_is_clean(
    kind: str, serve: Any, ended: Any, certificates: Path
) -> None:
    """When the peer ends without close_notify after the server has closed, the end is clean, over TLS as over TCP."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return message

    pem = f"{certificates}/cert.pem:privateKey={certificates}/key.pem"
    endpoint = f"tls:0:interface=127.0.0.1:certificate={pem}" if kind == "tls" else "tcp:0:interface=127.0.0.1"
    server = await serve(app, endpoint, telemetry=ended.telemetry)
    assert await deferToThread(leave, kind, server.port) == b"bye\n"
    await server.drain()
    assert [(reason.rule, str(reason.by), reason.clean) for reason in ended] == [("closed", "us", True)]
