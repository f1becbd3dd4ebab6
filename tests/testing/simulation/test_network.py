"""Hosts, endpoints, links and partitions: which hosts reach each other, and what happens to connections."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionDone,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import makeBinding

import tcpapp
from tcpapp.testing.simulation.network import EPHEMERAL
from tests.testing.simulation.noting import Notes, connect
from tests.testing.simulation.scenes import pair, upper

# Endpoints ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listened", "connected"),
    [
        ("tcp:7007", "tcp:server:7007"),
        ("tcp:7007:interface=10.0.0.1", "tcp:10.0.0.1:7007"),
        ("tcp:7007:interface=0.0.0.0", "tcp:host=server:port=7007:timeout=3"),
    ],
)
def test_endpoint_strings_work_between_hosts(sim, listened, connected):
    """A client on one host talks to a server on another by endpoint strings, and both ends have the right addresses."""
    server, client = sim.host("server"), sim.host("client")
    listening = sim.run(tcpapp.listen(listened, upper, reactor=server.reactor))
    connection = connect(sim, client, connected)
    assert sim.run(connection.request(b"hello")) == b"HELLO"
    assert connection.peer == IPv4Address("TCP", "10.0.0.1", 7007)
    assert connection.host == IPv4Address("TCP", "10.0.0.2", EPHEMERAL)
    [theirs] = listening.connections
    assert (theirs.host, theirs.peer) == (connection.peer, connection.host)


@pytest.mark.parametrize(
    ("listened", "connected"),
    [
        ("tcp:7007", "tcp:localhost:7007"),
        ("tcp:7007:interface=127.0.0.1", "tcp:127.0.0.1:7007"),
        ("unix:/x", "unix:/x"),
    ],
)
def test_endpoint_strings_work_within_a_host(sim, listened, connected):
    """
    A client on the server's own host talks to it by endpoint strings, and cannot connect once the server has closed.
    """
    server = sim.host("server")
    listening = sim.run(tcpapp.listen(listened, upper, reactor=server.reactor))
    connection = connect(sim, server, connected)
    assert sim.run(connection.request(b"hello")) == b"HELLO"
    sim.run(connection.close())
    sim.run(listening.close())
    with pytest.raises(ConnectError):
        connect(sim, server, connected)


def test_port_0_is_any_free_port(sim):
    """`tcp:0` listens on the next free port, and clients can connect there."""
    server, client = sim.host("server"), sim.host("client")
    one, other = (sim.run(tcpapp.listen("tcp:0", upper, reactor=server.reactor)) for _ in "12")
    assert (one.port, other.port) == (EPHEMERAL, EPHEMERAL + 1)
    connection = connect(sim, client, f"tcp:server:{other.port}")
    assert sim.run(connection.request(b"hello")) == b"HELLO"


def test_ports_are_given_out_again_after_the_last(sim):
    """After port 65535 the ports are given out again from the first one, without ports in use."""
    host = sim.host("a")
    sim.run(tcpapp.listen(f"tcp:{EPHEMERAL}", upper, reactor=host.reactor))
    given = [sim.network.free_port(host) for _ in range(65536 - EPHEMERAL)]
    assert given == [*range(EPHEMERAL + 1, 65536), EPHEMERAL + 1]


def test_a_loopback_interface_is_not_reached_from_elsewhere(sim):
    """A port on 127.0.0.1 refuses a client on another host."""
    server, client = sim.host("server"), sim.host("client")
    sim.run(tcpapp.listen("tcp:7007:interface=127.0.0.1", upper, reactor=server.reactor))
    with pytest.raises(ConnectionRefusedError):
        connect(sim, client, "tcp:server:7007")


def test_a_port_is_listened_on_once(sim):
    """Listening fails on a port or a path in use, and on an address that the host does not have."""
    server = sim.host("server")
    for endpoint in ("tcp:7007", "unix:/x"):
        sim.run(tcpapp.listen(endpoint, upper, reactor=server.reactor))
        with pytest.raises(CannotListenError):
            sim.run(tcpapp.listen(endpoint, upper, reactor=server.reactor))
    with pytest.raises(CannotListenError):
        server.reactor.listenTCP(7008, Notes(), interface="10.0.0.9")


def test_a_port_can_listen_on_a_binding_of_twisted(sim):
    """`listenTCP` takes a binding of Twisted in place of a port number."""
    port = sim.host("a").reactor.listenTCP(makeBinding("", 7007), Notes())
    assert port.getHost().port == 7007


def test_a_connect_to_an_unknown_host_fails(sim):
    """A connect to an unknown name or address fails; a connect that is disconnected before fails with `UserError`."""
    client = sim.host("client")
    with pytest.raises(DNSLookupError):
        connect(sim, client, "tcp:nobody:7007")
    with pytest.raises(ConnectError, match="No route to host"):
        connect(sim, client, "tcp:10.9.9.9:7007")
    factory = Notes()
    client.reactor.connectTCP("nobody", 7007, factory)
    sim.run()
    assert factory.told == ["started", DNSLookupError, "stopped"]
    client.reactor.connectTCP("nobody", 7007, factory := Notes()).disconnect()
    sim.run()
    assert factory.told == ["started", UserError, "stopped"]


def test_a_resolver_can_be_installed_and_a_resolution_cancelled(sim):
    """
    `installNameResolver` returns the former resolver, a cancelled resolution reports nothing, and IPv6 finds no
    address.
    """
    reactor = sim.host("a").reactor
    resolver = reactor.nameResolver
    assert reactor.installNameResolver(resolver) is resolver
    told = []

    class Receiver:
        resolutionBegan = addressResolved = staticmethod(told.append)

        @staticmethod
        def resolutionComplete():
            told.append("complete")

    resolver.resolveHostName(Receiver, "a").cancel()
    sim.run()
    assert told == []
    resolution = resolver.resolveHostName(Receiver, "a", addressTypes=[IPv6Address])
    sim.run()
    assert told == [resolution, "complete"]


def test_two_hosts_cannot_have_the_same_name(sim):
    """`host()` refuses a name that another host has."""
    host = sim.host("a")
    assert repr(host) == "<Host a 10.0.0.1>"
    assert sim.hosts == (host,)
    with pytest.raises(ValueError, match="there is a host 'a' already"):
        sim.host("a")


# Connecting -----------------------------------------------------------------------------------------------------------


def test_a_connect_to_a_closed_port_is_refused(sim):
    """A connect to a port where no server listens is refused within milliseconds."""
    sim.host("server")
    with pytest.raises(ConnectionRefusedError):
        connect(sim, sim.host("client"), "tcp:server:7007")
    assert 0 < sim.now < 0.1


def test_during_a_partition_a_connect_hangs_until_its_timeout(sim):
    """During a partition a connect fails after its own timeout."""
    server, client = sim.host("server"), sim.host("client")
    sim.run(tcpapp.listen("tcp:7007", upper, reactor=server.reactor))
    sim.partition(server, client)
    with pytest.raises(TimeoutError):
        sim.run(clientFromString(client.reactor, "tcp:10.0.0.1:7007:timeout=20").connect(Factory.forProtocol(Protocol)))
    assert sim.now == pytest.approx(20.0, abs=0.1)
    sim.run()


def test_without_a_timeout_the_kernel_gives_up(sim):
    """During a partition a connect without a timeout fails after 127 seconds, as on Linux."""
    server, client = sim.host("server"), sim.host("client")
    sim.partition(server)
    factory = Notes()
    client.reactor.connectTCP("server", 7007, factory, timeout=None)
    sim.run()
    assert factory.told == ["started", TCPTimedOutError, "stopped"]
    assert sim.now == pytest.approx(127.0, abs=0.1)


def test_a_connect_succeeds_when_the_partition_ends_in_time(sim):
    """A connect that begins in a partition of 10 seconds succeeds after 15 seconds, with the next repeated SYN."""
    server, client = sim.host("server"), sim.host("client")
    sim.run(tcpapp.listen("tcp:7007", upper, reactor=server.reactor))
    sim.partition(server, client)
    sim.call_later(10.0, sim.heal)
    connection = connect(sim, client, "tcp:server:7007")
    assert sim.now == pytest.approx(15.0, abs=0.1)  # SYNs at 0, 1, 3, 7, 15
    assert sim.run(connection.request(b"hello")) == b"HELLO"


def test_a_lost_answer_to_a_connect_is_requested_again(sim):
    """A partition of one direction makes a connect hang. Once it has ended, the next SYN connects."""
    server, client = sim.host("server"), sim.host("client")
    sim.run(tcpapp.listen("tcp:7007", upper, reactor=server.reactor))
    sim.partition(server, client, one_way=True)
    sim.call_later(2.0, sim.heal, server, client)
    connect(sim, client, "tcp:server:7007")
    assert sim.now == pytest.approx(3.0, abs=0.1)


def test_the_last_step_of_a_connect_can_come_late(sim):
    """
    While a partition delays the last step of a connect, the client is connected already; the server accepts after it.
    """
    server, client, listening, _ = pair(sim)
    connecting = tcpapp.connect("tcp:server:7007", reactor=client.reactor)
    connecting.addCallback(lambda connection: sim.partition(client, server, one_way=True) or connection)
    connection = sim.run(connecting)
    sim.run(until=10.0)
    assert len(listening.connections) <= 2
    sim.heal()
    assert sim.run(connection.request(b"hello")) == b"HELLO"
    assert len(listening.connections) == 2


def test_a_cancelled_connect_leaves_nothing(sim):
    """A connect that is cancelled at any step leaves no connection and no timer."""
    server, client = sim.host("server"), sim.host("client")
    listening = sim.run(tcpapp.listen("tcp:7007", upper, reactor=server.reactor))
    for moment in (0.0, 0.001, 0.002, 0.003, 0.004):
        connector = client.reactor.connectTCP("server", 7007, Notes())
        sim.call_later(moment, connector.disconnect)
    sim.run()
    assert not listening.connections
    assert client.reactor.getDelayedCalls() == []


def test_a_connector_can_connect_again(sim):
    """A connector that has disconnected can connect again, and a port can be stopped more than once."""
    server, client = sim.host("server"), sim.host("client")
    port = server.reactor.listenTCP(7007, Notes())
    factory = Notes()
    connector = client.reactor.connectTCP("server", 7007, factory)
    assert connector.getDestination() == IPv4Address("TCP", "server", 7007)
    sim.run()
    connector.disconnect()
    sim.run()
    connector.connect()
    sim.run()
    assert [each.reason for each in factory.made] == [ConnectionDone, None]
    assert factory.told == ["started", ConnectionDone, "stopped", "started"]
    stopped = [port.stopListening() for _ in "12"]
    sim.run(stopped[0])
    sim.run(stopped[1])
    assert port.stopListening() is None


@pytest.mark.parametrize("unix", [False, True])
def test_a_factory_can_build_no_protocol(sim, unix):
    """If the factory of one end builds no protocol, the other end gets `ConnectionDone`."""
    host = sim.host("server")
    refusing, clients = Notes(refuses=lambda: None), Notes()
    if unix:
        host.reactor.listenUNIX(b"/x", refusing)
        connector = host.reactor.connectUNIX("/x", clients)
        assert connector.getDestination() == UNIXAddress("/x")
    else:
        host.reactor.listenTCP(7007, refusing)
        host.reactor.connectTCP("server", 7007, clients)
    sim.run()
    assert [each.reason for each in clients.made] == [ConnectionDone]
    servers = Notes()
    host.reactor.listenTCP(7008, servers)
    host.reactor.connectTCP("server", 7008, Notes(refuses=lambda: None))
    sim.run()
    assert [each.reason for each in servers.made] == [ConnectionDone]


def test_a_factory_that_raises_loses_the_connection(sim, logged_errors):
    """If the factory of one end raises, the other end gets `ConnectionDone`, and the expected error is collected."""
    host = sim.host("server")
    sim.expect(ZeroDivisionError)
    failing, clients = Notes(refuses=lambda: 1 / 0), Notes()
    host.reactor.listenTCP(7007, failing)
    host.reactor.connectTCP("server", 7007, clients)
    sim.run()
    assert [each.reason for each in clients.made] == [ConnectionDone]
    servers = Notes()
    host.reactor.listenTCP(7008, servers)
    host.reactor.connectTCP("server", 7008, failing)
    sim.run()
    assert [each.reason for each in servers.made] == [ConnectionDone]
    assert failing.told == ["started", "started", ZeroDivisionError, "stopped"]
    assert [each.type for each in sim.expected] == [ZeroDivisionError] * 2
    assert len(logged_errors.take(ZeroDivisionError)) == 2


def test_a_suspended_port_leaves_clients_in_its_backlog(sim):
    """A client connects to a suspended port, and is accepted and gets its reply after `resume`."""
    _, client, listening, first = pair(sim)
    sim.run(first.request(b"hello"))  # the reply shows that the client was accepted
    listening.suspend()
    waiting = connect(sim, client, "tcp:server:7007")
    reply = waiting.request(b"hello", timeout=100)
    sim.run(until=10.0)
    assert len(listening.connections) == 1
    listening.resume()
    assert sim.run(reply) == b"HELLO"


def test_a_full_backlog_makes_clients_wait(sim):
    """While the backlog is full, a connect waits; after `resume` its next repeated SYN succeeds."""
    server, client = sim.host("server"), sim.host("client")
    listening = sim.run(tcpapp.listen("tcp:7007:backlog=1", upper, reactor=server.reactor))
    listening.suspend()
    connect(sim, client, "tcp:server:7007")
    sim.run(until=0.5)
    second = tcpapp.connect("tcp:server:7007", reactor=client.reactor)
    sim.run(until=2.0)
    assert not second.called
    listening.resume()
    sim.run(second)
    assert sim.now == pytest.approx(3.5, abs=0.1)


def test_a_port_that_is_closed_resets_its_backlog(sim):
    """When a suspended port is closed, the clients in its backlog are reset."""
    _, client, listening, first = pair(sim)
    listening.suspend()
    waiting = connect(sim, client, "tcp:server:7007")
    late = connect(sim, client, "tcp:server:7007")
    sim.run(listening.close())
    assert sim.run(waiting.when_closed()).rule == "lost"
    sim.run(late.when_closed())
    sim.run(first.when_closed())
