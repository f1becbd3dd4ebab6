"""A connection through the proxy, in memory: two wires, and one clock for all."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused

from tcpapp.testing.contract import End
from tcpapp.testing.wire import CLIENT
from tests.testing.faultproxy.bench import Bench

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

BIG = bytes(range(256)) * 2000


@pytest.fixture
def bench():
    """Give a bench, and check that its clock has no timer once the proxy is stopped."""
    bench = Bench()
    yield bench
    ended(bench)


def ended(bench):
    """Stop the proxy, and check that it has no connection and no timer left."""
    results = []
    bench.proxy.stop().addBoth(results.append)
    bench.rest()
    assert results == [None]
    assert bench.proxy.connections == ()
    for each in (*bench.wires, *bench.leads.wires):
        each.close()
    assert bench.clock.getDelayedCalls() == []


def unsent_of(end):
    """Return how many bytes the transport of `end` has not sent yet."""
    return len(end.transport.dataBuffer) - end.transport.offset + end.transport._tempDataLen


# As without a proxy ---------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways(bench):
    """The proxy passes the bytes of each end to the other end, unchanged."""
    client, server = bench.connect()
    client.transport.write(BIG)
    server.transport.write(BIG[::-1])
    bench.rest()
    assert (server.data, client.data) == (BIG, BIG[::-1])
    assert (server.notes, client.notes) == (["made", "data"], ["made", "data"])


def test_bytes_that_passed_are_counted(bench):
    """The proxy counts the bytes that passed, for each connection and for all, each direction by itself."""
    for size in (3, 5):
        client, server = bench.connect()
        client.transport.write(b"x" * size)
        server.transport.write(b"y")
        bench.rest()
    assert [(each.bytes_upstream, each.bytes_downstream) for each in bench.proxy.connections] == [(3, 1), (5, 1)]
    assert (bench.proxy.counters.bytes_upstream, bench.proxy.counters.bytes_downstream) == (8, 2)


@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_half_close_is_carried_through(bench, first):
    """Either end can half-close and still read; with the second half-close the connection is over."""
    ends = bench.connect()
    asks, answers = ends[first], ends[1 - first]
    asks.transport.write(BIG)
    asks.transport.loseWriteConnection()
    bench.rest()
    assert (answers.notes, answers.data) == (["made", "data", "read lost"], BIG)
    answers.transport.write(b"answer")
    bench.rest()
    assert asks.data == b"answer"
    answers.transport.loseConnection()
    bench.rest()
    assert asks.notes == ["made", "write lost", "data", "read lost"]
    assert bench.proxy.connections == ()
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 0, "cut": 0}


@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_a_reset_is_carried_through(bench, first):
    """When one end aborts, the proxy resets the other end, and counts one reset."""
    ends = bench.connect()
    ends[first].transport.abortConnection()
    bench.rest()
    assert ends[1 - first].reason.check(ConnectionLost)
    assert bench.proxy.connections == ()
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 1, "cut": 0}


def test_a_reset_after_a_half_close(bench):
    """
    The reset of a client that has half-closed shows only when the server's next answer cannot be sent.

    The server has read the end and reads no more. It notices the reset by its later writes, as it does without a proxy.
    """
    client, server = bench.connect()
    client.transport.loseWriteConnection()
    bench.rest()
    client.transport.abortConnection()
    bench.rest()
    server.transport.write(b"answer")
    bench.rest()
    assert (bench.proxy.connections, bench.counted["reset"]) == ((), 1)
    server.transport.write(b"more")
    bench.rest()
    assert server.reason.check(ConnectionLost)


def test_without_half_close_an_end_of_one_peer_ends_the_other():
    """
    When the protocols do not support half-close, the client's close also ends the server's connection, after its bytes.
    """
    bench = Bench(kind=End)
    client, server = bench.connect()
    client.transport.write(b"bye")
    client.transport.loseConnection()
    bench.rest()
    assert server.notes == ["made", "data", "lost: ConnectionDone"]
    assert bench.proxy.connections == ()
    ended(bench)


@pytest.mark.parametrize("first", [0, 1], ids=["client", "server"])
def test_a_peer_that_does_not_read_pauses_the_other(first):
    """
    A peer that does not read pauses the sender.

    The proxy holds no more than its bound, one read, and the capacity of transports and kernels. Once the peer reads,
    all bytes arrive.
    """
    bench = Bench(bound=100_000, options={"capacity": 131_072})
    ends = bench.connect()
    reads, writes = ends[first], ends[1 - first]
    reads.transport.pauseProducing()
    bench.rest()
    writes.transport.write(b"x" * 3_000_000)
    bench.rest()
    unsent = unsent_of(writes)
    most = 100_000 + 65_536 + 2 * (65_536 + 131_072) + 200_000
    assert 0 < 3_000_000 - unsent < most
    assert reads.data == b""
    reads.transport.resumeProducing()
    bench.rest()
    assert len(reads.data) == 3_000_000
    ended(bench)


def test_bytes_that_a_toxic_holds_count_for_the_bound():
    """Bytes that a toxic holds count for the bound, so a slow stream pauses its source."""
    bench = Bench(bound=1000, options={"capacity": 1000})
    client, server = bench.connect()
    bench.proxy.add("bandwidth", stream="upstream", rate=1000)
    client.transport.write(b"x" * 20_000)
    bench.rest()
    assert unsent_of(client) > 15_000
    client.transport.loseWriteConnection()
    bench.until(30)
    assert len(server.data) == 20_000
    assert server.notes[-1] == "read lost"
    ended(bench)


def test_each_write_is_sent_at_once(bench):
    """The proxy sets TCP_NODELAY on both sides, as Go does for Toxiproxy; otherwise slices would be sent as one."""
    bench.connect()
    [wire], [other] = bench.wires, bench.leads.wires
    assert wire.server_transport.getTcpNoDelay()
    assert other.client_transport.getTcpNoDelay()


# TLS ------------------------------------------------------------------------------------------------------------------


def test_tls_works_through_a_slicer(tls_certificates):
    """A TLS connection works through a slicer on both streams: the proxy changes no byte."""
    from twisted.protocols.tls import TLSMemoryBIOFactory

    from tcpapp import MessageClientFactory, MessageServerFactory

    bench = Bench()
    server_factory = MessageServerFactory(lambda message, connection: message.upper())
    server_factory.clock = bench.clock
    contexts = tls_certificates.server_options(), tls_certificates.client_options()
    secure = TLSMemoryBIOFactory(contexts[0], False, server_factory, clock=bench.clock)
    bench.leads.kind = lambda: secure.buildProtocol(None)
    asking = TLSMemoryBIOFactory(contexts[1], True, MessageClientFactory(), clock=bench.clock)
    bench.kind = lambda: asking.buildProtocol(None)
    bench.proxy.add("slicer", stream="both", average_size=7, size_variation=3)
    client, _ = bench.connect()
    reply = client.wrappedProtocol.connection.request(b"hello")
    bench.until(1)
    assert reply.result == b"HELLO"
    client.wrappedProtocol.connection.abort()
    bench.until(60)
    ended(bench)


def test_a_close_ends_both_sides_when_the_proxy_speaks_tls(tls_certificates):
    """
    When the proxy itself speaks TLS, a close by one peer closes both sides, after its bytes. TLS has no half-close.
    """
    contexts = tls_certificates.server_options(), tls_certificates.client_options()
    for kind in ("client", "server"):
        bench = Bench(kind=End, server_options={"tls": contexts})
        client, server = bench.connect()
        ends = {"client": (client, server), "server": (server, client)}
        here, there = ends[kind]
        here.transport.write(b"bye")
        here.transport.loseConnection()
        bench.rest()
        assert there.data == b"bye"
        assert there.reason.check(ConnectionDone)
        assert bench.proxy.connections == ()
        ended(bench)


def test_when_one_side_is_over_the_proxy_closes_the_other_side(tls_certificates):
    """When a TLS server closes, the proxy also closes the client's side, since the client has no peer any more."""
    bench = Bench(server_options={"tls": (tls_certificates.server_options(), tls_certificates.client_options())})
    client, server = bench.connect()
    server.transport.loseConnection()
    bench.rest()
    assert client.notes == ["made", "read lost"]
    assert bench.proxy.connections == ()
    ended(bench)


