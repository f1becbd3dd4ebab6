"""Partitions, crashes and resets, and what happens to connections."""

from __future__ import annotations

import math

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.python.failure import Failure

import tcpapp
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import NotConnected
from tcpapp.testing.simulation import RunFailed, Simulation
from tcpapp.testing.simulation.line import Link
from tests.testing.simulation.noting import Notes, connect
from tests.testing.simulation.scenes import pair, upper


def test_a_partition_delays_and_loses_nothing(sim):
    """Requests that are sent during a partition get their replies in order after `heal`."""
    server, client, _, connection = pair(sim)
    sim.partition(server, client)
    replies = [connection.request(b"%d" % number, timeout=1000) for number in range(3)]
    sim.run(until=100.0)
    assert not any(reply.called for reply in replies)
    sim.heal(client, server)
    assert [sim.run(reply) for reply in replies] == [b"0", b"1", b"2"]


def test_a_partition_that_lasts_makes_tcp_give_up(sim):
    """
    The end that has sent something loses its connection 925 seconds after the partition began. The other end stays
    open.
    """
    server, client, listening, connection = pair(sim)
    sim.run(connection.request(b"hello"))
    sim.partition(server, client)
    sent_at = sim.now
    connection.send(b"hello?")
    lost = sim.run(connection.when_closed())
    assert lost.rule == "lost"
    assert sim.now - sent_at == pytest.approx(924.6, abs=0.1)
    sim.heal()
    sim.run()
    assert len(listening.connections) == 1


def test_a_partition_of_bytes_on_their_way_makes_tcp_give_up(sim):
    """A partition that begins while bytes are on their way ends the connection after 925 seconds."""
    server, client, _, connection = pair(sim)
    connection.send(b"hello")
    connection.close(grace=1.0)
    sim.run(until=sim.now + 0.0001)
    sim.partition(server, client)
    sim.run()
    assert 924.0 < sim.now < 926.0


def test_a_partition_does_not_affect_other_hosts(sim):
    """A partition between two hosts does not affect the connections of other hosts."""
    _, client, _, connection = pair(sim)
    other = sim.host("other")
    sim.partition(other)
    assert sim.run(connection.request(b"hello")) == b"HELLO"
    sim.partition(client, other)
    sim.heal(other)
    assert sim.run(connect(sim, other, "tcp:server:7007").request(b"hello")) == b"HELLO"


def test_a_reset_ends_both_ends(sim):
    """`reset(peer)` ends both ends of the connections with that peer, and `reset()` ends all."""
    server, client, listening, connection = pair(sim)
    other = connect(sim, sim.host("other"), "tcp:server:7007")
    server.reset(client)
    assert sim.run(connection.when_closed()).rule == "lost"
    assert sim.run(other.request(b"hello")) == b"HELLO"
    assert len(listening.connections) == 1
    server.reset()
    sim.run(other.when_closed())
    sim.run()
    assert not listening.connections


def test_a_reset_gets_lost_in_a_partition(sim):
    """When a reset is lost in a partition, the other end is reset when it sends something later."""
    server, client, listening, connection = pair(sim)
    sim.partition(server, client)
    connection.send(b"on its way")
    connection.abort()
    sim.run(until=10.0)
    sim.heal()
    sim.run(until=20.0)
    [theirs] = listening.connections
    theirs.send(b"are you there?")
    sim.run(until=30.0)
    assert not listening.connections


def test_an_end_that_half_closes_learns_that_the_other_is_gone(sim):
    """When an end's reset was lost, the FIN of the other end is answered with a reset."""
    server, client, listening, connection = pair(sim)
    sim.run(connection.request(b"hello"))
    sim.partition(server, client, one_way=True)
    [theirs] = listening.connections
    theirs.abort()
    sim.run(until=10.0)
    assert connection.state is tcpapp.State.OPEN
    sim.heal()
    protocol_of(connection).transport.loseWriteConnection()
    assert sim.run(connection.when_closed()).rule == "lost"
    assert sim.now < 20.0


def test_a_sender_learns_of_a_lost_reset_when_the_partition_is_over(sim):
    """TCP sends its bytes again until the partition ends; then they are answered with a reset."""
    server, client, _, connection = pair(sim)
    sim.partition(server, client)
    reply = connection.request(b"hello")
    reply.addErrback(lambda failure: failure.trap(NotConnected))
    sim.run(until=sim.now + 1.0)
    server.reset()
    sim.run(until=sim.now + 10.0)
    assert connection.state is tcpapp.State.OPEN
    sim.heal()
    assert sim.run(connection.when_closed()).rule == "lost"
    assert reply.called


