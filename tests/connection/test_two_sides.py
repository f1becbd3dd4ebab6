"""The two sides of a connection: which object each caller gets, and what is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IProtocol
from twisted.internet.protocol import Protocol

from tcpapp import Connection, MessageClientFactory, MessageProtocol, MessageServerFactory, Telemetry, protocol_of
from tcpapp.apps import echo
from tcpapp.client.aio import Native
from tcpapp.telemetry import Closed, Opened
from tcpapp.testing.transport import FakeTransport
from tests.peers import Peer, result_of

if TYPE_CHECKING:
    from tests.peers import Hosts

CONTRACT = {
    *("send", "receive", "request", "close", "abort", "drain", "pause", "resume", "start_tls"),
    *("switch", "take_over"),
    *("data", "spawn", "every", "send_stream"),
    *("peer", "host", "proxy", "tls", "state", "is_open", "unread", "id", "when_open", "when_closed"),
}
"""The public names of a connection, besides ``async for``."""


def test_a_connection_has_the_names_of_the_contract_and_no_others() -> None:
    """A connection has none of Twisted's callbacks, and none of the methods of its parts."""
    assert {name for name in dir(Connection) if not name.startswith("_")} == CONTRACT
    assert not issubclass(Connection, Protocol)


def test_the_protocol_is_twisteds_side() -> None:
    """The protocol has the methods that a transport calls, and none of the methods for users."""
    protocol: Any = MessageServerFactory(echo).buildProtocol(None)
    for interface in (IProtocol, IHalfCloseableProtocol, IHandshakeListener):
        assert interface.providedBy(protocol)
    assert [name for name in CONTRACT if hasattr(protocol, name)] == []


def test_each_side_leads_to_the_other() -> None:
    """``protocol.connection`` is always the same object, and ``protocol_of`` gives the protocol."""
    peer = Peer(echo)
    assert peer.protocol.connection is peer.protocol.connection is peer.connection
    assert protocol_of(peer.connection) is peer.protocol
    assert (peer.protocol.transport, peer.protocol.factory, peer.protocol.clock) == (
        peer.transport,
        peer.factory,
        peer.clock,
    )


def test_the_protocol_of_a_connection_under_asyncio_is_the_same() -> None:
    """``protocol_of`` takes the wrapper of `tcpapp.aio`, and gives the same protocol."""
    peer = Peer(echo)
    assert protocol_of(Native(peer.connection)) is peer.protocol


def test_an_app_and_the_events_have_the_connection() -> None:
    """Every handler of an app gets the same connection object, and every event has it."""
    had: list[Any] = []

    class App:
        def opened(self, connection: Any) -> None:
            had.append(connection)

        def received(self, message: bytes, connection: Any) -> None:
            had.append(connection)

        def draining(self, connection: Any) -> None:
            had.append(connection)

        def closed(self, connection: Any, reason: Any) -> None:
            had.append(connection)

    peer = Peer(App())
    peer.says(b"hello\n")
    peer.connection.drain()
    peer.leaves()
    had += [event.connection for event in peer.events if isinstance(event, (Opened, Closed))]
    assert len(had) == 6
    assert all(each is peer.connection for each in had)


def test_heartbeats_are_made_of_the_connection() -> None:
    """A function for heartbeats gets the connection."""
    had: list[Any] = []
    peer = Peer(echo, heartbeat=had.append)
    peer.clock.advance(peer.factory.settings.timeouts.heartbeat)
    assert had == [peer.connection]


def test_each_way_to_connect_gives_its_side(hosts: Hosts) -> None:
    """`connect` and `Listening` give connections; an endpoint gives the protocol, and a factory its connection."""
    listening = hosts.listen(echo)
    connection = hosts.connect()
    hosts.wait()
    assert isinstance(connection, Connection)
    assert [type(each) for each in listening.connections] == [Connection]
    factory = MessageClientFactory(clock=hosts.client.reactor)
    when_connected = factory.when_connected()
    endpoint = clientFromString(hosts.client.reactor, "tcp:server:7007")
    protocol = hosts.run(endpoint.connect(factory))
    assert isinstance(protocol, MessageProtocol)
    assert result_of(when_connected) is protocol.connection
    assert hosts.run(protocol.connection.request(b"hello")) == b"hello"
    protocol.connection.abort()


@pytest.mark.usefixtures("no_collector")
def test_after_the_end_neither_side_keeps_the_other_in_memory() -> None:
    """After the end a held connection stays the same object. Otherwise a new one is made, with the same number."""
    peer = Peer(echo)
    protocol, number = peer.protocol, peer.connection.id
    peer.leaves()
    assert protocol.connection is peer.connection
    peer.connection = peer.transport.connection = None
    peer.events.clear()
    again = protocol.connection
    assert (again.id, again.state.value, protocol.connection is again) == (number, "closed", True)
    assert protocol_of(again) is protocol
    kept = ref(again)
    del again
    assert kept() is None


def test_each_connection_of_a_process_has_its_number() -> None:
    """Later connections have greater numbers, and ``repr`` shows number and state."""
    first, second = (MessageServerFactory(echo, telemetry=Telemetry()).buildProtocol(None) for _ in range(2))
    assert isinstance(first, MessageProtocol)
    assert isinstance(second, MessageProtocol)
    assert first.connection.id < second.connection.id
    assert repr(first.connection) == f"<Connection {first.connection.id} unopened>"
    FakeTransport(protocol=first).lose()
    assert repr(first.connection) == f"<Connection {first.connection.id} closed>"