# Connecting -----------------------------------------------------------------------------------------------------------


def test_a_refusal_of_the_server_resets_the_client(bench):
    """When the server refuses the connection, the proxy resets the client, and the client's bytes are lost."""
    bench.leads.failure = Refused()
    client = bench.come()
    client.transport.write(b"hello")
    bench.rest()
    assert client.reason.check(ConnectionLost)
    assert bench.proxy.connections == ()
    assert bench.counted == {"accepted": 1, "refused": 1, "reset": 0, "cut": 0}


def test_bytes_wait_for_a_server_that_accepts_late(bench):
    """While the server has not accepted yet, the client's bytes and its half-close wait. Then the server gets both."""
    bench.leads.waits = True
    client = bench.come()
    client.transport.write(b"hello")
    client.transport.loseWriteConnection()
    bench.rest()
    [connection] = bench.proxy.connections
    assert connection.bytes_upstream == 0
    bench.leads.go_on()
    bench.rest()
    server = bench.leads.wires[-1].server
    assert (server.data, server.notes) == (b"hello", ["made", "data", "read lost"])


@pytest.mark.parametrize("how", ["reset", "close", "cut"])
def test_a_connection_can_end_while_the_proxy_connects_to_the_server(bench, how):
    """
    A connection that ends while the proxy connects to the server is over at once. If the server still accepts, it is
    reset.
    """
    bench.leads.waits = True
    client = bench.come()
    bench.rest()
    [connection] = bench.proxy.connections
    bench.proxy.add("latency", latency=1)
    getattr(connection, how)()
    bench.rest()
    assert client.notes[-1] == ("read lost" if how == "close" else "lost: ConnectionLost")
    assert bench.proxy.connections == ()
    bench.leads.go_on()
    bench.rest()
    assert bench.leads.wires[-1].server.reason.check(ConnectionLost)
    assert bench.counted["refused"] == 0


