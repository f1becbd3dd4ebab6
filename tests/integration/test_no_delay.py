"""Nagle's algorithm delays no small write, through each kind of endpoint over TCP, unless the policy asks for it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import endpoints
from twisted.python.systemd import ListenFDs

from tcpapp import Policies
from tcpapp.connection.protocol import protocol_of
from tcpapp.proxy_protocol import Command, Family, Header
from tcpapp.transport.layers import bottom_of
from tcpapp.transport.tls.client import client_options
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec

from .peers import Noted, bounded

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

TCP = "tcp:0:interface=127.0.0.1"


def delays(connection: Any) -> bool:
    """Return whether the kernel can hold back small writes of this connection."""
    return not bottom_of(protocol_of(connection).transport).getTcpNoDelay()


@pytest.fixture
def tls(certificates: Path) -> dict[str, str]:
    """Give a server's endpoints with TLS, by their kind."""
    pem = f"{certificates}/cert.pem:privateKey={certificates}/key.pem"
    return {"tls": f"tls:0:interface=127.0.0.1:certificate={pem}", "ssl": f"ssl:0:interface=127.0.0.1:certKey={pem}"}


@pytest.mark.parametrize("kind", ["tcp", "tls", "ssl", "haproxy:tcp", "haproxy:tls"])
@bounded
async def test_small_writes_go_out_at_once(kind: str, tls: Any, certificates: Path, serve: Any, join: Any) -> None:
    """Servers and clients set TCP_NODELAY, over TCP and TLS and behind a proxy."""
    app = Noted()
    proxied, name = kind.startswith("haproxy:"), kind.removeprefix("haproxy:")
    server = await serve(app, f"{'haproxy:' if proxied else ''}{tls.get(name, TCP)}")
    trusted = f"tls:localhost:{server.port}:trustRoots={certificates}/roots"
    where = server if name == "tcp" else trusted
    client = await join(where, proxy_header=Header(2, Command.LOCAL, Family.UNSPEC) if proxied else None)
    assert await client.request(b"hello") == b"hello"
    [served] = app.opened_by
    assert [delays(each) for each in (client, served)] == [False, False]


@bounded
async def test_small_writes_go_out_at_once_after_start_tls(certificates: Path, serve: Any, join: Any) -> None:
    """TCP_NODELAY stays set when both ends change to TLS in the middle of a conversation."""
    contexts = ServerContexts(ServerSpec(certificate=certificates / "cert.pem", key=certificates / "key.pem"))

    async def app(message: bytes, connection: Any) -> Any:
        if message == b"STARTTLS":
            await connection.start_tls(contexts, last=b"go ahead")
            return None
        return str(delays(connection)).encode()

    client = await join(await serve(app))
    await client.request(b"STARTTLS")
    await client.start_tls(client_options("localhost", trust=certificates / "roots"))
    assert (await client.request(b"?"), delays(client)) == (b"False", False)


@bounded
async def test_a_socket_that_was_handed_over_sends_small_writes_at_once(
    serve: Any, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that is handed over, as systemd does, has TCP_NODELAY set on its connections."""
    app = Noted()
    with socket.create_server(("127.0.0.1", 0)) as given:
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs([given.fileno()], ["app"]))
        server = await serve(app, "systemd:name=app")
        client = await join(server)
        assert await client.request(b"hello") == b"hello"
        assert [delays(each) for each in app.opened_by] == [False]


@bounded
async def test_without_no_delay_the_kernel_can_hold_small_writes_back(serve: Any, join: Any) -> None:
    """With ``no_delay=False`` TCP_NODELAY is off at both ends, on both reactors; uvloop by itself would set it."""
    app = Noted()
    left = Policies(no_delay=False)
    client = await join(await serve(app, policies=left), policies=left)
    assert await client.request(b"hello") == b"hello"
    assert [delays(each) for each in (client, *app.opened_by)] == [True, True]


@bounded
async def test_a_unix_socket_has_nothing_to_set(serve: Any, join: Any, tmp_path: Path) -> None:
    """A UNIX socket, which has no TCP_NODELAY, works, and nothing is logged about it."""
    await serve(Noted(), f"unix:{tmp_path}/socket")
    client = await join(f"unix:{tmp_path}/socket")
    assert await client.request(b"hello") == b"hello"
