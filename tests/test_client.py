"""The client: connections that are held by hand, and what is said where there can be none."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpapp import Limits, MessageClientFactory, MessageProtocol, State, Timeouts, connect
from tcpapp.client import NEVER
from tcpapp.errors import InvalidAddress, InvalidFraming, InvalidOption

SERVER = IPv4Address("TCP", "192.0.2.1", 7007)


def results(deferred: Deferred[Any]) -> list[Any]:
    """What `deferred` fired with, in a list; its failure, if it failed; nothing, if it has not fired."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


def connected(factory: ClientFactory) -> MessageProtocol:
    """What Twisted does with a factory once there is a connection."""
    connection = factory.buildProtocol(SERVER)
    connection.makeConnection(StringTransport())
    return connection


# The factory ----------------------------------------------------------------------------------------------------------


def test_the_factory_is_one_of_twisteds() -> None:
    """It goes wherever Twisted takes a factory, is told of failures, and logs no line for starting."""
    factory = MessageClientFactory()
    assert verifyObject(IProtocolFactory, factory)
    assert isinstance(factory, ClientFactory)
    assert not factory.noisy


def test_messages_are_sent_and_received() -> None:
    """Without an app, messages are those who call send and receive have."""
    connection = connected(MessageClientFactory(framing="int8"))
    connection.send(b"hello")
    connection.dataReceived(b"\5world")
    assert connection.transport.value() == b"\5hello"
    assert results(connection.receive()) == [b"world"]


def test_a_client_may_have_an_app() -> None:
    """An app answers what the server sends, as on a server."""
    connection = connected(MessageClientFactory(lambda message, connection: message.upper()))
    connection.dataReceived(b"who is there?\n")
    assert connection.transport.value() == b"WHO IS THERE?\n"


def test_a_factory_makes_connection_after_connection() -> None:
    """One that has ended leaves nothing behind for the next: the factory can be used again."""
    factory = MessageClientFactory()
    first = connected(factory)
    first.dataReceived(b"half a mess")
    first.connectionLost(Failure(ConnectionDone()))
    second = connected(factory)
    second.dataReceived(b"age\n")
    assert results(second.receive()) == [b"age"]
    assert (first.state, second.state) == (State.CLOSED, State.OPEN)


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
    """A factory that could not connect is not made."""
    with pytest.raises(error):
        MessageClientFactory(**arguments)


# when_connected -------------------------------------------------------------------------------------------------------


def test_whoever_waits_is_given_the_connection() -> None:
    """After connectTCP, when_connected gives the connection once it is open, to all who wait."""
    reactor, factory = MemoryReactorClock(), MessageClientFactory()
    reactor.connectTCP("192.0.2.1", 7007, factory)
    waiting = [results(factory.when_connected()) for _ in range(2)]
    assert waiting == [[], []]
    connection = connected(reactor.tcpClients[0][2])
    assert waiting == [[connection], [connection]]
    assert connection.state is State.OPEN


def test_waiting_is_for_the_next_connection() -> None:
    """Who asks after the first connection is given the second."""
    factory = MessageClientFactory()
    connected(factory)
    waiting = results(factory.when_connected())
    assert waiting == []
    assert waiting == [connected(factory)]


def test_whoever_waits_is_told_that_there_is_no_connection() -> None:
    """Where nobody answers, all who wait are told with Twisted's error; who asks then waits for the next attempt."""
    reactor, factory = MemoryReactorClock(), MessageClientFactory()
    connector = reactor.connectTCP("192.0.2.1", 7007, factory)
    waiting = [results(factory.when_connected()) for _ in range(2)]
    factory.clientConnectionFailed(connector, Failure(Refused()))
    assert [failure.type for [failure] in waiting] == [Refused] * 2
    again = results(factory.when_connected())
    assert again == []
    assert again == [connected(factory)]


def test_whoever_waits_no_longer_is_not_told() -> None:
    """Cancelled, the waiting ends for that one alone, of whom nothing is kept."""
    factory = MessageClientFactory()
    one, other = factory.when_connected(), factory.when_connected()
    told = results(other)
    one.cancel()
    assert factory._waiters == [other]
    assert results(one)[0].check(CancelledError)
    assert told == [connected(factory)]


def test_one_who_is_told_may_have_another_not_told() -> None:
    """Cancelling one who waits, from where another is told, reaches it in time."""
    factory = MessageClientFactory()
    one, other, third = (factory.when_connected() for _ in range(3))
    one.addCallback(lambda connection: other.cancel())
    told = results(third)
    connection = connected(factory)
    assert results(other)[0].check(CancelledError)
    assert told == [connection]


# connect() ------------------------------------------------------------------------------------------------------------


def test_connect_gives_the_open_connection() -> None:
    """The Deferred fires with a connection that has the framing, limits and timeouts that were given."""
    reactor, limits = MemoryReactorClock(), Limits(max_requests=2)
    endpoint = TCP4ClientEndpoint(reactor, "192.0.2.1", 7007)
    told = results(connect(endpoint, framing="int8", reactor=reactor, limits=limits))
    [(host, port, factory, _, _)] = reactor.tcpClients
    assert (host, port, told) == ("192.0.2.1", 7007, [])
    factory.buildProtocol(SERVER).makeConnection(StringTransport())
    [connection] = told
    connection.send(b"hello")
    assert connection.transport.value() == b"\5hello"
    settings = connection.factory.settings
    assert (settings.limits, settings.clock) == (limits, reactor)
    assert reactor.getDelayedCalls() == []