# What a test does to it -----------------------------------------------------------------------------------------------


def test_the_repr_of_a_connection_shows_its_number_and_client(bench):
    """The repr of a connection shows its number and the address of its client."""
    bench.connect()
    [connection] = bench.proxy.connections
    assert repr(connection) == "<ProxiedConnection 1, of 10.0.0.2:50000>"
    assert (connection.number, connection.client.port) == (1, 50000)
    assert CLIENT.port == 50000


def test_reset_resets_both_sides_once(bench):
    """`reset()` resets both sides once, and bytes that a toxic holds are lost."""
    client, server = bench.connect()
    bench.proxy.add("latency", stream="both", latency=1)
    client.transport.write(b"hello")
    bench.rest()
    [connection] = bench.proxy.connections
    connection.reset()
    connection.reset()
    bench.until(9)
    assert client.reason.check(ConnectionLost)
    assert (server.reason.type, server.data) == (ConnectionLost, b"")
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 1, "cut": 0}


def test_a_reset_overtakes_nothing(bench):
    """Bytes that the proxy has passed on arrive before its reset, in both directions."""
    client, server = bench.connect()
    [connection] = bench.proxy.connections
    received = server.dataReceived
    server.dataReceived = lambda data: (received(data), server.transport.write(b"answer"))
    client.transport.write(b"question")
    bench.leads.wires[0].client_transport.pauseProducing()
    bench.rest()
    bench.leads.wires[0].client.dataReceived(b"answer")
    connection.client_side.dataReceived(b" and more")
    connection.reset()
    bench.rest()
    assert (server.data, server.reason.type) == (b"question and more", ConnectionLost)
    assert (client.data, client.reason.type) == (b"answer", ConnectionLost)


