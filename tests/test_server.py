"""The server: who is connected, how many may be, and how all of it ends."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, FirstError, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionLost
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpapp import Limits, Listening, MessageProtocol, MessageServerFactory, State, Telemetry, Timeouts, listen
from tcpapp.apps import echo
from tcpapp.errors import InvalidAddress, InvalidFraming, InvalidOption
from tcpapp.server import TurnedAway, close_port
from tcpapp.telemetry import Closed, Event, Opened, Refused

PEER = IPv4Address("TCP", "192.0.2.1", 4711)


class Server:
    """A factory with clients over fake transports, and a clock that a test turns by hand."""

    def __init__(self, app: Any = echo, **options: Any) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        telemetry = Telemetry(self.events.append)
        self.factory = MessageServerFactory(app, clock=self.clock, telemetry=telemetry, **options)

    def connect(self) -> MessageProtocol:
        connection = self.factory.buildProtocol(PEER)
        transport = StringTransportWithDisconnection()
        transport.protocol = connection
        connection.makeConnection(transport)
        return connection


def never(message: bytes, connection: MessageProtocol) -> Deferred[bytes]:
    """An app that never replies."""
    return Deferred()


def results(deferred: Deferred[Any]) -> list[Any]:
    """What `deferred` fired with, in a list; its failure, if it failed; nothing, if it has not fired."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


# The factory ----------------------------------------------------------------------------------------------------------


def test_the_factory_is_one_of_twisteds() -> None:
    """It goes wherever Twisted takes a factory, and logs no line for starting."""
    factory = MessageServerFactory(echo)
    assert verifyObject(IProtocolFactory, factory)
    assert not factory.noisy


def test_a_connection_is_known_from_beginning_to_end() -> None:
    """The factory knows a connection from `connectionMade` to `connectionLost`, and no longer."""
    server = Server()
    connection = server.connect()
    assert {connection} == server.factory.connections
    assert connection.factory is server.factory
    connection.connectionLost(Failure(ConnectionLost()))
    assert set() == server.factory.connections
    assert [Opened, Closed] == [type(event) for event in server.events]


def test_a_connection_that_is_built_and_never_made_is_not_counted() -> None:
    """Only an open connection takes a place: a transport that fails before it is connected leaves nothing behind."""
    server = Server(limits=Limits(max_connections=1))
    server.factory.buildProtocol(PEER)
    assert isinstance(server.factory.buildProtocol(PEER), MessageProtocol)


def test_connections_have_their_state_to_themselves() -> None:
    """Half a message on one connection is not joined to what comes on another."""
    server = Server()
    one, other = server.connect(), server.connect()
    one.dataReceived(b"on")
    other.dataReceived(b"two\n")
    one.dataReceived(b"e\n")
    assert (one.transport.value(), other.transport.value()) == (b"one\n", b"two\n")


def test_a_client_over_the_limit_is_turned_away() -> None:
    """The client over the limit is closed at once, counted and told; those who are there notice nothing."""
    server = Server(limits=Limits(max_connections=2))
    there = [server.connect(), server.connect()]
    over = server.connect()
    assert isinstance(over, TurnedAway)
    assert not over.transport.connected
    assert set(there) == server.factory.connections
    assert server.factory.refused == 1
    assert Refused(PEER, 2) == server.events[-1]


def test_turning_away_needs_no_listener() -> None:
    """Clients over the limit are counted where nobody listens to telemetry, too."""
    factory = MessageServerFactory(echo, limits=Limits(max_connections=1), telemetry=Telemetry())
    factory.buildProtocol(None).makeConnection(StringTransportWithDisconnection())
    assert isinstance(factory.buildProtocol(None), TurnedAway)
    assert factory.refused == 1


