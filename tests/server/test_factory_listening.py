"""The factory on listening ports: what `listen` gives, limits, policies, suspending, stopping and changed settings."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from twisted.internet.task import Clock

from tcpapp import (
    Limits,
    Listening,
    MessageServerFactory,
    State,
    Telemetry,
    Timeouts,
    connect,
    listen,
)
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidAddress, InvalidFraming, InvalidOption
from tcpapp.limits import Policies
from tcpapp.limits.admission import Refusal
from tcpapp.limits.networks import Networks
from tcpapp.server.factory import RefusedProtocol
from tcpapp.server.listener import close_port
from tcpapp.telemetry import Event, Refused
from tests.peers import Hosts, NotedTransport, Switch, never, outcome
from tests.server.servers import Server

# Listening ------------------------------------------------------------------------------------------------------------


def test_a_listening_has_the_address_of_its_port(hosts: Hosts) -> None:
    """A `Listening` has the address of its port with the real number; on a UNIX socket, its `port` is None."""
    tcp, unix = hosts.listen(echo, "tcp:0:interface=127.0.0.1"), hosts.listen(echo, "unix:/run/app.sock")
    client = hosts.connect(f"tcp:127.0.0.1:{tcp.port}", host=hosts.server)
    assert client.peer == tcp.address == IPv4Address("TCP", "127.0.0.1", tcp.port)
    assert (unix.address.name, unix.port) == (b"/run/app.sock", None)


def test_a_listening_knows_its_connections(hosts: Hosts) -> None:
    """`connections` is a snapshot of the open connections, and `refused` counts the rejected clients."""
    server = hosts.listen(echo, limits=Limits(max_connections=1))
    before = server.connections
    client = hosts.connect()
    hosts.wait()
    over = hosts.connect()
    hosts.wait()
    assert (before, {each.peer for each in server.connections}) == (frozenset(), {client.host})
    assert (server.refused, client.state, over.when_closed().result.rule) == (1, State.OPEN, "end-of-stream")


def test_a_refused_client_is_reported_by_its_address(hosts: Hosts) -> None:
    """The event of a client over `max_connections` has the client's address."""
    events: list[Event] = []
    hosts.listen(echo, limits=Limits(max_connections=1), telemetry=Telemetry(events.append))
    hosts.connect()
    hosts.wait()
    address = hosts.connect().host
    hosts.wait()
    assert [Refused(address, 1, Refusal("max-connections", 1, 1))] == [
        each for each in events if isinstance(each, Refused)
    ]


def test_a_client_of_a_denied_network_is_reset(hosts: Hosts) -> None:
    """A client of a denied network is reset before its bytes are read; another client is served."""
    app = Switch()
    server = hosts.listen(app, networks=Networks(deny=[hosts.client.ip]))
    other = hosts.connect(host=hosts.sim.host("other"))
    denied = hosts.connect()
    denied.send(b"hello")
    other.send(b"hello, too")
    hosts.wait()
    assert denied.when_closed().result.rule == "lost"
    assert app.seen == [b"hello, too"]
    assert (server.refused, other.state) == (1, State.OPEN)
    assert server.info().refused == {"network-denied": 1}


def test_an_address_has_at_most_max_per_address_connections(hosts: Hosts) -> None:
    """
    With max_per_address=2, a third client of one address is closed, and a client of another address is served.

    Once a connection has ended, the next client of the first address is served.
    """
    server = hosts.listen(echo, limits=Limits(max_per_address=2))
    there = [hosts.connect(), hosts.connect()]
    over = hosts.connect()
    elsewhere = hosts.connect(host=hosts.sim.host("other"))
    hosts.wait()
    assert over.when_closed().result.rule == "end-of-stream"
    assert (len(server.connections), server.refused) == (3, 1)
    there[0].abort()
    hosts.wait()
    replies = [outcome(each.request(b"hello")) for each in (there[1], elsewhere, hosts.connect())]
    hosts.wait()
    assert replies == [[b"hello"]] * 3