def test_a_crash_resets_connections_and_refuses_new_ones(sim):
    """After a crash the peers are reset, connects are refused, and no timer or call from a thread runs on the host."""
    server, client, listening, connection = pair(sim)
    sim.run(connection.request(b"hello"))
    fired = []
    server.reactor.callLater(1, fired.append, 1)
    server.reactor.callFromThread(fired.append, 2)
    server.crash()
    assert not server.running
    assert sim.run(connection.when_closed()).rule == "lost"
    with pytest.raises(ConnectionRefusedError):
        connect(sim, client, "tcp:server:7007")
    sim.run()
    assert fired == []
    assert len(listening.connections) == 1  # the crashed server was told nothing


def test_a_silent_crash_is_noticed_after_the_restart(sim):
    """After a silent crash a client learns nothing until the restarted host resets its connection."""

    def boot(host):
        return tcpapp.listen("tcp:7007", upper, reactor=host.reactor)

    server, client = sim.host("server", boot), sim.host("client")
    connection = connect(sim, client, "tcp:server:7007")
    server.crash(silently=True)
    reply = connection.request(b"hello", timeout=1000)
    with pytest.raises(TimeoutError):
        connect(sim, client, "tcp:server:7007:timeout=5")
    assert connection.state is tcpapp.State.OPEN
    server.restart()
    with pytest.raises(NotConnected, match="lost"):
        sim.run(reply)
    assert sim.run(connect(sim, client, "tcp:server:7007").request(b"hello")) == b"HELLO"


def test_a_restart_boots_a_new_process(sim):
    """A restart calls `boot` again with a new reactor, and the new process can listen on the same path."""
    booted = []

    async def boot(host):
        booted.append(host.reactor)
        await tcpapp.listen("unix:/x", upper, reactor=host.reactor)

    host = sim.host("a", boot)
    sim.run()
    host.restart()
    sim.run()
    assert booted[1] is host.reactor is not booted[0]
    assert sim.run(connect(sim, host, "unix:/x").request(b"hello")) == b"HELLO"


def test_a_crash_leaves_a_sockets_file_behind(sim):
    """After a crash, the path of a UNIX socket cannot be listened on, as on a disk. With a lock file it can."""
    host = sim.host("a", lambda host: None)
    host.reactor.listenUNIX("/x", Notes())
    host.restart()
    with pytest.raises(ConnectionRefusedError):
        connect(sim, host, "unix:/x")
    with pytest.raises(CannotListenError):
        host.reactor.listenUNIX("/x", Notes())
    host.reactor.listenUNIX("/x", Notes(), wantPID=True)


def test_a_boot_that_fails_fails_the_run():
    """If `boot` raises, also in a coroutine, the run fails with its error."""
    sim = Simulation(12)

    def boot(host):
        raise ZeroDivisionError("boot")

    async def boot_later(host):
        boot(host)

    sim.host("a", boot)
    with pytest.raises(RunFailed, match="ZeroDivisionError: boot"):
        sim.run()
    sim.host("b", boot_later)
    with pytest.raises(RunFailed, match="ZeroDivisionError: boot"):
        sim.run()


def test_a_process_that_stops_its_reactor_exits(sim):
    """
    `reactor.stop` runs the shutdown triggers, waits for their Deferreds, and closes connections; then the process has
    exited.
    """
    server, _, _, connection = pair(sim)
    reactor, told, saved = server.reactor, [], Deferred()
    reactor.addSystemEventTrigger("before", "shutdown", lambda: saved)
    reactor.addSystemEventTrigger("after", "shutdown", told.append, "after")
    reactor.removeSystemEventTrigger(reactor.addSystemEventTrigger("during", "shutdown", told.append, "no"))
    reactor.fireSystemEvent("holiday")
    reactor.callWhenRunning(told.append, "running")
    reactor.stop()
    sim.run(until=1.0)
    assert server.running
    saved.callback(None)
    assert sim.run(connection.when_closed()).clean
    assert not server.running
    assert told == ["running", "after"]
    server.exit(reactor)  # a second exit does nothing


def test_a_simulated_reactor_is_run_by_its_simulation(sim):
    """
    `run` and `iterate` of a simulated reactor raise an error that names `sim.run`, and `resolve` names `nameResolver`.
    """
    reactor = sim.host("a").reactor
    for refused in (reactor.run, reactor.iterate):
        with pytest.raises(RuntimeError, match=r"sim\.run"):
            refused()
    with pytest.raises(NotImplementedError, match="nameResolver"):
        reactor.resolve("a")


def test_a_slow_reader_makes_writers_wait(sim):
    """A host that reads 100 KB a second makes `send` of a megabyte wait."""
    server, _, _, connection = pair(sim, app=lambda message, connection: None)
    server.read_at(100_000.0)
    start = sim.now
    for _ in range(10):
        sim.run(connection.send(b"x" * 100_000))
    sim.run(connection.close(grace=30.0))
    sim.run()
    assert 6.0 < sim.now - start < 30.0