def test_a_reset_does_not_wait_for_a_peer_that_does_not_read(bench):
    """A reset does not wait for a peer that does not read; the unread bytes are lost."""
    client, server = bench.connect()
    server.transport.pauseProducing()
    client.transport.write(b"x" * 1_000_000)
    bench.rest()
    bench.proxy.connections[0].reset()
    bench.rest()
    assert bench.proxy.connections == ()
    server.transport.resumeProducing()
    bench.rest()
    assert len(server.data) < 1_000_000
    assert server.reason.check(ConnectionLost)


def test_cut_ends_a_reset_that_waits(bench):
    """`cut()` ends at once a connection whose reset waits for a peer that does not read. The reset alone is counted."""
    client, server = bench.connect()
    server.transport.pauseProducing()
    client.transport.write(b"x" * 300_000)
    bench.rest()
    [connection] = bench.proxy.connections
    connection.reset()
    bench.rest()
    assert bench.proxy.connections == (connection,)
    gone = connection.cut()
    bench.rest()
    assert gone.called
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 1, "cut": 0}


def test_close_closes_both_sides_after_their_bytes(bench):
    """`close()` closes both sides, once all bytes that were passed on have arrived."""
    client, server = bench.connect()
    client.transport.write(BIG)
    bench.rest()
    server.transport.write(b"held")
    [connection] = bench.proxy.connections
    connection.close()
    connection.close()
    bench.rest()
    assert (client.notes[-1], server.notes[-1], server.data) == ("read lost", "read lost", BIG)
    assert bench.proxy.connections == ()
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 0, "cut": 1}


def test_a_close_does_not_wait_for_a_producer(bench):
    """`close()` ends a connection although a paused producer, the proxy's own, is registered with the transport."""
    client, server = bench.connect()
    server.transport.pauseProducing()
    client.transport.write(b"x" * 1_000_000)
    bench.rest()
    [connection] = bench.proxy.connections
    connection.close()
    bench.rest()
    server.transport.resumeProducing()
    bench.rest()
    assert server.notes[-1] == "read lost"
    assert bench.proxy.connections == ()


def test_a_closing_connection_gets_no_new_toxic(bench):
    """A toxic that is added while a connection closes does not start there, so it sets no timer."""
    client, server = bench.connect()
    server.transport.pauseProducing()
    client.transport.write(b"x" * 1_000_000)
    bench.rest()
    [connection] = bench.proxy.connections
    connection.close()
    bench.proxy.add("timeout", timeout=9)
    bench.rest()
    assert bench.proxy.connections == (connection,)
    assert bench.clock.getDelayedCalls() == []


def test_cut_ends_a_connection_that_is_closing(bench):
    """`cut()` also cuts a connection that is closing already. Its Deferred fires when both sides are closed."""
    client, server = bench.connect()
    server.transport.pauseProducing()
    client.transport.write(b"x" * 1_000_000)
    bench.rest()
    [connection] = bench.proxy.connections
    connection.close()
    bench.rest()
    assert bench.proxy.connections == (connection,)
    gone = connection.cut()
    assert not gone.called
    bench.rest()
    assert gone.called
    assert bench.proxy.connections == ()
    assert bench.counted["cut"] == 1


# Toxics on the way ----------------------------------------------------------------------------------------------------


def test_an_end_waits_for_delayed_bytes(bench):
    """The client's end arrives after its delayed bytes, and the other direction is not delayed."""
    client, server = bench.connect()
    bench.proxy.add("latency", stream="upstream", latency=1)
    client.transport.write(b"question")
    client.transport.loseWriteConnection()
    server.transport.write(b"hello")
    bench.until(0.9)
    assert (server.notes, client.data) == (["made"], b"hello")
    bench.until(1.1)
    assert (server.notes, server.data) == (["made", "data", "read lost"], b"question")


