"""
The fault proxy runs between real sockets on loopback ports; each test shows how one toxic looks to a program behind it.
"""

from __future__ import annotations

import socket

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, clientFromString
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.protocol import Factory

from tcpapp.errors import NotConnected
from tcpapp.testing.faultproxy import FaultProxy
from tests.integration.peers import Peer, PeerFactory, until

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

LOOPBACK = "127.0.0.1"


def shout(message, connection):
    return message.upper()


@pytest.fixture
def served(listening, fault_proxy, connected, clock):
    """
    Give ``served(**options)``: a proxy on ``clock`` before a server that replies in capitals, and a tcpapp client
    through it.
    """

    async def start(**options):
        proxy = await fault_proxy(await listening(shout), clock=clock, **options)
        return proxy, await connected(proxy.endpoint)

    return start


@pytest.fixture
def peers(fault_proxy, global_reactor, clock):
    """
    Give ``peers(**options)``: a proxy on ``clock``, and the two Twisted protocols that it connects, client and server.
    """
    ports, ends = [], []

    class Servers(Factory):
        noisy = False

        def buildProtocol(self, addr):
            ends.append(Peer())
            return ends[-1]

    async def start(**options):
        ports.append(await TCP4ServerEndpoint(global_reactor, 0, interface=LOOPBACK).listen(Servers()))
        upstream = TCP4ClientEndpoint(global_reactor, LOOPBACK, ports[0].getHost().port)
        proxy = await fault_proxy(upstream, clock=clock, **options)
        client = await clientFromString(global_reactor, proxy.endpoint).connect(PeerFactory())
        ends.append(client)
        await until(global_reactor, lambda: len(ends) == 2 and proxy.connections[0].server_side.reads)
        [server] = [each for each in ends if each is not client]
        return proxy, client, server

    yield start
    for each in ends:
        each.transport.abortConnection()
        pytest_twisted.blockon(each.lost)
    for each in ports:
        pytest_twisted.blockon(each.stopListening())


# Without toxics -------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_messages_pass_unchanged(served):
    """The proxy passes messages of any number and size unchanged, and counts their bytes and the connection."""
    proxy, client = await served()
    for number in range(20):
        assert await client.request(b"number %d" % number) == b"NUMBER %d" % number
    big = b"x" * 1_000_000
    assert await client.request(big) == big.upper()
    assert proxy.counters.bytes_upstream == proxy.counters.bytes_downstream > 1_000_000
    assert (proxy.counters.accepted, len(proxy.connections)) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_a_half_closed_client_is_answered(peers):
    """A client that half-closes, as ``nc -N`` does, still receives the answer; then both connections end in order."""
    _, client, server = await peers()
    server.readConnectionLost = lambda: (server.say(b"answer"), server.transport.loseConnection())
    client.say(b"question")
    client.end()
    assert await client.heard(6) == b"answer"
    assert isinstance(await client.lost, ConnectionDone)
    assert isinstance(await server.lost, ConnectionDone)
    assert server.data == b"question"


@pytest.mark.parametrize("first", ["client", "server"])
@pytest_twisted.ensureDeferred
async def test_a_reset_is_a_reset(peers, first):
    """When one peer resets, the other receives all earlier bytes, and then a reset."""
    proxy, client, server = await peers()
    here, there = (client, server) if first == "client" else (server, client)
    here.say(b"bye")
    await there.heard(3)
    here.reset()
    assert isinstance(await there.lost, ConnectionLost)
    assert there.data == b"bye"
    assert proxy.counters.reset == 1


