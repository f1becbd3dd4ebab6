"""The statistics of a server: counts, ages, rates, and current settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock

from tcpapp import Limits, MessageServerFactory, Policies, Timeouts
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.plugin import Options, makeService
from tcpapp.telemetry.statistics import ConnectionCounts, ages
from tcpapp.transport.endpoint_strings import server_endpoint
from tests.peers import Hosts


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """Earlier connections, and their times, are forgotten."""
    counts = ConnectionCounts(100.0)
    for second in range(100, 130):
        for _ in range(5):
            counts.opened(second + 0.5, 1)
    assert counts.accepted == 150
    assert counts.rate(129.9) == 5.0
    assert counts.rate(1000.0) == 0.0
    assert len(counts._seconds) == 10


def test_the_highest_count_is_recorded() -> None:
    """Whatever there are now."""
    counts = ConnectionCounts(0.0)
    for there in (1, 2, 3, 1):
        counts.opened(0.0, there)
    assert counts.most == 3


def test_what_peers_send_is_counted(hosts: Hosts) -> None:
    """Messages and bytes, of all connections, as they come."""
    server = hosts.listen(echo)
    for client in (hosts.connect(), hosts.connect()):
        for message in (b"one", b"two", b"three"):
            client.send(message)
        hosts.wait(2)
    info = server.info()
    assert (info.messages, info.bytes) == (6, 2 * len(b"one\ntwo\nthree\n"))
    assert (info.message_rate, info.byte_rate) == (0.6, 2.8)
    hosts.wait(20)
    assert (server.info().messages, server.info().message_rate) == (6, 0.0)


def test_ages_are_the_greatest_and_the_median() -> None:
    """Of none they are 0."""
    assert (ages([], 10.0), ages([1.0, 4.0, 8.0], 10.0)) == ((0.0, 0.0), (9.0, 6.0))


def test_a_server_tells_all_there_is_to_know(hosts: Hosts) -> None:
    """Addresses, connections and their ages, rejected and ended connections with reasons, and the current settings."""
    limits = Limits(max_connections=2)
    server = hosts.listen(echo, limits=limits)
    first, second, _ = hosts.connect(), hosts.connect(), hosts.connect()
    hosts.wait(10)
    second.close()
    hosts.wait(1)
    info = server.info()
    assert (info.addresses, info.state) == (("0.0.0.0:7007",), "serving")
    assert (info.connections, info.most_connections, info.accepted) == (1, 2, 2)
    assert (info.refused, info.closed) == ({"max-connections": 1}, {"end-of-stream": 1})
    assert 10 < info.oldest == info.median_age < info.uptime + 1
    assert (info.limits, info.timeouts, info.policies) == (limits, Timeouts(), Policies())
    first.send(b"half")
    told = json.loads(json.dumps(info.as_dict()))
    assert (told["limits"]["max_connections"], told["addresses"]) == (2, ["0.0.0.0:7007"])


def test_it_tells_what_it_does(hosts: Hosts) -> None:
    """Serve, accept no client, drain, or listen nowhere."""
    server = hosts.listen(echo)
    hosts.connect()
    hosts.wait()
    server.suspend()
    states = [server.info().state]
    server.resume()
    states.append(server.info().state)
    server.drain()
    states.append(server.info().state)
    hosts.wait()
    states.append(server.info().state)
    assert states == ["suspended", "serving", "draining", "stopped"]


def test_a_factory_without_a_clock_tells_too() -> None:
    """By a clock of its own."""
    info = MessageServerFactory(echo).info()
    assert (info.state, info.accept_rate, info.buffered, info.shed) == ("stopped", 0.0, 0, 0)
    assert info.uptime >= 0


# A factory that others listen with ------------------------------------------------------------------------------------


def test_a_factory_tells_of_the_ports_of_listen(hosts: Hosts) -> None:
    """Their places and states, as from a listener: an app asks by ``protocol_of(connection).factory``."""
    server = hosts.listen(echo)
    hosts.connect()
    hosts.wait(2)
    [connection] = server.connections
    for do, state in ((server.suspend, "suspended"), (server.resume, "serving")):
        do()
        assert protocol_of(connection).factory.info() == server.info()
        assert (protocol_of(connection).factory.info().state, server.factory.info().addresses) == (
            state,
            ("0.0.0.0:7007",),
        )
    server.drain()
    assert server.factory.info().state == "draining"
    hosts.wait()
    assert (server.factory.info().state, server.factory.info().addresses) == ("stopped", ())


def test_a_factory_tells_that_it_serves_by_ports_it_does_not_know(hosts: Hosts) -> None:
    """For ports of ``listenTCP``: it is stopped before, and when they are closed."""
    factory = MessageServerFactory(echo, clock=hosts.server.reactor)
    states = [factory.info().state]
    port = hosts.server.reactor.listenTCP(7007, factory)
    hosts.connect()
    hosts.wait(3)
    info = factory.info()
    assert (info.state, info.addresses, info.connections) == ("serving", (), 1)
    assert info.uptime >= 3
    hosts.run(port.stopListening())
    hosts.wait()
    assert [*states, factory.info().state] == ["stopped", "stopped"]


@pytest.mark.parametrize("endpoint", ["tcp:0:interface=127.0.0.1", "haproxy:tcp:0:interface=127.0.0.1", "unix:{}/s"])
@pytest_twisted.ensureDeferred
async def test_a_factory_tells_that_it_serves_by_an_endpoint(
    endpoint: str, global_reactor: Any, tmp_path: Path
) -> None:
    """Of any kind, over real ports: as long as they are open."""
    factory = MessageServerFactory(echo)
    port = await server_endpoint(global_reactor, endpoint.format(tmp_path)).listen(factory)
    info = factory.info()
    assert (info.state, info.addresses, info.uptime >= 0) == ("serving", (), True)
    await port.stopListening()
    assert factory.info().state == "stopped"


def test_a_factory_of_twistd_counts_its_time_by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock, from the first moment on: twistd's options are read before the service is made."""
    reactor = MemoryReactorClock()
    reactor.rightNow = 1e9  # as the wall clock has it
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    options = Options()
    options.parseOptions([])
    assert 0 <= options.factory.info().uptime < 60
    makeService(options)
    assert 0 <= options.factory.info().uptime < 60