def test_a_latency_also_delays_a_reset(bench):
    """A latency delays a reset as it delays bytes, and the bytes sent before the reset arrive."""
    client, server = bench.connect()
    bench.proxy.add("latency", stream="upstream", latency=1)
    client.transport.write(b"bye")
    bench.rest()
    client.transport.abortConnection()
    bench.until(0.9)
    assert (server.notes, len(bench.proxy.connections)) == (["made"], 1)
    bench.until(1.1)
    assert (server.data, server.reason.type) == (b"bye", ConnectionLost)


def test_bytes_for_a_side_that_is_gone_are_lost(bench):
    """While a client's reset is delayed, the proxy still reads the server's bytes, and drops them."""
    client, server = bench.connect()
    bench.proxy.add("latency", stream="upstream", latency=1)
    client.transport.abortConnection()
    bench.rest()
    server.transport.write(b"x" * 3_000_000)
    server.transport.loseWriteConnection()
    bench.until(0.5)
    assert bench.proxy.connections[0].bytes_downstream == 3_000_000
    bench.until(2)
    assert server.reason.check(ConnectionLost)


def test_limit_data_lets_its_bytes_arrive(bench):
    """With a limit of 5 bytes, 5 bytes arrive, and then both sides get the end."""
    client, server = bench.connect()
    bench.proxy.add("limit_data", bytes=5)
    server.transport.write(b"0123456789")
    bench.rest()
    assert (client.data, client.notes[-1], server.notes[-1]) == (b"01234", "read lost", "read lost")
    assert bench.counted == {"accepted": 1, "refused": 0, "reset": 0, "cut": 1}


def test_reset_peer_resets_both(bench):
    """`reset_peer` downstream resets both sides when the server answers, and the client does not get the answer."""
    client, server = bench.connect()
    bench.proxy.add("reset_peer")
    client.transport.write(b"question")
    bench.rest()
    assert server.data == b"question"
    server.transport.write(b"answer")
    bench.rest()
    assert (client.data, client.reason.type, server.reason.type) == (b"", ConnectionLost, ConnectionLost)
    assert bench.counted["reset"] == 1


def test_a_removed_timeout_for_both_streams_closes_the_connection_once(bench):
    """
    When a timeout for both streams is removed, the first stream closes the connection, and the second does nothing.
    """
    client, server = bench.connect()
    toxic = bench.proxy.add("timeout", stream="both")
    client.transport.write(b"question")
    bench.until(100)
    assert server.notes == ["made"]
    toxic.remove()
    bench.rest()
    assert (client.notes[-1], server.notes[-1]) == ("read lost", "read lost")
    assert bench.counted["cut"] == 1


def test_an_update_that_ends_a_connection(bench):
    """
    An update of a toxic for both streams ends the connection in the first stream; it is not applied to the second one.
    """
    client, _ = bench.connect()
    toxic = bench.proxy.add("reset_peer", stream="both", timeout=10)
    client.transport.write(b"question")
    bench.until(1)
    toxic.update(timeout=1)
    bench.rest()
    assert client.reason.check(ConnectionLost)
    assert bench.counted["reset"] == 1


def test_an_update_that_lets_the_source_be_read_again():
    """When an update releases the bytes of a latency, the proxy reads the paused source again."""
    bench = Bench(bound=10)
    client, server = bench.connect()
    toxic = bench.proxy.add("latency", stream="upstream", latency=100)
    client.transport.write(b"x" * 300_000)
    bench.rest()
    toxic.update(latency=0)
    bench.rest()
    assert len(server.data) == 300_000
    ended(bench)


def test_a_client_that_resets_while_it_is_paused_is_not_read_again():
    """A client that resets while its side is paused is not read again. Its earlier bytes arrive, and then the reset."""
    bench = Bench(bound=10)
    client, server = bench.connect()
    bench.proxy.add("latency", stream="upstream", latency=1)
    client.transport.write(b"x" * 100)
    bench.rest()
    client.transport.abortConnection()
    server.transport.write(b"answer")
    bench.rest()
    [connection] = bench.proxy.connections
    assert (connection.client_side.lost, server.notes) == (True, ["made"])
    bench.until(5)
    assert (len(server.data), server.reason.type) == (100, ConnectionLost)
    ended(bench)
