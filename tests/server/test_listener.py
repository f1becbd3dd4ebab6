"""A `Listening` with one port or several: it is suspended, waited for and drained."""

from __future__ import annotations

from errno import EADDRINUSE, EADDRNOTAVAIL
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, succeed
from twisted.internet.error import CannotListenError

from tcpapp import Limits, Policies, Telemetry, Timeouts, listen
from tcpapp.apps import echo
from tests.peers import NO_IPV6, Hosts, Switch, Unlistenable, outcome


def test_several_endpoints_are_one_server(hosts: Hosts) -> None:
    """Two endpoints of one `listen` share the limit and the set of connections, and close together."""
    server = hosts.listen(echo, ["tcp:1001", "tcp:1002"], limits=Limits(max_connections=2))
    assert [address.port for address in server.addresses] == [1001, 1002]  # type: ignore[attr-defined]
    assert (server.port, server.address) == (1001, server.addresses[0])
    clients = [hosts.connect(f"tcp:server:{port}") for port in (1001, 1002, 1002)]
    hosts.wait()
    assert (len(server.connections), server.refused) == (2, 1)
    replies = [outcome(each.request(b"hello")) for each in clients[:2]]
    hosts.wait()
    assert replies == [[b"hello"]] * 2
    closed = outcome(server.close())
    hosts.wait()
    assert (closed, server.connections) == ([None], frozenset())


def test_connections_are_in_the_order_in_which_they_were_opened(hosts: Hosts) -> None:
    """`connections` is in the order of opening. The result does not change when connections end later."""
    opened: list[Any] = []

    class App:
        def opened(self, connection: Any) -> None:
            opened.append(connection)

    server = hosts.listen(App())
    for _ in range(20):
        hosts.connect()
    hosts.wait()
    connections = server.connections
    for each in connections:
        each.abort()
    hosts.wait()
    assert list(connections) == opened
    assert server.connections == set()


def test_if_one_endpoint_fails_no_port_stays_open(hosts: Hosts) -> None:
    """If one of two endpoints is busy, `listen` fails with its error, and the other port is free again."""
    hosts.listen(echo, "tcp:1001")
    failed = outcome(listen(["tcp:1002", "tcp:1001"], echo, reactor=hosts.server.reactor))
    hosts.wait()
    assert [CannotListenError] == [type(each) for each in failed]
    hosts.listen(echo, "tcp:1002")


LACKING = [NO_IPV6, CannotListenError("::1", 7007, OSError(EADDRNOTAVAIL, "Cannot assign requested address"))]
OTHERS = [
    CannotListenError("192.0.2.1", 7007, OSError(EADDRNOTAVAIL, "Cannot assign requested address")),
    CannotListenError("::1", 7007, OSError(EADDRINUSE, "Address already in use")),
    CannotListenError(None, b"/run/s", "Cannot acquire lock"),
    PermissionError(13, "Permission denied"),
]


@pytest.mark.parametrize("error", LACKING)
def test_a_missing_address_family_can_be_skipped(error: Exception, hosts: Hosts) -> None:
    """With missing_family="skip", `listen` skips an endpoint of a missing family, if another endpoint is left."""
    skip = Policies(missing_family="skip")
    server = hosts.listen(echo, ["tcp:1001", Unlistenable(error)], policies=skip)
    assert [address.port for address in server.addresses] == [1001]  # type: ignore[attr-defined]
    failed = [outcome(listen(Unlistenable(error), echo, policies=skip, reactor=hosts.server.reactor))]
    failed.append(outcome(listen(["tcp:1002", Unlistenable(error)], echo, reactor=hosts.server.reactor)))
    hosts.wait()
    assert failed == [[error], [error]]
    hosts.listen(echo, "tcp:1002")


@pytest.mark.parametrize("error", OTHERS)
def test_other_errors_of_listening_are_not_skipped(error: Exception, hosts: Hosts) -> None:
    """With missing_family="skip", `listen` fails for a busy port, a foreign address or a file without permission."""
    endpoints = ["tcp:1001", Unlistenable(error)]
    failed = outcome(listen(endpoints, echo, policies=Policies(missing_family="skip"), reactor=hosts.server.reactor))
    hosts.wait()
    assert failed == [error]


def test_suspending_pauses_all_ports(hosts: Hosts) -> None:
    """While the server is suspended, clients wait at each of its ports; after `resume`, they are served."""
    server = hosts.listen(echo, ["tcp:1001", "tcp:1002"])
    server.suspend()
    replies = [outcome(hosts.connect(f"tcp:server:{port}").request(b"hi")) for port in (1001, 1002)]
    hosts.wait()
    assert replies == [[], []]
    server.resume()
    hosts.wait()
    assert replies == [[b"hi"], [b"hi"]]


