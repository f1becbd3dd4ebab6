"""`connect()` and its factory: connections without reconnecting, and the errors of connecting."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    DNSLookupError,
    TCPTimedOutError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from tcpapp import Limits, MessageClientFactory, State, Timeouts, connect
from tcpapp.apps import echo
from tcpapp.connection.protocol import protocol_of
from tcpapp.errors import InvalidAddress, InvalidFraming, InvalidOption
from tcpapp.telemetry import Event, RateLimitedLog, Telemetry
from tcpapp.telemetry.events import CLOSES
from tests.peers import Hosts, joined, outcome, result_of

# The factory ----------------------------------------------------------------------------------------------------------


def test_the_factory_is_one_of_twisteds() -> None:
    """The factory is a `ClientFactory` of Twisted, which reports failures to it, and it logs no line at its start."""
    factory = MessageClientFactory()
    assert verifyObject(IProtocolFactory, factory)
    assert isinstance(factory, ClientFactory)
    assert not factory.noisy


def test_messages_are_sent_and_received() -> None:
    """Without an app, `send()` and `receive()` carry the messages."""
    server = joined(MessageClientFactory(framing="int8"))
    server.connection.send(b"hello")
    server.receive(b"\5world")
    assert server.value() == b"\5hello"
    assert result_of(server.connection.receive()) == b"world"


def test_a_client_can_have_an_app() -> None:
    """The app of a client answers the messages of the server."""
    server = joined(MessageClientFactory(lambda message, connection: message.upper()))
    server.receive(b"who is there?\n")
    assert server.value() == b"WHO IS THERE?\n"


def test_a_factory_makes_connection_after_connection() -> None:
    """A factory can be used again: a connection that has ended leaves nothing behind for the next."""
    factory = MessageClientFactory()
    first = joined(factory)
    first.receive(b"half a mess")
    first.lose(ConnectionDone())
    second = joined(factory)
    second.receive(b"age\n")
    assert result_of(second.connection.receive()) == b"age"
    assert (first.connection.state, second.connection.state) == (State.CLOSED, State.OPEN)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"app": 5}, InvalidOption),
        ({"framing": "morse"}, InvalidFraming),
        ({"codec": "yaml"}, InvalidOption),
        ({"limits": Timeouts()}, InvalidOption),
        ({"key": 5}, InvalidOption),
        ({"timeout": 5}, TypeError),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A factory with an invalid setting is not made."""
    with pytest.raises(error):
        MessageClientFactory(**arguments)


# when_connected -------------------------------------------------------------------------------------------------------


def test_waiters_are_given_the_connection(hosts: Hosts) -> None:
    """After `connectTCP`, all callers of `when_connected()` get the connection once it is open."""
    hosts.listen(echo)
    factory = MessageClientFactory()
    hosts.client.reactor.connectTCP("server", 7007, factory)
    waiting = [outcome(factory.when_connected()) for _ in range(2)]
    assert waiting == [[], []]
    hosts.wait()
    [[connection], [other]] = waiting
    assert connection is other
    assert hosts.run(connection.request(b"hello")) == b"hello"
    connection.abort()


def test_waiting_is_for_the_next_connection() -> None:
    """A `when_connected()` that is called after the first connection fires with the next one, and with no other."""
    factory = MessageClientFactory()
    joined(factory)
    waiting = outcome(factory.when_connected())
    assert waiting == []
    second = joined(factory)
    joined(factory)
    assert waiting == [second.connection]


def test_waiters_fail_when_there_is_no_connection(hosts: Hosts) -> None:
    """
    If no server listens, each waiting `when_connected()` fails with Twisted's error. Later calls wait for the next
    attempt.
    """
    factory = MessageClientFactory()
    connector = hosts.client.reactor.connectTCP("server", 7007, factory)
    waiting = [outcome(factory.when_connected()) for _ in range(2)]
    hosts.wait()
    assert [type(error) for [error] in waiting] == [Refused] * 2
    again = outcome(factory.when_connected())
    hosts.wait()
    assert again == []
    hosts.listen(echo)
    connector.connect()
    hosts.wait()
    [connection] = again
    assert connection.state is State.OPEN
    connection.abort()


def test_a_cancelled_waiter_is_not_notified() -> None:
    """A cancelled `when_connected()` gets only the cancellation, and the factory forgets it."""
    factory = MessageClientFactory()
    one, other = factory.when_connected(), factory.when_connected()
    told = outcome(other)
    one.cancel()
    assert len(factory._waiters) == 1
    assert isinstance(result_of(one), CancelledError)
    assert told == [joined(factory).connection]


def test_a_notified_waiter_can_cancel_the_next() -> None:
    """If a callback cancels another waiting `when_connected()`, that one gets only the cancellation."""
    factory = MessageClientFactory()
    one, other, third = (factory.when_connected() for _ in range(3))
    one.addCallback(lambda connection: other.cancel())
    told = outcome(third)
    connection = joined(factory).connection
    assert isinstance(result_of(other), CancelledError)
    assert told == [connection]