def test_a_place_that_is_free_again_is_given() -> None:
    """Once a connection has ended, the next client is taken in."""
    server = Server(limits=Limits(max_connections=1))
    server.connect().abort()
    assert State.OPEN is server.connect().state
    assert server.factory.refused == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"app": 5}, InvalidOption),
        ({"app": echo, "framing": "morse"}, InvalidFraming),
        ({"app": echo, "codec": "yaml"}, InvalidOption),
        ({"app": echo, "limits": 5}, InvalidOption),
        ({"app": echo, "timeouts": Limits()}, InvalidOption),
        ({"app": echo, "limit": Limits()}, TypeError),
    ],
)
def test_wrong_settings_are_refused_at_once(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A factory that could not serve is not made."""
    with pytest.raises(error):
        MessageServerFactory(**arguments)


# The end of all connections -------------------------------------------------------------------------------------------


def test_draining_nobody_is_done_at_once() -> None:
    """Without connections there is nothing to wait for."""
    assert results(Server().factory.drain()) == [0]
    assert results(Server().factory.close()) == [None]


def test_draining_lets_each_finish_what_it_has_in_hand() -> None:
    """An idle connection is closed at once, a busy one after its reply; then the drain is over, and none was cut."""
    replies: list[Deferred[bytes]] = []

    def slow(message: bytes, connection: MessageProtocol) -> Deferred[bytes]:
        replies.append(Deferred())
        return replies[-1]

    server = Server(slow)
    idle, busy = server.connect(), server.connect()
    busy.dataReceived(b"work\n")
    drained = results(server.factory.drain())
    assert State.CLOSED is idle.state
    assert State.OPEN is busy.state
    assert drained == []
    replies[0].callback(b"done")
    assert busy.transport.value() == b"done\n"
    assert drained == [0]
    assert server.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("deadline", "seconds"), [(None, 7), (3, 3), (0, 0)])
def test_after_the_deadline_the_rest_is_cut(deadline: float | None, seconds: float) -> None:
    """What is not finished by the deadline (by default ``timeouts.drain``) is cut, and counted."""
    server = Server(never, timeouts=Timeouts(drain=7))
    for each in [server.connect(), server.connect()]:
        each.dataReceived(b"work\n")
    server.connect()
    drained = results(server.factory.drain(deadline))
    server.clock.advance(seconds - 0.01 if seconds else 0)
    assert ([] if seconds else [2]) == drained
    server.clock.advance(0.01)
    assert drained == [2]
    assert set() == server.factory.connections


def test_draining_twice_keeps_the_sooner_deadline() -> None:
    """A second drain may hurry the first; each is told of the end."""
    server = Server(never)
    server.connect().dataReceived(b"work\n")
    first, second = results(server.factory.drain(10)), results(server.factory.drain(2))
    server.clock.advance(2)
    assert [first, second] == [[1], [1]]


def test_a_drain_that_is_waited_for_no_longer_goes_on() -> None:
    """Cancelling the Deferred ends the waiting, not the drain, and leaves no error behind."""
    server = Server(never)
    connection = server.connect()
    connection.dataReceived(b"work\n")
    drained = server.factory.drain(5)
    drained.cancel()
    [failure] = results(drained)
    assert failure.check(FirstError)
    assert failure.value.subFailure.check(CancelledError)
    server.clock.advance(5)
    assert State.CLOSED is connection.state


def test_closing_waits_for_no_app() -> None:
    """Closing flushes and closes every connection, whatever its app still has in hand."""
    server = Server(never)
    connection = server.connect()
    connection.dataReceived(b"work\n")
    assert results(server.factory.close()) == [None]
    assert connection.when_closed().result.rule == "closed"


def test_closing_is_bounded_by_its_grace() -> None:
    """A transport that cannot be flushed is cut when the grace is over."""
    server = Server()
    connection = server.connect()
    connection.transport.loseConnection = lambda: None  # it has bytes to send that the peer does not take
    closed = results(server.factory.close(2))
    server.clock.advance(1.99)
    assert closed == []
    del connection.transport.loseConnection
    server.clock.advance(0.01)
    assert closed == [None]
    assert connection.when_closed().result.rule == "grace-over"


def test_aborting_cuts_everyone_now() -> None:
    """Nobody is waited for."""
    server = Server(never)
    connections = [server.connect(), server.connect()]
    server.factory.abort()
    assert [each.when_closed().result.rule for each in connections] == ["aborted", "aborted"]
    assert all(each.transport.disconnected for each in connections)


# Listening ------------------------------------------------------------------------------------------------------------


@implementer(IListeningPort)
class FakePort:
    """A port of Twisted's, without a socket; it is closed when the test says so."""

    def __init__(self, address: Any = PEER) -> None:
        self.address = address
        self.reading = True
        self.stopped: Deferred[None] = Deferred()
        self.stops = 0
        self.socket = self
        self.closed = False

    def startListening(self) -> None:
        """It listens already."""

    def getHost(self) -> Any:
        return self.address

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> Deferred[None]:
        self.stops += 1
        return self.stopped

    def close(self) -> None:
        self.closed = True


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """An endpoint that gives `outcome`, a Deferred."""

    def __init__(self, outcome: Deferred[Any]) -> None:
        self.outcome = outcome

    def listen(self, factory: Any) -> Deferred[Any]:
        return self.outcome


def listening(app: Any = echo) -> tuple[Listening, FakePort, Server]:
    server, port = Server(app), FakePort()
    return Listening(port, server.factory), port, server


def test_listening_knows_where() -> None:
    """It says the address as the port has it, with its number, and no number for a UNIX socket."""
    assert (listening()[0].address, listening()[0].port) == (PEER, 4711)
    assert Listening(FakePort(UNIXAddress(b"/run/a")), Server().factory).port is None


def test_listening_knows_who() -> None:
    """Its connections are the factory's at this moment, and so are those turned away."""
    here, _, server = listening()
    before = here.connections
    connection = server.connect()
    server.factory.refused = 3
    assert (frozenset(), frozenset({connection}), 3) == (before, here.connections, here.refused)


def test_suspending_and_resuming() -> None:
    """Suspended, it accepts no one, until it is resumed; each as often as one likes."""
    here, port, _ = listening()
    here.suspend()
    here.suspend()
    assert not port.reading
    here.resume()
    here.resume()
    assert port.reading


def test_what_has_stopped_is_not_resumed() -> None:
    """After the stop, suspend and resume leave the port alone: it is closed, or being closed."""
    here, port, _ = listening()
    here.suspend()
    results(here.close())
    here.resume()
    assert not port.reading
    here, port, _ = listening()
    results(here.drain())
    here.suspend()
    assert port.reading


def test_draining_stops_listening_first_and_is_over_when_all_is() -> None:
    """The port is told to close before a connection is; the Deferred fires when both are closed."""
    here, port, server = listening(never)
    server.connect().dataReceived(b"work\n")
    drained = results(here.drain(4))
    assert port.stops == 1
    port.stopped.callback(None)
    assert drained == []
    server.clock.advance(4)
    assert drained == [1]


def test_draining_waits_for_the_port_too() -> None:
    """Where no connection is left, the port may still be closing."""
    here, port, _ = listening()
    drained = results(here.drain())
    assert drained == []
    port.stopped.callback(None)
    assert drained == [0]


def test_stopping_twice_stops_once() -> None:
    """Each caller is told of the end; the port is told to close one time."""
    here, port, _ = listening()
    told = [results(here.drain()), results(here.close()), results(here.drain())]
    port.stopped.callback(None)
    assert told == [[0], [None], [0]]
    assert results(here.close()) == [None]
    assert port.stops == 1


def test_a_port_that_does_not_close_is_told_after_the_drain() -> None:
    """That the port cannot be closed holds up no connection's drain, and is told when that is over."""
    here, port, server = listening(never)
    server.connect().dataReceived(b"work\n")
    drained = results(here.drain(4))
    port.stopped.errback(ZeroDivisionError())
    assert drained == []
    server.clock.advance(4)
    assert drained[0].check(ZeroDivisionError)
    assert results(here.drain()) == [0]


@pytest.mark.parametrize(("error", "told"), [(FileNotFoundError, False), (PermissionError, True)])
def test_a_unix_socket_is_closed_though_its_file_cannot_be_removed(error: type[OSError], told: bool) -> None:
    """Twisted leaves the socket open then; it is closed all the same, and only a file that is left is told."""
    port = FakePort()
    port.stopped = fail(error())
    outcome = results(close_port(port))
    assert port.closed
    assert [told] == [isinstance(each, Failure) and each.check(error) is not None for each in outcome]


def test_what_has_no_port_need_not_be_closed() -> None:
    """A ``stdio:`` endpoint gives a transport in a port's place: closing it is the connection's."""
    assert results(close_port(object())) == [None]


# listen() -------------------------------------------------------------------------------------------------------------


def test_listen_serves_the_app() -> None:
    """An endpoint string is listened on, with the app, framing, limits and timeouts that were given."""
    reactor = MemoryReactorClock()
    limits, timeouts = Limits(max_connections=2), Timeouts(drain=1)
    found = listen(
        "tcp:7007:interface=127.0.0.1", echo, framing="int16", reactor=reactor, limits=limits, timeouts=timeouts
    )
    [(port, factory, _, interface)] = reactor.tcpServers
    assert (port, interface) == (7007, "127.0.0.1")
    assert isinstance(found.result, Listening)
    settings = factory.settings
    assert (limits, timeouts, reactor, echo) == (settings.limits, settings.timeouts, settings.clock, settings.app)
    connection = factory.buildProtocol(PEER)
    transport = StringTransportWithDisconnection()
    connection.makeConnection(transport)
    connection.dataReceived(b"\0\2hi")
    assert transport.value() == b"\0\2hi"


def test_listen_takes_a_clock_of_its_own() -> None:
    """Timers run on the reactor unless another clock is given."""
    reactor, clock = MemoryReactorClock(), Clock()
    listen("tcp:7007", echo, reactor=reactor, clock=clock)
    assert reactor.tcpServers[0][1].settings.clock is clock


def test_listen_takes_an_endpoint() -> None:
    """An endpoint object is listened on as it is; what becomes of that is the Deferred's."""
    port = FakePort()
    assert listen(FakeEndpoint(succeed(port)), echo, reactor=Clock()).result.address == PEER
    busy = CannotListenError("127.0.0.1", 7007, OSError(98, "Address already in use"))
    [failure] = results(listen(FakeEndpoint(fail(busy)), echo, reactor=Clock()))
    assert failure.check(CannotListenError)


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
def test_nothing_is_opened_for_what_cannot_be(arguments: dict[str, Any], error: type[Exception]) -> None:
    """An argument that cannot be is raised at once, and no port was opened."""
    reactor = MemoryReactorClock()
    with pytest.raises(error):
        listen(**{"app": echo, "reactor": reactor} | arguments)
    assert reactor.tcpServers == []
