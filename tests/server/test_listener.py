"""Listening: one port or several, suspended, waited for, drained; the rest of the server is in `test_factory`."""

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
    """One limit, one set of connections, one end."""
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


def test_its_connections_are_in_the_order_they_came(hosts: Hosts) -> None:
    """Later connections and ends do not change an earlier result."""
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


def test_one_endpoint_that_cannot_be_listened_on_leaves_none_open(hosts: Hosts) -> None:
    """It fails with the error of that one."""
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
def test_an_address_family_that_is_missing_may_be_skipped(error: Exception, hosts: Hosts) -> None:
    """If that is the policy; and if anything is left to listen on."""
    skip = Policies(missing_family="skip")
    server = hosts.listen(echo, ["tcp:1001", Unlistenable(error)], policies=skip)
    assert [address.port for address in server.addresses] == [1001]  # type: ignore[attr-defined]
    failed = [outcome(listen(Unlistenable(error), echo, policies=skip, reactor=hosts.server.reactor))]
    failed.append(outcome(listen(["tcp:1002", Unlistenable(error)], echo, reactor=hosts.server.reactor)))
    hosts.wait()
    assert failed == [[error], [error]]
    hosts.listen(echo, "tcp:1002")


@pytest.mark.parametrize("error", OTHERS)
def test_what_else_is_in_the_way_is_not_skipped(error: Exception, hosts: Hosts) -> None:
    """A port in use, an address of another machine, a file that cannot be written."""
    endpoints = ["tcp:1001", Unlistenable(error)]
    failed = outcome(listen(endpoints, echo, policies=Policies(missing_family="skip"), reactor=hosts.server.reactor))
    hosts.wait()
    assert failed == [error]


def test_all_its_ports_are_suspended(hosts: Hosts) -> None:
    """Clients that come meanwhile wait, at each port."""
    server = hosts.listen(echo, ["tcp:1001", "tcp:1002"])
    server.suspend()
    replies = [outcome(hosts.connect(f"tcp:server:{port}").request(b"hi")) for port in (1001, 1002)]
    hosts.wait()
    assert replies == [[], []]
    server.resume()
    hosts.wait()
    assert replies == [[b"hi"], [b"hi"]]


def test_one_may_wait_until_few_are_left(hosts: Hosts) -> None:
    """Each for its own number; it fires at once if they are few already, and can be cancelled."""
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


def test_many_are_not_told_all_at_once_that_it_drains(hosts: Hosts) -> None:
    """They leave spread over the jitter, and none later than the deadline; each finishes its work."""
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


def test_a_drain_that_is_cut_short_tells_nobody_any_more(hosts: Hosts) -> None:
    """No timer is left."""
    server = hosts.listen(echo, limits=Limits(accept_rate=10), timeouts=Timeouts(drain_jitter=8))
    for _ in range(20):
        hosts.connect()
    hosts.wait(10)
    drained = outcome(server.drain(10))
    server._factory.abort()
    hosts.wait(0.5)
    assert len(drained) == 1
    assert server._factory._later == []


def test_a_few_are_told_at_once(hosts: Hosts) -> None:
    """
    A few clients do not matter when they reconnect; nor does any number without jitter, or without an accept rate.
    """
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
    """An app that says goodbye."""

    def __init__(self, goodbye: Any) -> None:
        self.goodbye = goodbye
        self.app = Switch()

    def received(self, message: bytes, connection: Any) -> Any:
        return self.app.received(message, connection)

    def draining(self, connection: Any) -> Any:
        return self.goodbye


@pytest.mark.parametrize("goodbye", [b"bye", succeed(b"bye")])
def test_an_app_is_told_that_the_server_stops(hosts: Hosts, goodbye: Any) -> None:
    """Its reply is sent before the current work is finished; then the connection ends."""
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


def test_an_app_may_have_nothing_to_say_to_that(hosts: Hosts) -> None:
    """Or fail, which ends its own connection and is reported."""

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


def test_a_goodbye_may_be_a_value(hosts: Hosts) -> None:
    """Where there is a codec."""
    server = hosts.listen(Polite({"bye": True}), codec="json")
    client = hosts.connect(codec="json")
    heard = outcome(client.receive())
    hosts.wait()
    server.drain()
    hosts.wait()
    assert heard == [{"bye": True}]


@pytest_twisted.ensureDeferred
async def test_where_it_listened_is_known_after_it_is_closed() -> None:
    """Its port and addresses stay what they were, also while it closes."""
    server = await listen(["tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"], echo)
    before = (server.port, server.address, server.addresses)
    closing = server.close()
    assert (server.port, server.address, server.addresses) == before
    await closing
    assert (server.port, server.address, server.addresses) == before
    assert server.info().addresses == ()