@pytest.mark.parametrize(
    ("policies", "limits"),
    [
        (Policies(over_max_connections="reset"), {"max_connections": 1}),
        (Policies(over_per_address="reset"), {"max_per_address": 1}),
    ],
)
def test_a_refused_client_can_be_reset(hosts: Hosts, policies: Policies, limits: dict[str, int]) -> None:
    """With the policy "reset", a client over the limit is reset."""
    server = hosts.listen(echo, limits=Limits(**limits), policies=policies)
    hosts.connect()
    over = hosts.connect()
    hosts.wait()
    assert (over.when_closed().result.rule, server.refused) == ("lost", 1)


def test_clients_over_max_connections_can_wait(hosts: Hosts) -> None:
    """With the policy "wait", clients over `max_connections` wait in the backlog until another client has left."""
    server = hosts.listen(echo, limits=Limits(max_connections=2), policies=Policies(over_max_connections="wait"))
    clients = [hosts.connect() for _ in range(6)]
    replies = [outcome(each.request(b"hello", 60)) for each in clients]
    for served in range(2, 7):
        hosts.wait()
        assert ([[b"hello"]] * served, len(server.connections)) == ([each for each in replies if each], 2)
        clients[served - 2].abort()
    assert server.refused == 0


def test_clients_over_the_accept_rate_wait_and_are_served(hosts: Hosts) -> None:
    """Clients over the accept rate wait and are served at this rate; none is rejected."""
    server = hosts.listen(echo, limits=Limits(accept_rate=2))
    replies = [outcome(hosts.connect().request(b"hello", 60)) for _ in range(8)]
    counts = []
    for _ in range(4):
        counts.append(len(server.connections))
        hosts.wait(1.0)
    hosts.wait(60.0)
    assert counts[0] < counts[1] < counts[2] < 8
    assert replies == [[b"hello"]] * 8
    assert server.refused == 0


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")
def test_a_denied_client_is_reset_before_the_tls_handshake(hosts: Hosts, tls_certificates: Any) -> None:
    """Over TLS, a client of a network that is not allowed is reset without a handshake."""
    hosts.listen(echo, endpoint=tls_certificates.listen(443, ""), networks=Networks(allow=["192.0.2.0/24"]))
    denied = outcome(connect(tls_certificates.connect(443, "server"), reactor=hosts.client.reactor))
    hosts.wait()
    assert [ConnectionLost] == [type(each) for each in denied]


def test_a_connection_without_an_address_counts_for_max_connections() -> None:
    """A connection whose transport has no address takes a place of `max_connections`."""
    factory = MessageServerFactory(echo, limits=Limits(max_connections=1, max_per_address=1), telemetry=Telemetry())
    protocol: Any = factory.buildProtocol(None)
    Addressless().connect(protocol)
    assert set(factory.connections) == {protocol.connection}
    assert isinstance(factory.buildProtocol(None), RefusedProtocol)


class Addressless(NotedTransport):
    """A transport that has lost its socket, as after an immediate reset."""

    def getPeer(self) -> Any:
        raise OSError(107, "Transport endpoint is not connected")


def test_clients_of_a_suspended_server_wait_until_it_is_resumed(hosts: Hosts) -> None:
    """While the server is suspended, clients wait in the backlog. Suspending or resuming twice changes nothing."""
    server = hosts.listen(echo)
    server.suspend()
    server.suspend()
    replies = outcome(hosts.connect().request(b"let me in"))
    hosts.wait()
    assert (replies, server.connections) == ([], frozenset())
    server.resume()
    server.resume()
    hosts.wait()
    assert replies == [b"let me in"]


def test_open_connections_are_served_while_the_server_is_suspended(hosts: Hosts) -> None:
    """`suspend` stops the accepting of clients, and an open connection still gets replies."""
    server = hosts.listen(echo)
    client = hosts.connect()
    hosts.wait()
    server.suspend()
    assert hosts.run(client.request(b"hello")) == b"hello"