# connect() ------------------------------------------------------------------------------------------------------------


def test_connect_gives_the_open_connection(hosts: Hosts) -> None:
    """`connect()` gives a connection with the given framing and limits, and leaves no timer."""
    hosts.listen(echo, framing="int8")
    limits = Limits(max_requests=2)
    endpoint = TCP4ClientEndpoint(hosts.client.reactor, "10.0.0.1", 7007)
    connection = hosts.connect(endpoint, framing="int8", limits=limits)
    assert hosts.client.reactor.getDelayedCalls() == []
    assert hosts.run(connection.request(b"hel\nlo")) == b"hel\nlo"
    assert protocol_of(connection).factory.settings.limits is limits


@pytest.mark.parametrize("own", [False, True])
def test_connect_takes_a_clock_of_its_own(own: bool, hosts: Hosts) -> None:
    """The timers of the connection run on the reactor, unless another clock is given."""
    hosts.listen(echo)
    clock = Clock()
    connection = hosts.connect(**({"clock": clock} if own else {}))
    assert protocol_of(connection).clock is (clock if own else hosts.client.reactor)


def test_connect_takes_an_app(hosts: Hosts) -> None:
    """The app that `connect()` gets answers the messages of the server."""
    server = hosts.listen(None)
    hosts.connect(app=lambda message, connection: b"yes")
    hosts.wait()
    [theirs] = server.connections
    assert hosts.run(theirs.request(b"really?")) == b"yes"