@pytest_twisted.ensureDeferred
async def test_a_missing_server_resets_the_client(fault_proxy, global_reactor):
    """When nothing listens at the server's port, the proxy resets the client and counts the refusal."""
    with socket.socket() as unused:
        unused.bind((LOOPBACK, 0))
        proxy = await fault_proxy(f"tcp:{LOOPBACK}:{unused.getsockname()[1]}")
        client = await clientFromString(global_reactor, proxy.endpoint).connect(PeerFactory())
        assert isinstance(await client.lost, ConnectionLost)
    assert (proxy.counters.accepted, proxy.counters.refused) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_tls_passes_through_unopened(listening, connected, fault_proxy, tls_certificates):
    """TLS goes through the proxy unopened: the client trusts the server's certificate, and the proxy has none."""
    proxy = await fault_proxy(await listening(shout, tls_certificates.listen()))
    proxy.add("slicer", stream="both", average_size=100, size_variation=99)
    client = await connected(tls_certificates.connect(proxy.port))
    assert await client.request(b"hello") == b"HELLO"


@pytest_twisted.ensureDeferred
async def test_from_a_unix_socket_to_a_port_and_back(listening, connected, fault_proxy, tmp_path):
    """The proxy listens at and connects to any endpoints, here a UNIX socket and a TCP port."""
    near = await fault_proxy(await listening(shout), listen=f"unix:{tmp_path}/socket")
    far = await fault_proxy(near.endpoint)
    client = await connected(far.endpoint)
    assert await client.request(b"hello") == b"HELLO"
    assert (near.port, near.endpoint) == (None, f"unix:{tmp_path}/socket")


@pytest_twisted.ensureDeferred
async def test_async_with_closes_all_connections(listening, connected, global_reactor):
    """At the end of ``async with``, the proxy has closed all its connections."""
    server = await listening(shout)
    async with FaultProxy(global_reactor, f"tcp:{LOOPBACK}:{server.port}") as proxy:
        client = await connected(proxy.endpoint)
        assert await client.request(b"hello") == b"HELLO"
    assert (await client.when_closed()).rule == "lost"
    assert proxy.connections == ()


@pytest_twisted.ensureDeferred
async def test_a_stop_while_the_proxy_connects_closes_the_client(listening, global_reactor):
    """When the proxy stops while it connects to the server, it closes the client, and no refusal is counted."""
    server = await listening(shout)
    proxy = await FaultProxy(global_reactor, f"tcp:{LOOPBACK}:{server.port}").start()
    client = await clientFromString(global_reactor, proxy.endpoint).connect(PeerFactory())
    await until(global_reactor, lambda: proxy.counters.accepted == 1)
    await proxy.stop()
    assert isinstance(await client.lost, ConnectionLost)
    assert proxy.counters.refused == 0


# Toxics ---------------------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_latency_delays_replies(served, clock, global_reactor):
    """With a latency of 0.2 s and a jitter of 0.1 s, the proxy holds a reply for at least 0.1 s and at most 0.3 s."""
    proxy, client = await served()
    proxy.add("latency", latency=0.2, jitter=0.1)
    reply = client.request(b"hello")
    await until(global_reactor, lambda: proxy.connections[0].held == 6)
    clock.advance(0.09)
    assert proxy.connections[0].held == 6
    clock.advance(0.22)
    assert await reply == b"HELLO"


@pytest_twisted.ensureDeferred
async def test_bandwidth_limits_the_bytes_in_a_second(served, clock, global_reactor):
    """With a bandwidth of 1000 bytes a second, the proxy passes on 100 bytes each tenth of a second."""
    proxy, client = await served()
    proxy.add("bandwidth", rate=1000)
    reply = client.request(b"x" * 1999)
    await until(global_reactor, lambda: proxy.connections[0].held == 2000)
    for tenth in range(1, 20):
        clock.advance(0.1)
        assert proxy.connections[0].held == 2000 - tenth * 100
    clock.advance(0.11)
    assert await reply == b"X" * 1999


@pytest_twisted.ensureDeferred
async def test_slow_close_delays_the_end(served, clock, global_reactor):
    """
    With `slow_close`, the end of a client's connection reaches the server 3 seconds later, and the client closes
    cleanly.
    """
    proxy, client = await served()
    proxy.add("slow_close", stream="upstream", delay=3)
    closed = client.close(grace=20)
    await until(global_reactor, clock.getDelayedCalls)
    assert len(proxy.connections) == 1
    clock.advance(3)
    assert (await closed).clean
    await until(global_reactor, lambda: not proxy.connections)