def test_a_stopped_server_is_not_resumed(hosts: Hosts) -> None:
    """After `close`, `resume` accepts no client, even while the port is still closing: waiting clients are cut off."""
    events: list[Event] = []
    server = hosts.listen(echo, telemetry=Telemetry(events.append))
    server.suspend()
    client = hosts.connect()
    hosts.wait()
    closed = outcome(server.close())
    server.resume()
    hosts.wait()
    assert (closed, client.when_closed().result.rule, events) == ([None], "lost", [])


def test_draining_stops_listening_first_and_waits_for_all_connections(hosts: Hosts) -> None:
    """From the call of `drain` on, no client is accepted; the Deferred fires when the last connection has ended."""
    server = hosts.listen(never)
    replies = outcome(hosts.connect().request(b"work"))
    hosts.wait()
    began, drained = hosts.sim.now, outcome(server.drain(4))
    with pytest.raises(NobodyListens):
        hosts.connect()
    hosts.run(began + 3.99)
    assert (replies, drained) == ([], [])
    hosts.run(began + 4.01)
    assert (len(replies), drained) == (1, [1])


class LatePort:
    """
    A port that records its calls, and that is closed, or fails to close, when the test says so.

    The kit's ports, like Twisted's TCP ports, close in the next turn, and never fail.
    """

    def __init__(self, stopped: Deferred[None] | None = None) -> None:
        self.stopped: Deferred[None] = Deferred() if stopped is None else stopped
        self.asked: list[str] = []
        self.socket = self

    def startReading(self) -> None:
        self.asked.append("startReading")

    def stopReading(self) -> None:
        self.asked.append("stopReading")

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 7007)

    def stopListening(self) -> Deferred[None]:
        self.asked.append("stopListening")
        return self.stopped

    def close(self) -> None:
        self.asked.append("close")


def late(app: Any = echo) -> tuple[Listening, LatePort, Server]:
    """Return a `Listening`, its `LatePort` and its server."""
    server, port = Server(app), LatePort()
    return Listening([port], server.factory), port, server


@pytest.mark.parametrize("stop", [Listening.close, Listening.drain])
def test_a_stopped_server_does_not_pause_its_port(stop: Any) -> None:
    """After `close` or `drain`, `suspend` and `resume` do not call the port, which is closing or closed."""
    here, port, _ = late()
    stop(here)
    here.suspend()
    here.resume()
    assert port.asked == ["stopListening"]
    port.stopped.callback(None)


def test_draining_waits_for_the_port_too() -> None:
    """Without connections, the Deferred of `drain` still waits until the port is closed."""
    here, port, _ = late()
    drained = outcome(here.drain())
    assert drained == []
    port.stopped.callback(None)
    assert drained == [0]


def test_stopping_twice_stops_once() -> None:
    """Of several calls of `drain` and `close`, the first closes the port, and each Deferred fires when it is closed."""
    here, port, _ = late()
    told = [outcome(here.drain()), outcome(here.close()), outcome(here.drain())]
    port.stopped.callback(None)
    assert told == [[0], [None], [0]]
    assert outcome(here.close()) == [None]
    assert port.asked == ["stopListening"]


def test_a_port_that_does_not_close_is_reported_after_the_drain() -> None:
    """A port that fails to close does not shorten the drain; after it, the Deferred fails with the port's error."""
    here, port, server = late(never)
    server.connect().receive(b"work\n")
    drained = outcome(here.drain(4))
    port.stopped.errback(ZeroDivisionError())
    assert drained == []
    server.clock.advance(4)
    assert [ZeroDivisionError] == [type(each) for each in drained]
    assert outcome(here.drain()) == [0]


