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


def test_the_accept_rate_is_an_average_of_the_last_seconds() -> None:
    """`rate` counts the connections of the last ten seconds; older ones are dropped."""
    counts = ConnectionCounts(100.0)
    for second in range(100, 130):
        for _ in range(5):
            counts.opened(second + 0.5, 1)
    assert counts.accepted == 150
    assert counts.rate(129.9) == 5.0
    assert counts.rate(1000.0) == 0.0
    assert len(counts._seconds) == 10


def test_the_highest_count_is_recorded() -> None:
    """`most` is the highest number of connections that were open at one time."""
    counts = ConnectionCounts(0.0)
    for there in (1, 2, 3, 1):
        counts.opened(0.0, there)
    assert counts.most == 3


def test_received_messages_and_bytes_are_counted(hosts: Hosts) -> None:
    """`info()` has the messages and bytes that all connections received, and their rates."""
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


def test_what_is_sent_is_counted(hosts: Hosts) -> None:
    """`info()` has the messages and bytes that all connections sent, also of connections that have ended."""
    server = hosts.listen(lambda message, connection: message * 2)
    client, other = hosts.connect(), hosts.connect()
    client.send(b"one")
    client.send(b"three")
    hosts.wait()
    connection, _ = server.connections
    connection.send(b"four")
    other.close()
    hosts.wait()
    info = server.info()
    assert (info.sent_messages, info.sent_bytes) == (3, len(b"oneone\nthreethree\nfour\n"))
    assert (info.sent_message_rate, info.sent_byte_rate) == (0.3, 2.3)
    client.close()
    hosts.wait()
    info = server.info()
    assert (info.connections, info.messages, info.sent_messages, info.sent_message_rate) == (0, 2, 3, 0.3)
    hosts.wait(20)
    assert (server.info().sent_bytes, server.info().sent_byte_rate) == (23, 0.0)


def test_an_app_that_only_sends_has_a_rate(hosts: Hosts) -> None:
    """The rate of sent messages is right where no connection receives anything."""
    server = hosts.listen(None)
    hosts.connect()
    hosts.wait()
    [connection] = server.connections
    for _ in range(30):
        connection.send(b"tick")
        hosts.wait()
    info = server.info()
    assert (info.sent_messages, info.message_rate) == (30, 0.0)
    assert info.sent_message_rate == pytest.approx(1.0, abs=0.1)


def test_ages_are_the_greatest_and_the_median() -> None:
    """`ages` gives the greatest age and the median; without connections, both are 0."""
    assert (ages([], 10.0), ages([1.0, 4.0, 8.0], 10.0)) == ((0.0, 0.0), (9.0, 6.0))


def test_the_info_of_a_server_has_all_its_numbers(hosts: Hosts) -> None:
    """`info()` has addresses, connections, ages, rejected and ended connections, and settings, and can become JSON."""
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


def test_the_info_of_a_server_has_its_state(hosts: Hosts) -> None:
    """The state of a server is "serving", "suspended", "draining" or "stopped"."""
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


def test_a_factory_without_a_clock_has_an_info() -> None:
    """A factory without a clock gives its `info()` with an uptime of the monotonic clock."""
    info = MessageServerFactory(echo).info()
    assert (info.state, info.accept_rate, info.buffered, info.shed) == ("stopped", 0.0, 0, 0)
    assert info.uptime >= 0


# The info of a factory ------------------------------------------------------------------------------------------------


def test_the_info_of_a_factory_has_the_ports_of_listen(hosts: Hosts) -> None:
    """The factory of a connection gives the same `info()` as the `Listening`: an app can ask it."""
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


def test_a_factory_on_a_port_of_listentcp_is_serving(hosts: Hosts) -> None:
    """A factory on a port of ``listenTCP`` is "serving" while this port is open, and "stopped" before and after."""
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
async def test_a_factory_on_a_port_of_an_endpoint_is_serving(
    endpoint: str, global_reactor: Any, tmp_path: Path
) -> None:
    """A factory that listens at an endpoint of any kind, on real ports, is "serving" while the port is open."""
    factory = MessageServerFactory(echo)
    port = await server_endpoint(global_reactor, endpoint.format(tmp_path)).listen(factory)
    info = factory.info()
    assert (info.state, info.addresses, info.uptime >= 0) == ("serving", (), True)
    await port.stopListening()
    assert factory.info().state == "stopped"


def test_a_factory_of_twistd_counts_its_time_by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The uptime under twistd is counted by the monotonic clock, before the service is made and after."""
    reactor = MemoryReactorClock()
    reactor.rightNow = 1e9  # as the wall clock has it
    monkeypatch.setattr("twisted.internet.reactor", reactor)
    options = Options()
    options.parseOptions([])
    assert 0 <= options.factory.info().uptime < 60
    makeService(options)
    assert 0 <= options.factory.info().uptime < 60
