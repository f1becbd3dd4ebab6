"""Servers, clients and raw peers on real loopback ports, which end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tcpapp import Connection, Listening, connect, listen

from .peers import Peer, PeerFactory

ANY_PORT = "tcp:0:interface=127.0.0.1"

Serve = Callable[..., Deferred[Listening]]
Join = Callable[..., Deferred[Connection]]
Dial = Callable[[int], Deferred[Peer]]


@pytest.fixture
def serve(global_reactor: Any) -> Iterator[Serve]:
    """Give ``serve(app, endpoint, **options)``: `listen`, by default on any free port of the loopback interface."""
    servers: list[Listening] = []

    def start(app: Any, endpoint: Any = ANY_PORT, **options: Any) -> Deferred[Listening]:
        def keep(server: Listening) -> Listening:
            servers.append(server)
            return server

        return listen(endpoint, app, reactor=global_reactor, **options).addCallback(keep)

    yield start
    for each in servers:
        pytest_twisted.blockon(each.close(0))


@pytest.fixture
def join(global_reactor: Any) -> Iterator[Join]:
    """Give ``join(server or endpoint, app, **options)``: `connect` to this server."""
    clients: list[Connection] = []

    def start(server: Any, app: Any = None, **options: Any) -> Deferred[Connection]:
        def keep(client: Connection) -> Connection:
            clients.append(client)
            return client

        endpoint = f"tcp:127.0.0.1:{server.port}" if isinstance(server, Listening) else server
        return connect(endpoint, app, reactor=global_reactor, **options).addCallback(keep)

    yield start
    for each in clients:
        each.abort()
        pytest_twisted.blockon(each.when_closed())


@pytest.fixture
def dial(global_reactor: Any) -> Iterator[Dial]:
    """Give ``dial(port)``: a connected peer that is not part of tcpapp, and sends plain bytes."""
    peers: list[Peer] = []

    def start(port: int) -> Deferred[Peer]:
        def keep(peer: Peer) -> Peer:
            peers.append(peer)
            return peer

        return TCP4ClientEndpoint(global_reactor, "127.0.0.1", port).connect(PeerFactory()).addCallback(keep)

    yield start
    for each in peers:
        each.transport.abortConnection()
        pytest_twisted.blockon(each.lost)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder: the server's ``key.pem`` and ``cert.pem``, and ``roots/`` with the trusted authorities."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    ours = authority.issue_cert("localhost", "127.0.0.1")
    ours.private_key_pem.write_to_path(str(folder / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    (folder / "roots").mkdir()
    authority.cert_pem.write_to_path(str(folder / "roots" / "authority.pem"))
    return folder