@pytest_twisted.ensureDeferred
async def test_timeout_drops_bytes_and_closes(peers, clock, global_reactor):
    """
    A timeout upstream drops the client's bytes, and closes both sides after its time. Downstream bytes still pass.
    """
    proxy, client, server = await peers()
    proxy.add("timeout", stream="upstream", timeout=5)
    client.say(b"question")
    server.say(b"hello")
    await client.heard(5)
    clock.advance(4.9)
    assert len(proxy.connections) == 1
    clock.advance(0.2)
    assert isinstance(await client.lost, ConnectionDone)
    assert isinstance(await server.lost, (ConnectionDone, ConnectionLost))
    assert (server.data, proxy.counters.cut) == (b"", 1)


@pytest_twisted.ensureDeferred
async def test_reset_peer_resets_in_place_of_a_reply(served):
    """After `reset_peer` is added, the next request gets a reset in place of its reply."""
    proxy, client = await served()
    assert await client.request(b"hello") == b"HELLO"
    proxy.add("reset_peer")
    with pytest.raises(NotConnected) as caught:
        await client.request(b"hello")
    assert caught.value.reason.rule == "lost"
    assert proxy.counters.reset == 1


@pytest_twisted.ensureDeferred
async def test_reset_peer_is_a_reset_for_both(peers):
    """`reset_peer` resets the client and the server, and the server gets none of the client's bytes."""
    proxy, client, server = await peers()
    proxy.add("reset_peer", stream="upstream")
    client.say(b"question")
    assert isinstance(await client.lost, ConnectionLost)
    assert isinstance(await server.lost, ConnectionLost)
    assert server.data == b""


@pytest_twisted.ensureDeferred
async def test_slicer_passes_small_pieces_on(peers, clock, global_reactor):
    """A slicer passes a message of 10 bytes on in pieces of 1 to 3 bytes, and no byte is lost."""
    proxy, client, server = await peers()
    pieces = []
    received = client.dataReceived
    client.dataReceived = lambda data: (pieces.append(data), received(data))
    proxy.add("slicer", average_size=2, size_variation=1, delay=0.001)
    server.say(b"0123456789")
    [connection] = proxy.connections
    await until(global_reactor, lambda: connection.held)
    while connection.held:
        await client.heard(connection.bytes_downstream)
        clock.advance(0.001)
    assert await client.heard(10) == b"0123456789"
    assert {len(each) for each in pieces} <= {1, 2, 3}


@pytest_twisted.ensureDeferred
async def test_limit_data_closes_after_its_bytes(peers):
    """With a limit of 4 bytes, 4 bytes arrive, and then both connections are closed."""
    proxy, client, server = await peers()
    proxy.add("limit_data", bytes=4)
    server.say(b"0123456789")
    assert isinstance(await client.lost, ConnectionDone)
    assert isinstance(await server.lost, ConnectionDone)
    assert (client.data, proxy.counters.cut) == (b"0123", 1)


@pytest_twisted.ensureDeferred
async def test_a_proxy_is_up_again_at_its_port_after_down(served, connected):
    """
    While the proxy is down, clients are refused and open connections are closed. After that the proxy is up at the same
    port.
    """
    proxy, client = await served()
    port = proxy.port
    async with proxy.down():
        assert (await client.when_closed()).rule == "end-of-stream"
        with pytest.raises(Refused):
            await connected(proxy.endpoint)
    client = await connected(proxy.endpoint)
    assert await client.request(b"again") == b"AGAIN"
    assert (proxy.port, proxy.counters.accepted) == (port, 2)


@pytest_twisted.ensureDeferred
async def test_without_a_clock_toxics_use_the_time_of_the_reactor(listening, connected, fault_proxy):
    """Without a clock of its own, the proxy waits in the reactor's time, here for 1 ms."""
    proxy = await fault_proxy(await listening(shout))
    proxy.add("latency", stream="both", latency=0.001)
    client = await connected(proxy.endpoint)
    assert await client.request(b"hello") == b"HELLO"