def test_a_reader_that_stops_takes_nothing_until_it_goes_on(sim):
    """With `read_at(0)` a host reads nothing, and after `read_at(None)` it reads and replies."""
    server, _, _, connection = pair(sim)
    server.read_at(0)
    reply = connection.request(b"hello", timeout=100)
    sim.run(until=50.0)
    assert not reply.called
    server.read_at(None)
    assert sim.run(reply) == b"HELLO"


@pytest.mark.parametrize(
    ("latency", "least", "most"),
    [(0.25, 0.5, 0.5), ((0.1, 0.2), 0.2, 0.4), (lambda fraction: 0.1 - 0.1 * math.log(1 - fraction), 0.2, 10.0)],
)
def test_a_link_has_its_own_latency(sim, latency, least, most):
    """`link` sets the latency between two hosts, as a number, a range or a function."""
    server, client, _, connection = pair(sim)
    sim.link(server, client, latency, cuts=0.0)
    start = sim.now
    sim.run(connection.request(b"hello"))
    assert least <= round(sim.now - start, 9) <= most


def test_a_link_has_a_bandwidth(sim):
    """With a bandwidth of 10 KB a second, 50 KB take 5 seconds."""
    server, client, _, connection = pair(sim, app=lambda message, connection: b"done")
    sim.link(server, client, 0.0, bandwidth=10_000.0)
    start = sim.now
    assert sim.run(connection.request(b"x" * 50_000)) == b"done"
    assert sim.now - start == pytest.approx(5.0, abs=0.1)


def test_a_link_changed_during_a_partition_stays_parted(sim):
    """If `link` changes a link in a partition, the partition stays until `heal`."""
    server, client, _, connection = pair(sim)
    sim.partition(server, client)
    sim.link(server, client, 0.5)
    reply = connection.request(b"hello", timeout=50)
    sim.run(until=20.0)
    assert not reply.called
    sim.heal()
    assert sim.run(reply) == b"HELLO"


def test_a_direction_is_diverted_and_restored(sim):
    """
    A direction can be diverted twice, also over a link that holds less than is on its way, and is restored.

    `link` ends a diversion: its link is the one that `restore` keeps.
    """
    server, client, _, connection = pair(sim)
    usual = sim.network.link(client, server)
    sim.network.restore(client, server)
    reply = connection.request(b"x" * 50_000)
    sim.network.divert(client, server, Link(0.5, capacity=100))
    sim.network.divert(client, server, Link(0.7))
    start = sim.now
    assert len(sim.run(reply)) == 50_000
    assert sim.now - start > 0.5
    sim.network.restore(client, server)
    assert sim.network.link(client, server) is usual
    sim.network.divert(client, server, Link(0.7))
    sim.link(client, server, 0.1)
    another = sim.network.link(client, server)
    sim.network.restore(client, server)
    assert sim.network.link(client, server) is another


def test_cuts_over_1_are_refused():
    """`cuts` over 1 are refused, since it is a probability."""
    with pytest.raises(ValueError, match="likelihood"):
        pair(Simulation(cuts=1.5))


def test_a_closed_connection_is_forgotten(sim):
    """The network holds no socket of a connection that both ends have closed."""
    *_, connection = pair(sim)
    for _ in range(3):
        sim.run(connection.close())
        sim.run()
        assert list(sim.network.sockets_of(sim.hosts[0])) == []
        connection = connect(sim, sim.hosts[1], "tcp:server:7007")


def test_left_lists_open_connections_ports_and_timers(sim):
    """`left` lists the open connections, ports and timers of running hosts, and nothing once all are closed."""
    _, client, listening, connection = pair(sim)
    timer = client.reactor.callLater(100, upper)
    gone = sim.host("gone")
    gone.reactor.callLater(100, upper)
    gone.crash()
    assert sim.left() == [
        "connection client:49152>server:7007",
        "connection server:7007<client:49152",
        "server: listens on 7007",
        "client: timer upper",
    ]
    timer.cancel()
    sim.run(connection.close())
    sim.run(listening.close())
    sim.run()
    assert sim.left() == []


def test_connections_end_with_twisteds_reasons(sim):
    """A connection ends with `ConnectionDone` after a FIN, and with `ConnectionLost` after a reset."""
    server, client = sim.host("server"), sim.host("client")
    servers = Notes()
    serverFromString(server.reactor, "tcp:7007").listen(servers)
    for end in ("loseConnection", "abortConnection"):
        client.reactor.connectTCP("server", 7007, clients := Notes())
        sim.run()
        clients.made[0].transport.write(b"last words")
        transport = clients.made[0].transport
        getattr(transport, end)()
        sim.run()
        transport.connectionLost(Failure(ConnectionDone()))  # a second end does nothing
    assert [(each.data, each.reason) for each in servers.made] == [
        (b"last words", ConnectionDone),
        (b"", ConnectionLost),
    ]