@pytest.mark.parametrize(("error", "told"), [(FileNotFoundError, []), (PermissionError, [PermissionError])])
def test_a_unix_socket_is_closed_though_its_file_cannot_be_removed(error: type[OSError], told: list[Any]) -> None:
    """When the file of a UNIX socket cannot be removed, the socket is closed; a file that stays behind is an error."""
    port = LatePort(fail(error()))
    assert told == [type(each) for each in outcome(close_port(port)) if each is not None]
    assert port.asked == ["stopListening", "close"]


def test_closing_the_transport_of_a_stdio_endpoint_does_nothing() -> None:
    """A ``stdio:`` endpoint gives a transport in place of a port, and `close_port` leaves it to the connection."""
    assert outcome(close_port(object())) == [None]


# listen() -------------------------------------------------------------------------------------------------------------


def test_listen_serves_the_app(hosts: Hosts) -> None:
    """`listen` serves the app at an endpoint string, with the given framing, limits and timeouts."""
    limits, timeouts = Limits(max_connections=2), Timeouts(drain=1)
    server = hosts.listen(echo, "tcp:7007:interface=127.0.0.1", framing="int16", limits=limits, timeouts=timeouts)
    client = hosts.connect("tcp:127.0.0.1:7007", host=hosts.server, framing="int16")
    assert hosts.run(client.request(b"hi\nthere")) == b"hi\nthere"
    [connection] = server.connections
    settings = protocol_of(connection).factory.settings
    assert (limits, timeouts, echo) == (settings.limits, settings.timeouts, settings.app)
    with pytest.raises(NobodyListens):
        hosts.connect()  # it listens on the other interface only


def test_listen_serves_a_unix_socket(hosts: Hosts) -> None:
    """`listen` serves a UNIX socket, and can listen on the same path again after `close`."""
    for _ in range(2):
        server = hosts.listen(echo, "unix:/run/app.sock")
        client = hosts.connect("unix:/run/app.sock", host=hosts.server)
        assert hosts.run(client.request(b"hello")) == b"hello"
        hosts.run(server.close())


@pytest.mark.parametrize("own", [False, True])
def test_listen_takes_a_clock_of_its_own(own: bool, hosts: Hosts) -> None:
    """The timers of a connection run on the clock that `listen` was given, or on the reactor."""
    clock = Clock()
    server = hosts.listen(echo, **({"clock": clock} if own else {}))
    hosts.connect()
    hosts.wait()
    [connection] = server.connections
    assert protocol_of(connection).clock is (clock if own else hosts.server.reactor)


def test_listen_takes_an_endpoint(hosts: Hosts) -> None:
    """`listen` takes an endpoint object, and its Deferred fails when the port is busy."""
    endpoint = TCP4ServerEndpoint(hosts.server.reactor, 7007)
    assert hosts.listen(echo, endpoint).port == 7007
    [error] = outcome(listen(endpoint, echo, reactor=hosts.server.reactor))
    assert isinstance(error, CannotListenError)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"endpoint": "tcp:65536"}, InvalidAddress),
        ({"endpoint": "tcp:abc"}, InvalidAddress),
        ({"endpoint": "tcp"}, InvalidAddress),
        ({"endpoint": "carrier-pigeon:1"}, InvalidAddress),
        ({"endpoint": ""}, InvalidAddress),
        ({"endpoint": 7007}, InvalidAddress),
        ({"endpoint": "tcp:7007:interface=nowhere"}, InvalidAddress),
        ({"endpoint": "tcp:7007", "framing": "morse"}, InvalidFraming),
        ({"endpoint": "tcp:7007", "app": "echo"}, InvalidOption),
    ],
)
def test_listen_with_an_invalid_argument_opens_nothing(
    arguments: dict[str, Any], error: type[Exception], hosts: Hosts
) -> None:
    """`listen` raises at once for an invalid argument, and opens no port."""
    with pytest.raises(error):
        listen(**{"app": echo, "reactor": hosts.server.reactor} | arguments)
    hosts.wait()
    assert list(hosts.sim.trace) == []


# Changing settings of a serving server --------------------------------------------------------------------------------