def test_wait_for_fires_when_few_connections_are_left(hosts: Hosts) -> None:
    """`wait_for(n)` fires when at most n connections are open, at once if this is so already, and can be cancelled."""
    server = hosts.listen(echo)
    clients = [hosts.connect() for _ in range(3)]
    hosts.wait()
    told = {number: outcome(server.wait_for(number)) for number in (0, 1, 2, 3)}
    gone = server.wait_for(0)
    given_up = outcome(gone)
    gone.cancel()
    assert [number for number, each in told.items() if each] == [3]
    for left in (2, 1, 0):
        clients[left].close()
        hosts.wait()
        assert [number for number, each in told.items() if each] == list(range(left, 4))
    assert [CancelledError] == [type(each) for each in given_up]


def test_a_drain_of_many_connections_is_spread_over_the_jitter(hosts: Hosts) -> None:
    """With 50 connections, the drain closes them over the three seconds of `drain_jitter`, and cuts none."""
    server = hosts.listen(echo, limits=Limits(accept_rate=10, max_connections=100), timeouts=Timeouts(drain_jitter=3))
    left: list[float] = []
    for _ in range(50):
        hosts.connect().when_closed().addCallback(lambda _: left.append(hosts.sim.now))
    hosts.wait(10)
    begun = hosts.sim.now
    drained = outcome(server.drain(10))
    hosts.wait(10)
    assert drained == [0]
    after = [moment - begun for moment in left]
    assert len(after) == 50
    assert max(sum(start <= each < start + 0.5 for each in after) for start in (0, 0.5, 1, 1.5, 2, 2.5)) < 25
    assert 2.5 < max(after) < 3.2


def test_an_aborted_drain_leaves_no_timer(hosts: Hosts) -> None:
    """When the factory aborts during a drain with jitter, the drain is over, and none of its timers is left."""
    server = hosts.listen(echo, limits=Limits(accept_rate=10), timeouts=Timeouts(drain_jitter=8))
    for _ in range(20):
        hosts.connect()
    hosts.wait(10)
    drained = outcome(server.drain(10))
    server._factory.abort()
    hosts.wait(0.5)
    assert len(drained) == 1
    assert server._factory._later == []


def test_a_drain_of_few_connections_is_not_spread(hosts: Hosts) -> None:
    """A drain closes a single connection at once, and so does a drain without an accept rate or without jitter."""
    for limits, timeouts in (
        (Limits(), Timeouts()),
        (Limits(accept_rate=0), Timeouts()),
        (Limits(accept_rate=1), Timeouts(drain_jitter=0)),
    ):
        server = hosts.listen(echo, limits=limits, timeouts=timeouts)
        client = hosts.connect()
        hosts.wait()
        server.drain()
        assert server._factory._later == []
        hosts.wait()
        assert client.when_closed().result.rule == "end-of-stream"


class Polite:
    """An app that sends a goodbye when the server drains."""

    def __init__(self, goodbye: Any) -> None:
        self.goodbye = goodbye
        self.app = Switch()

    def received(self, message: bytes, connection: Any) -> Any:
        return self.app.received(message, connection)

    def draining(self, connection: Any) -> Any:
        return self.goodbye


@pytest.mark.parametrize("goodbye", [b"bye", succeed(b"bye")])
def test_the_reply_of_draining_is_sent_before_the_last_work_is_done(hosts: Hosts, goodbye: Any) -> None:
    """A drain sends what `draining` of the app returns, then waits for the current work, then ends the connection."""
    app = Polite(goodbye)
    server = hosts.listen(app)
    client = hosts.connect()
    request = outcome(client.request(b"work"))
    hosts.wait()
    server.drain()
    hosts.wait()
    assert request == [b"bye"]
    app.app.pending[0].callback(b"done")
    last = outcome(client.receive())
    hosts.wait()
    assert last == [b"done"]
    assert client.when_closed().result.rule == "end-of-stream"


def test_draining_of_an_app_can_return_none_or_raise(hosts: Hosts) -> None:
    """If `draining` returns None, the connection ends as usual; if it raises, the connection ends with "app-failed"."""

    class Rude(Polite):
        def draining(self, connection: Any) -> Any:
            raise ValueError("no")

    for app, rule in ((Polite(None), "drained"), (Rude(None), "app-failed")):
        server = hosts.listen(app, telemetry=Telemetry())
        hosts.connect()
        hosts.wait()
        [connection] = server.connections
        ended = outcome(connection.when_closed())
        server.drain()
        hosts.wait()
        assert [each.rule for each in ended] == [rule]


def test_a_goodbye_is_encoded_by_the_codec(hosts: Hosts) -> None:
    """With a codec, `draining` of the app can return a value, which the client receives."""
    server = hosts.listen(Polite({"bye": True}), codec="json")
    client = hosts.connect(codec="json")
    heard = outcome(client.receive())
    hosts.wait()
    server.drain()
    hosts.wait()
    assert heard == [{"bye": True}]


@pytest_twisted.ensureDeferred
async def test_port_and_addresses_stay_known_after_the_close() -> None:
    """`port`, `address` and `addresses` keep their values while the server closes and after it."""
    server = await listen(["tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"], echo)
    before = (server.port, server.address, server.addresses)
    closing = server.close()
    assert (server.port, server.address, server.addresses) == before
    await closing
    assert (server.port, server.address, server.addresses) == before
    assert server.info().addresses == ()
