"""The options of accepted sockets, which they inherit from the socket that listens: on real ports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tcpapp import Limits, Policies, Timeouts
from tcpapp.connection.protocol import protocol_of

from .peers import Noted, bounded

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux lets connections inherit options")

GUARDS: dict[str, Any] = {
    "limits": Limits(keepalive_count=4),
    "timeouts": Timeouts(keepalive=33, keepalive_interval=7, user_timeout=44),
}
NAMES = ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def options(connection: Any) -> list[int]:
    """Return what the kernel has for a connection: the options of `NAMES`, and whether keepalive is on."""
    its = protocol_of(connection).transport.socket
    numbers = [its.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]
    return [*numbers, its.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Note each call of ``setsockopt`` in this process."""
    calls: list[tuple[Any, ...]] = []
    original = socket.socket.setsockopt

    def noted(self: socket.socket, *option: Any) -> None:
        calls.append(option)
        original(self, *option)

    monkeypatch.setattr(socket.socket, "setsockopt", noted)
    yield calls
    monkeypatch.undo()


class Opened(Noted):
    """An app that tells of the next connection."""

    def __init__(self) -> None:
        super().__init__()
        self.next: Deferred[Any] = Deferred()

    def opened(self, connection: Any) -> None:
        super().opened(connection)
        told, self.next = self.next, Deferred()
        told.callback(connection)


async def accepted(server: Any, app: Opened) -> tuple[socket.socket, Any]:
    """Connect a plain socket. Returns it and the server's connection."""
    told = app.next
    client = socket.create_connection(("127.0.0.1", server.port))
    return client, await told


async def emptied(server: Any, app: Opened, reactor: Any) -> None:
    """Connect clients, one in a turn of the reactor, so that the server sees that no other client waits."""
    for _ in range(3):
        client, _ = await accepted(server, app)
        client.close()
        await deferLater(reactor, 0)


async def same_for_next(server: Any, app: Opened, reactor: Any, expected: list[int]) -> None:
    """Check the options of another connection."""
    client, connection = await accepted(server, app)
    with client:
        assert options(connection) == expected
    await deferLater(reactor, 0)


@bounded
async def test_accepted_sockets_have_the_options_without_a_call_for_each(
    serve: Any, sets: list[Any], global_reactor: Any
) -> None:
    """Accepted sockets have all options, and no ``setsockopt`` is made for them once the backlog was seen empty."""
    app = Opened()
    server = await serve(app, **GUARDS)
    first, connection = await accepted(server, app)
    assert options(connection) == [1, 33, 7, 4, 44_000, 1]
    await emptied(server, app, global_reactor)
    sets.clear()
    later, connection = await accepted(server, app)
    assert options(connection) == [1, 33, 7, 4, 44_000, 1]
    assert sets == []
    first.close()
    later.close()


@bounded
async def test_changed_options_hold_for_later_connections(serve: Any, global_reactor: Any) -> None:
    """`change` sets the options of the listening socket again, and also switches options off."""
    app = Opened()
    server = await serve(app, **GUARDS)
    await emptied(server, app, global_reactor)
    server.change(keepalive_count=5, user_timeout=0, no_delay=False)
    for _ in range(4):
        await same_for_next(server, app, global_reactor, [0, 33, 7, 5, 0, 1])
    server.change(keepalive=0)
    for _ in range(4):
        await same_for_next(server, app, global_reactor, [0, 33, 7, 5, 0, 0])


@bounded
async def test_a_client_in_the_backlog_gets_the_options_as_well(serve: Any, global_reactor: Any) -> None:
    """A client that connected before the options were changed has the changed ones when it is accepted."""
    app = Opened()
    server = await serve(app, policies=Policies(no_delay=False), **GUARDS)
    await emptied(server, app, global_reactor)
    server.suspend()
    told = app.next
    with socket.create_connection(("127.0.0.1", server.port)):
        server.change(keepalive_count=6, no_delay=True)
        server.resume()
        assert options(await told) == [1, 33, 7, 6, 44_000, 1]