def test_connections_share_the_rates_of_the_log(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that connects again and again does not log a line for each lost connection."""
    lines: list[str] = []

    def note(event: Any) -> None:
        if event["log_namespace"] == "tcpapp":
            lines.append(formatEvent(event))

    monkeypatch.setattr("tcpapp.client.connect.LOG", RateLimitedLog(lambda: 100.0))
    hosts.listen(lambda message, connection: connection.abort(), telemetry=Telemetry())
    globalLogPublisher.addObserver(note)
    for _ in range(CLOSES + 5):
        connection = hosts.connect()
        connection.send(b"go away")
        hosts.run(connection.when_closed())
    globalLogPublisher.removeObserver(note)
    assert len([each for each in lines if "closed: lost" in each]) == CLOSES


def test_connect_takes_a_telemetry_of_its_own(hosts: Hosts) -> None:
    """The events go to the given telemetry, and not into the log."""
    events: list[Event] = []
    hosts.listen(echo, telemetry=Telemetry())
    connection = hosts.connect(telemetry=Telemetry(events.append))
    hosts.run(connection.close())
    assert [type(event).__name__ for event in events] == ["Opened", "Closed"]


def test_connect_takes_endpoint_strings(hosts: Hosts) -> None:
    """`connect()` takes the string of a UNIX socket, as of any other endpoint."""
    hosts.listen(echo, "unix:/run/app.sock")
    connection = hosts.connect("unix:/run/app.sock", host=hosts.server)
    assert hosts.run(connection.request(b"hello")) == b"hello"


def test_connect_takes_a_key_for_replies(hosts: Hosts) -> None:
    """Each request gets the reply with its key, in whatever order the replies come."""

    class LastFirst:
        """An app that answers two messages at a time, the second one first."""

        def __init__(self) -> None:
            self.held: list[bytes] = []

        def received(self, message: bytes, connection: Any) -> None:
            self.held.append(message)
            if len(self.held) == 2:
                connection.send(self.held.pop() + b" answered")
                connection.send(self.held.pop() + b" answered")

    hosts.listen(LastFirst)
    connection = hosts.connect(key=lambda message: message[:1])
    replies = [outcome(connection.request(each)) for each in (b"1 one", b"2 two")]
    hosts.wait()
    assert replies == [[b"1 one answered"], [b"2 two answered"]]


PARTED = "tcp:10.0.0.1:7007"
"""The endpoint of the server, which no packet reaches while the hosts are partitioned."""


@pytest.mark.parametrize(
    ("endpoint", "seconds", "after", "error", "says"),
    [
        (PARTED, 2.5, 2.5, ConnectTimeout, f"{PARTED}: not connected after 2.5 s (connect)"),
        (PARTED, 30, 30, ConnectTimeout, f"{PARTED}: not connected after 30 s (connect)"),
        (PARTED, 90.5, 90.5, ConnectTimeout, f"{PARTED}: not connected after 90.5 s (connect)"),
        ("tcp:server:7007", 30, 30, ConnectTimeout, "tcp:server:7007: not connected after 30 s (connect)"),
        (f"{PARTED}:timeout=5", 90, 5, ConnectTimeout, ""),
        (PARTED, 0, 127, TCPTimedOutError, ""),
    ],
)
def test_connecting_ends_after_the_timeout(
    endpoint: str, seconds: float, after: float, error: type[Exception], says: str, hosts: Hosts
) -> None:
    """
    After ``timeouts.connect`` seconds, `connect()` fails with Twisted's TimeoutError, which names the endpoint and the
    time.

    Twisted's own timer does not fire earlier, unless the endpoint string asks for it. With 0, only the system gives up.
    """
    events: list[Event] = []
    hosts.listen(echo, telemetry=Telemetry(events.append))
    hosts.sim.partition(hosts.client, hosts.server)
    told = outcome(connect(endpoint, reactor=hosts.client.reactor, timeouts=Timeouts(connect=seconds)))
    hosts.run(after - 0.01)
    assert told == []
    hosts.run(after + 0.01)
    assert [error] == [type(each) for each in told]
    assert says in str(told[0])
    hosts.sim.heal()
    hosts.wait(200)
    assert events == []


def test_connecting_can_go_on_without_end(hosts: Hosts) -> None:
    """With ``timeouts.connect`` 0, no timer ends the attempt: the client connects as soon as it can."""
    hosts.listen(echo)
    hosts.sim.partition(hosts.client, hosts.server)
    hosts.sim.call_later(60, hosts.sim.heal)
    assert hosts.connect(timeouts=Timeouts(connect=0)).state is State.OPEN
    assert hosts.sim.now > 60


@pytest.mark.parametrize("endpoint", ["an object", PARTED, "tcp:server:7007"])
def test_connecting_stops_when_it_is_cancelled(endpoint: str, hosts: Hosts) -> None:
    """A cancelled `connect()` stops connecting, and leaves no timer."""
    reactor, events = hosts.client.reactor, []
    hosts.listen(echo, telemetry=Telemetry(events.append))
    hosts.sim.partition(hosts.client, hosts.server)
    made = TCP4ClientEndpoint(reactor, "10.0.0.1", 7007) if endpoint == "an object" else endpoint
    connecting = connect(made, reactor=reactor)
    told = outcome(connecting)
    hosts.wait()
    connecting.cancel()
    assert [ConnectingCancelledError] == [type(each) for each in told]
    assert reactor.getDelayedCalls() == []
    hosts.sim.heal()
    hosts.wait(200)
    assert events == []


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        ("tcp:server:7007", Refused),
        ("tcp:10.0.0.1:7007", Refused),
        ("tcp:no-such-host:7007", DNSLookupError),
        ("unix:/run/no.sock", ConnectError),
    ],
)
def test_failures_to_connect_are_twisteds_own(endpoint: str, error: type[Exception], hosts: Hosts) -> None:
    """`connect()` fails with Twisted's own errors, and leaves no timer."""
    told = outcome(connect(endpoint, reactor=hosts.client.reactor))
    hosts.wait()
    assert [isinstance(each, error) for each in told] == [True]
    assert hosts.client.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("tcp:localhost:0", "port is '0'; it takes a number from 1 to 65535"),
        ("tcp:localhost:65536", "port is '65536'; it takes a number from 1 to 65535"),
        ("tcp:localhost:abc", "port is 'abc'; it takes a number from 1 to 65535"),
        ("tcp:localhost:-1", "port is '-1'"),
        ("tcp:localhost:", "port is ''"),
        ("tcp:localhost", "has no port; write it as in tcp:localhost:7007"),
        ("tcp:", "has no host"),
        ("tcp::7007", "host is ''"),
        ("tcp:no such host:7007", "host is 'no such host'; it takes an IP address"),
        ("tcp:300.1.1.1:7007", "host is '300.1.1.1'"),
        ("tcp:-:7007:timeout=soon", "timeout is 'soon'"),
        ("unix:", "has no path"),
        ("tls:localhost", "has no port"),
        ("pigeon:localhost:7007", "'pigeon' is no kind of endpoint"),
        ("localhost:7007", "write tcp:host:port, as in tcp:localhost:7007"),
        ("", "'' is no kind of endpoint"),
        (7007, "7007: takes a string such as tcp:localhost:7007, or an IStreamClientEndpoint"),
        (None, "None: takes a string"),
    ],
)
def test_an_invalid_address_is_refused_at_once(endpoint: Any, says: str, hosts: Hosts) -> None:
    """`connect()` itself raises InvalidAddress, with a valid form in the text, and opens nothing."""
    with pytest.raises(InvalidAddress) as caught:
        connect(endpoint, reactor=hosts.client.reactor)
    assert says in str(caught.value)
    hosts.wait()
    assert list(hosts.sim.trace) == []


@pytest.mark.parametrize(
    ("arguments", "error"), [({"framing": "morse"}, InvalidFraming), ({"app": 5}, InvalidOption), ({"x": 1}, TypeError)]
)
def test_nothing_is_opened_for_an_invalid_setting(
    arguments: dict[str, Any], error: type[Exception], hosts: Hosts
) -> None:
    """`connect()` itself raises for an invalid setting, and opens nothing."""
    with pytest.raises(error):
        connect("tcp:localhost:7007", reactor=hosts.client.reactor, **arguments)
    hosts.wait()
    assert list(hosts.sim.trace) == []
