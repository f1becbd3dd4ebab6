"""Admission and accept rate on real sockets: over TCP, TLS and UNIX."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import DeferredList, ensureDeferred, gatherResults
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from tcpapp import Limits
from tcpapp.apps import echo
from tcpapp.limits import Policies
from tcpapp.limits.networks import Networks
from tests.patience import LONGEST

from .peers import Noted, bounded, until

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

LOOPBACK = Networks(deny=["127.0.0.0/8"])


@bounded
async def test_a_denied_client_is_reset_before_anything_is_read(serve: Any, dial: Any) -> None:
    """A client from a denied network is reset and counted, and the app is not called."""
    app = Noted()
    server = await serve(app, networks=LOOPBACK)
    peer = await dial(server.port)
    peer.say(b"hello\n")
    assert not isinstance(await peer.lost, ConnectionDone)
    assert (peer.data, app.opened_by, app.reasons) == (b"", [], [])
    assert server.info().refused == {"network-denied": 1}


@bounded
async def test_over_tls_no_handshake_is_made_with_a_denied_client(serve: Any, dial: Any, certificates: Path) -> None:
    """A denied client that begins a TLS handshake gets no byte and a reset."""
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={certificates}/key.pem:certKey={certificates}/cert.pem"
    server = await serve(echo, endpoint, networks=LOOPBACK)
    peer = await dial(server.port)
    peer.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert not isinstance(await peer.lost, ConnectionDone)
    assert peer.data == b""


@bounded
async def test_max_per_address_counts_addresses_and_no_unix_sockets(serve: Any, join: Any, tmp_path: Path) -> None:
    """
    With ``max_per_address=2``, the third connection of an address is closed. UNIX sockets have no address to count.
    """
    limits = Limits(max_per_address=2)
    server = await serve(echo, limits=limits)
    clients = [await join(server) for _ in range(3)]
    assert [await each.request(b"hello") for each in clients[:2]] == [b"hello"] * 2
    assert (await clients[2].when_closed()).rule == "end-of-stream"
    assert server.refused == 1
    local = await serve(echo, f"unix:{tmp_path}/socket", limits=limits)
    others = [await join(f"unix:{tmp_path}/socket") for _ in range(4)]
    assert await gatherResults([each.request(b"hello") for each in others]) == [b"hello"] * 4
    assert local.refused == 0


@bounded
async def test_clients_over_the_accept_rate_are_all_served(serve: Any, join: Any, global_reactor: Any) -> None:
    """Of 60 clients at 40 a second, the last 20 wait in the backlog for a second. The server refuses and loses none."""
    clock = Clock()
    server = await serve(echo, limits=Limits(accept_rate=40), clock=clock)
    joined = await DeferredList([join(server) for _ in range(60)], fireOnOneErrback=True, consumeErrors=True)
    replies = [client.request(b"hello") for _, client in joined]
    await until(global_reactor, lambda: sum(each.called for each in replies) == 40)
    assert server._factory.accept_control.is_paused
    clock.advance(1)
    assert await gatherResults(replies) == [b"hello"] * 60
    assert (server.refused, len(server.connections)) == (0, 60)


class Full:
    """A wrapper of the reactor's epoll object. Only `room` more descriptors can be watched."""

    def __init__(self, watches: Any, room: int = 0) -> None:
        self._watches = watches
        self.room = room

    def register(self, descriptor: int, flags: int) -> None:
        """Register a descriptor as `select.epoll` does, or fail when there is no room."""
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= 1
        self._watches.register(descriptor, flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watches, name)


@bounded
async def test_clients_that_the_event_loop_cannot_watch_are_closed(
    serve: Any, join: Any, global_reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When ``epoll_ctl`` fails, each new client is closed and counted, and open connections are still served."""
    holder, name = (getattr(global_reactor, "watches", None) or global_reactor), "_epoll"
    if holder is global_reactor:
        name = "_poller"
    if getattr(holder, name, None) is None:
        pytest.skip("this reactor does not watch by epoll")
    limits = Limits(work_per_turn=0)  # a connection that waits for a turn is watched again
    server = await serve(echo, limits=limits)
    healthy = await join(server, limits=limits)
    assert await healthy.request(b"before") == b"before"
    strangers = [socket.socket() for _ in range(30)]
    monkeypatch.setattr(holder, name, Full(getattr(holder, name)))
    for each in strangers:
        each.connect(("127.0.0.1", server.port))
    await until(global_reactor, lambda: server.refused == 30)
    monkeypatch.undo()
    for each in strangers:
        each.settimeout(LONGEST)
        assert each.recv(1) == b""
        each.close()
    assert server.info().refused == {"not-accepted": 30}
    assert await healthy.request(b"after") == b"after"
    assert await (await join(server)).request(b"new") == b"new"
    assert len(server.connections) == 2


@bounded
async def test_clients_can_wait_until_a_connection_ends(serve: Any, join: Any) -> None:
    """With ``over_max_connections="wait"``, thirty clients for three places are all served, three at a time."""
    server = await serve(echo, limits=Limits(max_connections=3), policies=Policies(over_max_connections="wait"))
    most = 0

    async def visit() -> bytes:
        nonlocal most
        client = await join(server)
        reply: bytes = await client.request(b"hello")
        most = max(most, len(server.connections))
        await client.close()
        return reply

    assert await gatherResults([ensureDeferred(visit()) for _ in range(30)]) == [b"hello"] * 30
    assert (server.refused, most) == (0, 3)