def test_connect_takes_a_clock_of_its_own() -> None:
    """The connection's timers run on the reactor unless another clock is given."""
    reactor, clock = MemoryReactorClock(), Clock()
    told = results(connect(TCP4ClientEndpoint(reactor, "192.0.2.1", 7007), reactor=reactor, clock=clock))
    reactor.tcpClients[0][2].buildProtocol(SERVER).makeConnection(StringTransport())
    assert told[0].clock is clock


def test_connect_takes_an_app() -> None:
    """What the server sends is the app's."""
    reactor = MemoryReactorClock()
    told = results(connect(TCP4ClientEndpoint(reactor, "h", 1), lambda message, connection: b"yes", reactor=reactor))
    reactor.tcpClients[0][2].buildProtocol(SERVER).makeConnection(StringTransport())
    told[0].dataReceived(b"really?\n")
    assert told[0].transport.value() == b"yes\n"


def test_connect_takes_endpoint_strings() -> None:
    """A UNIX socket's string is an endpoint as good as any."""
    reactor = MemoryReactorClock()
    connect("unix:/run/app.sock", reactor=reactor).addErrback(lambda failure: None).cancel()
    assert [path for path, *_ in reactor.unixClients] == ["/run/app.sock"]


@implementer(IStreamClientEndpoint)
class Nobody:
    """An endpoint that never connects, and notes that it was told to stop."""

    def __init__(self) -> None:
        self.stopped = False

    def __str__(self) -> str:
        return "nobody:7007"

    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred(self.stop)

    def stop(self, _: object) -> None:
        self.stopped = True


def test_connecting_ends_after_the_timeout() -> None:
    """After ``timeouts.connect`` seconds it fails with Twisted's TimeoutError, which says to whom and how long."""
    reactor, nobody = MemoryReactorClock(), Nobody()
    told = results(connect(nobody, reactor=reactor, timeouts=Timeouts(connect=2.5)))
    reactor.advance(2.49)
    assert told == []
    reactor.advance(0.01)
    assert told[0].type is ConnectTimeout
    assert "nobody:7007: not connected after 2.5 s (connect)" in str(told[0].value)
    assert nobody.stopped


@pytest.mark.parametrize(
    ("endpoint", "seconds", "twisteds"),
    [
        ("tcp:127.0.0.1:7007", 30, 32),
        ("tcp:127.0.0.1:7007", 90.5, 92),
        ("tcp:127.0.0.1:7007", 0, NEVER),
        ("tcp:127.0.0.1:7007:timeout=5", 90, 5),
    ],
)
def test_twisteds_own_timer_does_not_come_first(endpoint: str, seconds: float, twisteds: int) -> None:
    """An endpoint string's timer is as long as ``timeouts.connect``, and a little longer; its own is left alone."""
    reactor = MemoryReactorClock()
    connect(endpoint, reactor=reactor, timeouts=Timeouts(connect=seconds))
    assert reactor.tcpClients[0][3] == twisteds


def test_connecting_may_go_on_without_end() -> None:
    """With ``timeouts.connect`` 0, no timer runs."""
    reactor = MemoryReactorClock()
    connect(Nobody(), reactor=reactor, timeouts=Timeouts(connect=0))
    assert reactor.getDelayedCalls() == []


def test_connecting_stops_when_it_is_cancelled() -> None:
    """Cancelled, it stops connecting, and no timer is left."""
    reactor = MemoryReactorClock()
    connecting = connect(TCP4ClientEndpoint(reactor, "192.0.2.1", 7007), reactor=reactor)
    told = results(connecting)
    connecting.cancel()
    assert told[0].check(ConnectingCancelledError)
    assert reactor.connectors[0].stoppedConnecting
    assert reactor.getDelayedCalls() == []


def test_failures_to_connect_are_twisteds_own() -> None:
    """Nobody translates them."""
    reactor = MemoryReactorClock()
    told = results(connect(TCP4ClientEndpoint(reactor, "192.0.2.1", 7007), reactor=reactor))
    factory = reactor.tcpClients[0][2]
    factory.clientConnectionFailed(reactor.connectors[0], Failure(Refused()))
    assert told[0].type is Refused
    assert reactor.getDelayedCalls() == []


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
def test_an_address_that_cannot_be_is_refused_at_once(endpoint: Any, says: str) -> None:
    """InvalidAddress is raised by the call itself, says what would be right, and nothing was opened."""
    reactor = MemoryReactorClock()
    with pytest.raises(InvalidAddress) as caught:
        connect(endpoint, reactor=reactor)
    assert says in str(caught.value)
    assert (reactor.tcpClients, reactor.unixClients, reactor.getDelayedCalls()) == ([], [], [])


@pytest.mark.parametrize(
    ("arguments", "error"), [({"framing": "morse"}, InvalidFraming), ({"app": 5}, InvalidOption), ({"x": 1}, TypeError)]
)
def test_nothing_is_opened_for_what_cannot_be(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A setting that cannot be is raised at once, and nothing was opened."""
    reactor = MemoryReactorClock()
    with pytest.raises(error):
        connect("tcp:localhost:7007", reactor=reactor, **arguments)
    assert reactor.tcpClients == []