def test_limits_change_while_it_serves(hosts: Hosts) -> None:
    """`change` applies new limits to clients that connect later; an open connection keeps its old timeouts."""
    server = hosts.listen(echo, limits=Limits(max_connections=1))
    first = hosts.connect()
    hosts.wait()
    server.change(limits=Limits(max_connections=2, accept_rate=0, max_buffered=10), timeouts=Timeouts(idle=5))
    second = hosts.connect()
    third = hosts.connect()
    hosts.wait()
    assert (third.when_closed().result.rule, server.refused) == ("end-of-stream", 1)
    limits = server.info().limits
    assert (limits.max_buffered, limits.accept_rate) == (10, 0)
    hosts.wait(5)
    assert (first.state, second.when_closed().result.rule) == (State.OPEN, "end-of-stream")
    server.change(networks=Networks(deny=[hosts.client.ip]))
    denied = hosts.connect()
    hosts.wait()
    assert denied.when_closed().result.rule == "lost"


def test_after_a_changed_policy_waiting_clients_are_rejected(hosts: Hosts) -> None:
    """When the policy changes from "wait" to the default, a waiting client without room is closed."""
    server = hosts.listen(echo, limits=Limits(max_connections=1), policies=Policies(over_max_connections="wait"))
    hosts.connect()
    waiting = hosts.connect()
    hosts.wait()
    assert (server.refused, server._factory.accept_control._is_full) == (0, True)
    server.change(policies=Policies())
    hosts.wait()
    assert (server.refused, waiting.when_closed().result.rule) == (1, "end-of-stream")


def test_an_invalid_change_changes_nothing() -> None:
    """`change` with an invalid value raises `InvalidOption` as a new factory does, and keeps the old limits."""
    factory = MessageServerFactory(echo)
    before = factory.settings.limits
    with pytest.raises(InvalidOption, match=r"^timeouts=5: takes a Timeouts"):
        factory.change(limits=Limits(max_connections=5), timeouts=5)  # type: ignore[arg-type]
    assert factory.settings.limits is before


def test_single_limits_change_while_it_serves(hosts: Hosts) -> None:
    """`change` with single numbers keeps all others, and applies the new ones to clients that connect later."""
    server = hosts.listen(echo, limits=Limits(max_connections=1, message_rate=50), timeouts=Timeouts(grace=3))
    hosts.connect()
    hosts.wait()
    server.change(max_connections=2, accept_rate=0, max_buffered=10, idle=5, over_max_connections="reset")
    second, third = hosts.connect(), hosts.connect()
    hosts.wait()
    assert (second.state, third.when_closed().result.rule, server.refused) == (State.OPEN, "lost", 1)
    assert (server.factory.settings.memory_budget.limit, server.factory.accept_control.token_bucket.rate) == (10, 0)
    info = server.info()
    assert info.limits == Limits(max_connections=2, accept_rate=0, max_buffered=10, message_rate=50)
    assert (info.timeouts, info.policies) == (Timeouts(grace=3, idle=5), Policies(over_max_connections="reset"))


def test_single_limits_change_all_or_none(hosts: Hosts) -> None:
    """If one value is invalid, `change` changes nothing, and no waiting client is accepted."""
    server = hosts.listen(echo, limits=Limits(max_connections=1), policies=Policies(over_max_connections="wait"))
    hosts.connect()
    waiting = outcome(hosts.connect().request(b"hi"))
    hosts.wait()
    for error, changes in ((InvalidOption, {"idle": -1}), (TypeError, {"idel": 1}), (InvalidOption, {"networks": 1})):
        with pytest.raises(error, match=r"^(idle|idel|networks)"):
            server.change(max_connections=2, **changes)
    hosts.wait()
    assert (waiting, server.info().limits, server.factory.admission.limits) == ([], *[Limits(max_connections=1)] * 2)
    server.change(max_connections=2)
    hosts.wait()
    assert waiting == [b"hi"]
