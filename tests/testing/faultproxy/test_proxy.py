"""The proxy without sockets: its toxics, its random values, whether it is up, and its address."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from tcpapp.errors import InvalidAddress, InvalidOption
from tcpapp.testing.faultproxy import BOUND, FaultProxy, endpoint_of
from tests.testing.faultproxy.bench import Bench


@pytest.fixture
def bench():
    """Give a bench, and check that its clock has no timer once the proxy is stopped."""
    bench = Bench()
    yield bench
    bench.proxy.stop()
    bench.rest()
    for each in (*bench.wires, *bench.leads.wires):
        each.close()
    assert bench.clock.getDelayedCalls() == []


# Toxics ---------------------------------------------------------------------------------------------------------------


def test_toxics_are_listed_in_order(bench):
    """`toxics` lists them in the order in which bytes pass them. A removed toxic is not listed."""
    slow = bench.proxy.add("latency", latency=0.1, jitter=0.02)
    cut = bench.proxy.add("limit_data", stream="both", toxicity=0.5, bytes=7)
    assert bench.proxy.toxics == (slow, cut)
    assert (slow.type, slow.stream, slow.toxicity) == ("latency", "downstream", 1.0)
    assert slow.attributes == {"latency": 0.1, "jitter": 0.02}
    assert repr(cut) == "<Toxic limit_data both: bytes=7, toxicity=0.5>"
    slow.remove()
    slow.remove()
    assert bench.proxy.toxics == (cut,)


@pytest.mark.parametrize("stream", ["upstream", "downstream", "both"])
def test_a_toxic_is_for_a_stream(bench, stream):
    """A toxic delays only the bytes of its stream, and the connection counts the held bytes."""
    client, server = bench.connect()
    bench.proxy.add("latency", stream=stream, latency=1)
    client.transport.write(b"question")
    server.transport.write(b"answer")
    bench.rest()
    assert (server.data == b"", client.data == b"") == (stream != "downstream", stream != "upstream")
    [connection] = bench.proxy.connections
    assert connection.held == {"upstream": 8, "downstream": 6, "both": 14}[stream]
    bench.until(2)
    assert (server.data, client.data, connection.held) == (b"question", b"answer", 0)


def test_a_toxic_applies_to_open_and_to_new_connections(bench):
    """
    A toxic holds the bytes of connections from before and after it was added, and passes them on when it is removed.
    """
    before = bench.connect()
    toxic = bench.proxy.add("latency", stream="upstream", latency=1)
    after = bench.connect()
    for client, _ in (before, after):
        client.transport.write(b"x")
    bench.rest()
    assert [server.data for _, server in (before, after)] == [b"", b""]
    toxic.remove()
    bench.rest()
    assert [server.data for _, server in (before, after)] == [b"x", b"x"]
    client, server = bench.connect()
    client.transport.write(b"x")
    bench.rest()
    assert server.data == b"x"


def test_a_toxic_in_a_with_statement_goes_at_its_end(bench):
    """A toxic in a `with` statement is removed when the block ends."""
    with bench.proxy.add("latency", latency=1) as toxic:
        assert bench.proxy.toxics == (toxic,)
    assert bench.proxy.toxics == ()


def test_an_update_changes_only_the_given_attributes(bench):
    """An update of the latency leaves the jitter as it was, and applies to held bytes."""
    client, server = bench.connect()
    toxic = bench.proxy.add("latency", stream="upstream", latency=10, jitter=0)
    client.transport.write(b"x")
    bench.until(1)
    toxic.update(latency=2)
    bench.until(1.9)
    assert server.data == b""
    bench.until(2.1)
    assert server.data == b"x"
    assert toxic.attributes == {"latency": 2, "jitter": 0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"jitter": -1}, "jitter=-1"),
        ({"toxicity": 2}, "toxicity=2"),
        ({"stream": "both"}, "latency has no 'stream'; it takes latency, jitter, toxicity"),
    ],
)
def test_an_invalid_update_changes_nothing(bench, wrong, said):
    """If one value of an update is invalid, the update is refused, and no attribute changes."""
    toxic = bench.proxy.add("latency", latency=1)
    with pytest.raises(InvalidOption, match=said):
        toxic.update(latency=5, **wrong)
    assert (toxic.attributes, toxic.toxicity) == ({"latency": 1, "jitter": 0.0}, 1.0)


def test_a_toxic_that_was_removed_is_not_updated(bench):
    """`update` of a removed toxic raises an error that says to add another."""
    toxic = bench.proxy.add("latency", latency=1)
    toxic.remove()
    with pytest.raises(InvalidOption, match=r"<Toxic latency .* was removed; add another"):
        toxic.update(latency=2)


def test_an_invalid_toxic_is_not_added(bench):
    """A toxic with an unknown type, an unknown stream or an invalid toxicity is refused and not added."""
    for wrong in ({"type": "latncy"}, {"type": "latency", "stream": "up"}, {"type": "timeout", "toxicity": 7}):
        with pytest.raises(InvalidOption):
            bench.proxy.add(**wrong)
    assert bench.proxy.toxics == ()


# Random values --------------------------------------------------------------------------------------------------------


def hit(seed, toxicity=0.5, connections=40):
    """Return for each connection of a proxy whether the toxic affects it."""
    bench = Bench(seed=seed)
    bench.proxy.add("timeout", stream="both", toxicity=toxicity)
    ends = [bench.connect() for _ in range(connections)]
    for client, server in ends:
        client.transport.write(b"x")
        server.transport.write(b"x")
    bench.rest()
    for client, server in ends:
        assert client.data == server.data, "a toxic affects both streams of a connection, or none"
    return [not server.data for _, server in ends]


def test_toxicity_is_the_share_of_affected_connections():
    """A toxicity of 0.5 affects about half of the connections, and the seed decides which."""
    assert hit(1) == hit(1)
    assert hit(1) != hit(2)
    assert 10 < sum(hit(1)) < 30
    assert sum(hit(1, 0.0)) == 0
    assert sum(hit(1, 1.0)) == 40


def test_toxics_are_drawn_apart(bench):
    """Two toxics of the same toxicity do not affect the same connections."""
    for stream in ("upstream", "downstream"):
        bench.proxy.add("timeout", stream=stream, toxicity=0.5)
    ends = [bench.connect() for _ in range(40)]
    for client, server in ends:
        client.transport.write(b"x")
        server.transport.write(b"x")
    bench.rest()
    assert len({(bytes(client.data), bytes(server.data)) for client, server in ends}) == 4


def test_a_higher_toxicity_affects_the_same_connections_and_more(bench):
    """
    A higher toxicity affects the same connections and more.

    A connection that is no longer affected gets the bytes that were held.
    """
    ends = [bench.connect() for _ in range(40)]
    toxic = bench.proxy.add("latency", stream="upstream", toxicity=0.2, latency=9)
    counts = []
    for toxicity in (0.2, 0.5, 0.5, 1.0, 0.3, 0.0):
        toxic.update(toxicity=toxicity)
        for client, _ in ends:
            client.transport.write(b"x")
        bench.rest()
        counts.append([each.held for each in bench.proxy.connections])
    hit = [{number for number, held in enumerate(each) if held} for each in counts]
    assert hit[0] < hit[1] < hit[3] == set(range(40))
    assert hit[0] < hit[4] < hit[1] == hit[2]
    assert hit[5] == set()
    assert [server.data for _, server in ends] == [b"x" * 6] * 40


def arrivals(seed):
    """Return how many bytes had arrived at each moment, at each of three connections with two random toxics."""
    bench = Bench(seed=seed)
    bench.proxy.add("latency", stream="both", latency=1, jitter=1)
    bench.proxy.add("slicer", stream="both", average_size=3, size_variation=2, delay=0.01)
    ends = [bench.connect() for _ in range(3)]
    for client, server in ends:
        client.transport.write(b"0123456789")
        server.transport.write(b"0123456789")
    noted = []
    for step in range(300):
        bench.until(step / 100)
        noted.append([(len(client.data), len(server.data)) for client, server in ends])
    return noted


def test_random_values_follow_the_seed():
    """The same seed gives the same delays, and each connection and each stream has delays of its own."""
    first, again, other = arrivals(1), arrivals(1), arrivals(2)
    assert first == again
    assert first != other
    histories = [tuple(step[number][way] for step in first) for number in range(3) for way in range(2)]
    assert len(set(histories)) == 6


# Up and down ----------------------------------------------------------------------------------------------------------


def test_a_disabled_proxy_closes_its_port_and_its_connections(bench):
    """`disable()` closes the port once and cuts the open connections."""
    client, server = bench.connect()
    assert bench.proxy.enabled
    assert bench.proxy.disable().called
    bench.rest()
    assert not bench.proxy.enabled
    assert (client.notes[-1], server.notes[-1]) == ("read lost", "read lost")
    assert [each.closed for each in bench.listens.ports] == [1]
    assert bench.counted["cut"] == 1
    bench.proxy.disable()
    assert [each.closed for each in bench.listens.ports] == [1]


def test_an_enabled_proxy_listens_again(bench):
    """A proxy that is enabled again listens on a new port object, keeps its toxics, and goes on with its numbers."""
    toxic = bench.proxy.add("latency", stream="upstream", latency=1)
    bench.connect()
    bench.proxy.disable()
    bench.proxy.enable()
    bench.proxy.enable()
    assert [each.closed for each in bench.listens.ports] == [1, 0]
    client, server = bench.connect()
    client.transport.write(b"x")
    bench.rest()
    assert (server.data, bench.proxy.toxics, bench.proxy.connections[-1].number) == (b"", (toxic,), 2)


def test_after_down_the_proxy_is_up_again(bench):
    """After `down()` the proxy is up again, also when the block has raised an error."""
    seen = []

    async def go_down():
        async with bench.proxy.down():
            seen.append(bench.proxy.enabled)
            raise ZeroDivisionError

    ensureDeferred(go_down()).addErrback(lambda failure: seen.append(failure.type))
    assert seen == [False, ZeroDivisionError]
    assert bench.proxy.enabled


def test_a_proxy_at_any_port_is_up_again_at_the_same_port():
    """A proxy that listens at port 0 is up again at the port that it had, over IPv4 and over IPv6."""
    for listen, host in (("tcp:0:interface=127.0.0.1", "127.0.0.1"), (r"tcp6:0:interface=\:\:1", "::1")):
        reactor = MemoryReactorClock()
        proxy = FaultProxy(reactor, "tcp:127.0.0.1:7007", listen)
        proxy.start()
        proxy.address = type(proxy.address)("TCP", host, 4321)
        proxy.disable()
        proxy.enable()
        assert [(port, interface) for port, _, _, interface in reactor.tcpServers] == [(0, host), (4321, host)]


# Starting and stopping ------------------------------------------------------------------------------------------------


def test_a_started_proxy_cannot_be_started_again(bench):
    """`start()` of a started proxy raises an error."""
    with pytest.raises(RuntimeError, match="the proxy is started already"):
        bench.proxy.start()


def test_a_proxy_that_is_not_started_has_no_address():
    """A proxy that is not started has no address, and cannot be enabled. `stop()` and `disable()` do nothing."""
    proxy = FaultProxy(Clock(), "tcp:127.0.0.1:7007")
    assert (proxy.enabled, proxy.port, proxy.address) == (False, None, None)
    with pytest.raises(ValueError, match="None: nobody listens there"):
        proxy.endpoint  # noqa: B018  # reading the attribute raises
    with pytest.raises(RuntimeError, match="the proxy is not started"):
        proxy.enable()
    assert proxy.stop().called
    assert proxy.disable().called


def test_a_stopped_proxy_can_be_started_again(bench):
    """A stopped proxy has no address, and keeps its toxics. Then it can be started again."""
    toxic = bench.proxy.add("latency", latency=1)
    bench.connect()
    results = []
    bench.proxy.stop().addBoth(results.append)
    assert results == []
    bench.rest()
    assert (results, bench.proxy.address, bench.counted["cut"]) == ([None], None, 1)
    bench.proxy.start()
    assert (bench.proxy.port, bench.proxy.toxics) == (4321, (toxic,))


def test_async_with_starts_and_stops_the_proxy():
    """`async with` starts the proxy, and stops it at the end of the block."""
    bench = Bench()
    bench.proxy.stop()
    inside = []

    async def use():
        async with bench.proxy as proxy:
            inside.append(proxy)
            assert proxy.enabled

    ensureDeferred(use())
    assert inside == [bench.proxy]
    assert not bench.proxy.enabled


def test_listening_that_fails_fails_the_start():
    """If the endpoint cannot listen, `start()` fails with its error, and the proxy stays disabled."""
    bench = Bench()
    bench.proxy.stop()
    bench.listens.listen = lambda factory: Deferred.fromCoroutine(refuse())

    async def refuse():
        raise CannotListenError("127.0.0.1", 80, OSError())

    failures = []
    bench.proxy.start().addErrback(lambda failure: failures.append(failure.type))
    assert failures == [CannotListenError]
    assert not bench.proxy.enabled


@pytest.mark.parametrize(
    ("error", "options", "said"),
    [
        (InvalidAddress, {"upstream": "tpc:127.0.0.1:7007"}, "did you mean 'tcp'"),
        (InvalidAddress, {"listen": "tcp:99999"}, "99999"),
        (InvalidOption, {"bound": -1}, "bound=-1: takes a whole number of bytes, 0 or more"),
        (InvalidOption, {"bound": 0.5}, "bound=0.5: takes"),
        (InvalidOption, {"bound": True}, "bound=True: takes"),
    ],
)
def test_invalid_options_are_refused_before_a_port_is_opened(error, options, said):
    """An invalid address or bound is refused when the proxy is made, and the error names it."""
    with pytest.raises(error, match=said):
        FaultProxy(**{"reactor": Clock(), "upstream": "tcp:127.0.0.1:7007", **options})


def test_the_bound_is_a_number_with_a_reason():
    """The default bound is what a line of 100 Mbit/s holds in 80 ms."""
    assert 0.95 < 100e6 / 8 * 0.08 / BOUND <= 1


# Its address ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (IPv4Address("TCP", "127.0.0.1", 7007), "tcp:127.0.0.1:7007"),
        (IPv4Address("TCP", "0.0.0.0", 7007), "tcp:127.0.0.1:7007"),
        (IPv6Address("TCP", "::1", 7007), r"tcp:\:\:1:7007"),
        (IPv6Address("TCP", "::", 7007), r"tcp:\:\:1:7007"),
        (UNIXAddress(b"/run/a:b"), r"unix:/run/a\:b"),
    ],
)
def test_an_address_has_an_endpoint_that_leads_to_it(address, endpoint):
    """
    `endpoint_of` gives the endpoint string that connects to an address, with the loopback address in place of any
    address.
    """
    assert endpoint_of(address) == endpoint


@pytest.mark.parametrize("address", [None, UNIXAddress(None), "127.0.0.1:7007"])
def test_an_address_without_a_listener_has_no_endpoint(address):
    """`endpoint_of` raises an error for None, for a UNIX socket without a path, and for text."""
    with pytest.raises(ValueError, match="nobody listens there"):
        endpoint_of(address)


def test_the_proxy_shows_its_port_endpoint_and_address(bench):
    """A started proxy has the port, the endpoint string and the address at which it listens."""
    assert (bench.proxy.port, bench.proxy.endpoint) == (4321, "tcp:127.0.0.1:4321")
    assert bench.proxy.address == IPv4Address("TCP", "127.0.0.1", 4321)
