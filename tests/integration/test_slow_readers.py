"""Unsent bytes when a connection begins to close, and a peer that reads slowly, or not at all."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tcpapp import Limits, Telemetry, Timeouts
from tcpapp.connection.protocol import protocol_of
from tcpapp.telemetry import Closed

from .peers import bounded

SIZE = 10_000_000
"""Bytes of a reply: more than the buffers of both ends can hold."""

QUIET = Timeouts(first_message=0, idle=0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file that holds a server's certificate and key."""
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture(params=["tcp", "tls"])
def endpoint(request: pytest.FixtureRequest, certificate: Path) -> str:
    """Give the endpoint of the server: once over TCP, and once over TLS."""
    rest = f":certificate={certificate}" if request.param == "tls" else ""
    return f"{request.param}:0:interface=127.0.0.1{rest}"


class SlowReader:
    """A client in a thread, which reads nothing until it is allowed to, and then a little at a time."""

    def __init__(self, port: int, tls: bool, says: bytes, half_closes: bool = False) -> None:
        self.go_on = threading.Event()
        self.data = bytearray()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run, args=(port, tls, says, half_closes))
        self.thread.start()

    def run(self, port: int, tls: bool, says: bytes, half_closes: bool) -> None:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plain.settimeout(60)
        plain.connect(("127.0.0.1", port))
        client = plain
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(plain)
        with client:
            client.sendall(says)
            if half_closes:
                client.shutdown(socket.SHUT_WR)
            self.go_on.wait(60)
            try:
                while data := client.recv(65536):
                    self.data += data
                if isinstance(client, ssl.SSLSocket):
                    client.unwrap()
            except OSError as error:
                self.error = error

    def over(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the client is closed. The reactor runs meanwhile, since it has to close the
        socket.
        """
        return deferToThread(self.thread.join)


class Server:
    """An app that replies much to each message, and reports a given number of messages."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.had: Deferred[None] = Deferred()
        self.ended: Deferred[Any] = Deferred()
        self.connection: Any = None

    def received(self, message: bytes, connection: Any) -> bytes:
        self.connection = connection
        self.count -= 1
        if not self.count:
            protocol_of(connection).clock.callLater(0, self.had.callback, None)
        return message * SIZE

    def telemetry(self) -> Telemetry:
        return Telemetry(lambda event: self.ended.callback(event.reason) if isinstance(event, Closed) else None)


FRAMING = f"line:max={SIZE}"


@bounded
async def test_a_close_sends_all_unsent_bytes_within_the_grace(serve: Any, endpoint: str) -> None:
    """When the server closes, a slow peer that has read nothing yet still gets the whole reply within the grace."""
    app = Server(1)
    server = await serve(app, endpoint, framing=FRAMING, timeouts=QUIET, telemetry=app.telemetry())
    reader = SlowReader(server.port, endpoint.startswith("tls"), b"a\n")
    await app.had
    app.connection.close(60)
    reader.go_on.set()
    reason = await app.ended
    await reader.over()
    assert (reason.rule, bytes(reader.data), reader.error) == ("closed", b"a" * SIZE + b"\n", None)
    assert server.info().buffered == 0


@bounded
async def test_a_peer_that_reads_nothing_is_cut_after_the_grace(serve: Any, endpoint: str) -> None:
    """A peer that reads nothing is cut after the grace. It gets a part of the reply, and the server frees the rest."""
    app = Server(1)
    server = await serve(app, endpoint, framing=FRAMING, timeouts=QUIET, telemetry=app.telemetry())
    reader = SlowReader(server.port, endpoint.startswith("tls"), b"a\n")
    await app.had
    app.connection.close(0.05)
    reason = await app.ended
    reader.go_on.set()
    await reader.over()
    assert (reason.rule, server.info().buffered) == ("grace-over", 0)
    assert len(reader.data) < SIZE


@bounded
async def test_a_drain_answers_all_messages_that_were_read(serve: Any, endpoint: str) -> None:
    """A peer that has not read for a time gets all its replies in a drain, once it reads."""
    app = Server(1)
    server = await serve(app, endpoint, framing=FRAMING, timeouts=QUIET, telemetry=app.telemetry())
    reader = SlowReader(server.port, endpoint.startswith("tls"), b"a\nb\nc\n")
    await app.had
    drained = server.drain(60)
    reader.go_on.set()
    await drained
    await reader.over()
    assert bytes(reader.data) == b"".join(each * SIZE + b"\n" for each in (b"a", b"b", b"c"))
    assert (server.info().connections, server.info().buffered) == (0, 0)


@bounded
async def test_a_half_close_is_answered_whatever_is_unsent(serve: Any) -> None:
    """After a half-close, four long replies wait until the peer reads, and all of them arrive."""
    app = Server(1)
    limits = Limits(max_buffered=50_000_000)
    server = await serve(app, framing=FRAMING, timeouts=QUIET, limits=limits, telemetry=app.telemetry())
    reader = SlowReader(server.port, False, b"a\nb\nc\nd\n", half_closes=True)
    await app.had
    reader.go_on.set()
    reason = await app.ended
    await reader.over()
    assert bytes(reader.data) == b"".join(bytes([each]) * SIZE + b"\n" for each in b"abcd")
    assert (reason.rule, server.info().buffered) == ("end-of-stream", 0)
