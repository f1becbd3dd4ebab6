"""The counts and the recordings of both ends of a connection, over real loopback ports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from tcpapp import Limits, Telemetry
from tcpapp.connection.protocol import protocol_of
from tcpapp.telemetry import Closed
from tcpapp.transport.tls.client import client_options
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec

from .peers import bounded, until

LARGE = 2_000_000
"""Bytes of a message: more than the kernel takes at once."""


class Notes:
    """A recorder that keeps the messages and the bytes."""

    def __init__(self) -> None:
        self.received_messages: list[bytes] = []
        self.sent_messages: list[bytes] = []
        self.sent_bytes = b""

    def received(self, messages: Sequence[bytes]) -> None:
        self.received_messages += messages

    def sending(self, messages: Sequence[bytes]) -> None:
        self.sent_messages += messages

    def sent(self, data: bytes) -> None:
        self.sent_bytes += data


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a server's certificate and key, and with the authority's certificate."""
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "roots.pem"))
    return folder


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@bounded
async def test_both_ends_count_and_record_the_same(
    kind: str, serve: Any, join: Any, files: Path, global_reactor: Any
) -> None:
    """Each end received what the other end sent: messages, bytes and contents, also after the end."""
    events: list[Any] = []
    certificate = f":certificate={files / 'server.pem'}" if kind == "tls" else ""
    server = await serve(
        lambda message, connection: message[::-1],
        f"{kind}:0:interface=127.0.0.1{certificate}",
        framing="int32:max=3000000",
        limits=Limits(max_unsent=10 * LARGE),
        telemetry=Telemetry(events.append),
    )
    trust = f":trustRoots={files / 'roots.pem'}:hostname=localhost" if kind == "tls" else ""
    client = await join(f"{kind}:127.0.0.1:{server.port}{trust}", framing="int32:max=3000000")
    ours, peers = Notes(), Notes()
    await until(global_reactor, lambda: bool(server.connections))
    [connection] = server.connections
    protocol_of(connection).record(ours)
    protocol_of(client).record(peers)
    for message in (b"one", b"x" * LARGE, b"three"):
        assert await client.request(message) == message[::-1]
    ends = [protocol_of(each).info() for each in (connection, client)]
    size = LARGE + len(b"onethree") + 3 * 4
    assert [(each.messages, each.bytes, each.sent_messages, each.sent_bytes) for each in ends] == [(3, size) * 2] * 2
    info = server.info()
    assert (info.messages, info.bytes, info.sent_messages, info.sent_bytes) == (3, size, 3, size)
    assert 0 < info.sent_message_rate <= 0.3
    assert (ours.received_messages, ours.sent_messages) == (peers.sent_messages, peers.received_messages)
    assert len(ours.sent_bytes) == len(peers.sent_bytes) == size
    await client.close()
    await until(global_reactor, lambda: not server.connections)
    [closed] = [each for each in events if isinstance(each, Closed)]
    assert (closed.messages, closed.sent_bytes, closed.duration > 0) == (3, size, True)
    assert (server.info().sent_bytes, protocol_of(connection).info().sent_bytes) == (size, size)


@bounded
async def test_a_recording_goes_on_when_tls_begins_in_mid_conversation(serve: Any, join: Any, files: Path) -> None:
    """A recorder hears the messages before and after `start_tls`, and nothing of the handshake."""
    contexts = ServerContexts(ServerSpec(certificate=files / "server.pem"))

    def app(message: bytes, connection: Any) -> Any:
        if message == b"STARTTLS":
            return connection.start_tls(contexts, last=b"go ahead").addCallback(lambda _: None)
        return message.upper()

    server = await serve(app)
    client = await join(server)
    notes = Notes()
    protocol_of(client).record(notes)
    assert await client.request(b"STARTTLS") == b"go ahead"
    await client.start_tls(client_options("localhost", trust=files / "roots.pem"))
    assert await client.request(b"secret") == b"SECRET"
    assert notes.received_messages == [b"go ahead", b"SECRET"]
    assert (notes.sent_messages, notes.sent_bytes) == ([b"STARTTLS", b"secret"], b"STARTTLS\nsecret\n")
