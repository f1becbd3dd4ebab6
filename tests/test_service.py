"""The service: it listens on any number of endpoints, drains when it stops, and starts again."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock, StringTransportWithDisconnection
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpapp import MessageProtocol, MessageServerFactory, MessageService, Timeouts
from tcpapp.apps import echo
from tcpapp.errors import InvalidAddress
from tcpapp.service import EndpointService

BUSY = CannotListenError("127.0.0.1", 7007, OSError(98, "Address already in use"))


class Port:
    """A port without a socket. It closes when it is told to, or when the test says so."""

    def __init__(self, address: Any, stopped: Deferred[None] | None = None) -> None:
        self.address = address
        self.stopped = stopped or succeed(None)
        self.open = True
        self.socket = self

    def getHost(self) -> Any:
        return self.address

    def stopListening(self) -> Deferred[None]:
        self.open = False
        return self.stopped

    def close(self) -> None:
        self.open = False


@implementer(IStreamServerEndpoint)
class Endpoint:
    """An endpoint that gives one outcome after the other: a port, an error, or a Deferred."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)

    def listen(self, factory: Any) -> Deferred[Any]:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Deferred):
            return outcome
        return fail(outcome) if isinstance(outcome, Exception) else succeed(outcome)


def port(number: int = 7007) -> Port:
    return Port(IPv4Address("TCP", "127.0.0.1", number))


def service_of(*endpoints: Any, app: Any = echo, **options: Any) -> MessageService:
    """Return a service whose factory's clock is its reactor, a fake."""
    reactor = MemoryReactorClock()
    return MessageService(MessageServerFactory(app, clock=reactor, **options), endpoints, reactor)


def connected(service: MessageService) -> MessageProtocol:
    connection = service.factory.buildProtocol(None)
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


@pytest.fixture
def log() -> Any:
    """Give a function that returns the lines logged so far by tcpapp."""
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    yield lambda: [formatEvent(event) for event in observer if event["log_namespace"] == "tcpapp"]
    globalLogPublisher.removeObserver(observer)


# Starting -------------------------------------------------------------------------------------------------------------


def test_the_service_is_one_of_twisteds() -> None:
    """It goes wherever Twisted takes a service, as do its parts."""
    service = service_of(Endpoint(port()))
    assert verifyObject(IService, service)
    assert [EndpointService] == [type(each) for each in service]
    service.setServiceParent(MultiService())


def test_nothing_is_listened_on_before_the_start() -> None:
    """Making the service opens nothing."""
    service = service_of("tcp:7007", "unix:/run/app.sock")
    reactor = service.factory.settings.clock
    assert (service.addresses, reactor.tcpServers, reactor.unixServers) == ([], [], [])


@pytest.mark.parametrize("endpoint", ["tcp:65536", "tcp:", "pigeon:1", "", 7007, None])
def test_an_endpoint_that_cannot_be_one_is_refused(endpoint: Any) -> None:
    """InvalidAddress is raised when the service is made, though another endpoint could be listened on."""
    with pytest.raises(InvalidAddress):
        service_of("tcp:7007", endpoint)


@pytest.mark.parametrize("steps", [["startService"], ["privilegedStartService", "startService"]], ids=len)
def test_starting_listens_on_every_endpoint(steps: list[str], log: Any) -> None:
    """Started, with or without privileges first, it listens on each endpoint once, and says where in the log."""
    service = service_of(Endpoint(port(1)), Endpoint(Port(UNIXAddress(b"/run/app.sock"))))
    for step in steps:
        getattr(service, step)()
    assert service.running
    assert service.addresses == [IPv4Address("TCP", "127.0.0.1", 1), UNIXAddress(b"/run/app.sock")]
    assert log() == ["listening on 127.0.0.1:1", "listening on unix:/run/app.sock"]


@pytest.mark.parametrize("start", ["startService", "privilegedStartService"])
@pytest.mark.parametrize("busy", [0, 1, 2])
def test_either_every_endpoint_is_listened_on_or_none(start: str, busy: int) -> None:
    """Where one endpoint is busy, starting raises its error, and no other is listened on."""
    ports: list[Any] = [port(number) for number in range(3)]
    ports[busy] = BUSY
    service = service_of(*map(Endpoint, ports))
    with pytest.raises(CannotListenError):
        getattr(service, start)()
    assert not service.running
    assert [each.running for each in service] == [0, 0, 0]
    assert service.addresses == []
    assert not any(each.open for number, each in enumerate(ports) if number < busy)


def test_a_failed_start_can_be_tried_again() -> None:
    """When the busy port is free, the same service starts."""
    service = service_of(Endpoint(port(1), port(1)), Endpoint(BUSY, port(2)))
    with pytest.raises(CannotListenError):
        service.startService()
    service.startService()
    assert service.running
    assert [address.port for address in service.addresses] == [1, 2]


def test_an_endpoint_that_listens_later_is_known_then(log: Any) -> None:
    """Until then its address is not among the addresses."""
    later: Deferred[Any] = Deferred()
    service = service_of(Endpoint(later), Endpoint(port(1)))
    service.startService()
    assert [address.port for address in service.addresses] == [1]
    later.callback(port(2))
    assert [address.port for address in service.addresses] == [2, 1]
    assert log() == ["listening on 127.0.0.1:1", "listening on 127.0.0.1:2"]


def test_an_endpoint_that_fails_later_is_logged(log: Any, logged_errors: Any) -> None:
    """Nobody can be told any more: the log says so, the others go on, and stopping is no error."""
    later: Deferred[Any] = Deferred()
    service = service_of(Endpoint(later), Endpoint(port(1)))
    service.startService()
    later.errback(BUSY)
    assert logged_errors.take(CannotListenError)
    assert log()[-1] == "cannot listen"
    assert [address.port for address in service.addresses] == [1]
    assert results(service.stopService()) == [None]


# Stopping -------------------------------------------------------------------------------------------------------------


def test_stopping_closes_every_port(log: Any) -> None:
    """Stopped, it listens nowhere, and says so in the log."""
    ports = [port(1), port(2)]
    service = service_of(*map(Endpoint, ports))
    service.startService()
    assert results(service.stopService()) == [None]
    assert not service.running
    assert service.addresses == []
    assert [each.open for each in ports] == [False, False]
    assert sorted(log()[2:]) == ["no longer listening on 127.0.0.1:1", "no longer listening on 127.0.0.1:2"]


def test_stopping_waits_until_the_ports_are_closed() -> None:
    """The Deferred fires when the last port is closed."""
    closing: Deferred[None] = Deferred()
    service = service_of(Endpoint(Port(UNIXAddress(b"/run/app.sock"), closing)))
    service.startService()
    stopped = results(service.stopService())
    assert stopped == []
    closing.callback(None)
    assert stopped == [None]


def test_what_was_not_started_can_be_stopped() -> None:
    """There is nothing to stop, then; and nothing to stop twice."""
    service = service_of(Endpoint(port()))
    assert results(service.stopService()) == [None]
    service.startService()
    assert results(service.stopService()) == [None]
    assert results(service.stopService()) == [None]


def test_stopping_before_it_listens_ends_the_listening(log: Any) -> None:
    """An endpoint that is still about to listen is told not to, and that is no failure."""
    told: list[object] = []
    service = service_of(Endpoint(Deferred(told.append)))
    service.startService()
    assert results(service.stopService()) == [None]
    assert len(told) == 1
    assert log() == []


def test_a_stopped_service_starts_again() -> None:
    """What Twisted's own service cannot do: stop, and start, on the same endpoints, as often as one likes."""
    ports = [port(1), port(2), port(3)]
    service = service_of(Endpoint(*ports))
    for each in ports:
        service.privilegedStartService()
        service.startService()
        assert service.addresses == [each.address]
        assert each.open
        assert results(service.stopService()) == [None]
        assert not each.open


def test_a_port_that_does_not_close_is_logged(log: Any) -> None:
    """The file of a UNIX socket that cannot be removed holds up nothing: it is one line in the log."""
    stubborn = Port(UNIXAddress(b"/run/app.sock"), fail(PermissionError(13, "Permission denied")))
    service = service_of(Endpoint(stubborn), app=never)
    service.startService()
    connected(service).dataReceived(b"work\n")
    stopped = results(service.stopService())
    assert "cannot stop listening properly: [Errno 13] Permission denied" in log()
    assert stopped == []
    service.cut()
    assert stopped == [None]


# Draining -------------------------------------------------------------------------------------------------------------


def test_stopping_lets_connections_finish(log: Any) -> None:
    """An idle connection is closed; one that is busy gets its reply first. The log says for how many it waits."""
    replies: list[Deferred[bytes]] = []

    def slow(message: bytes, connection: MessageProtocol) -> Deferred[bytes]:
        replies.append(Deferred())
        return replies[-1]

    service = service_of(Endpoint(port()), app=slow)
    service.startService()
    idle, busy = connected(service), connected(service)
    busy.dataReceived(b"work\n")
    stopped = results(service.stopService())
    assert service.addresses == []
    assert service.factory.connections == {busy}
    assert log()[-1] == "draining 2 connection(s), for 15 s at most"
    replies[0].callback(b"done")
    assert busy.transport.value() == b"done\n"
    assert stopped == [None]
    assert idle.when_closed().result.rule == busy.when_closed().result.rule == "drained"


def test_the_drain_has_a_deadline(log: Any) -> None:
    """What is not finished after ``timeouts.drain`` seconds is cut, and the log says how many that were."""
    service = service_of(Endpoint(port()), app=never, timeouts=Timeouts(drain=3))
    service.startService()
    connected(service).dataReceived(b"work\n")
    stopped = results(service.stopService())
    clock: Clock = service.factory.settings.clock
    clock.advance(2.99)
    assert stopped == []
    clock.advance(0.01)
    assert stopped == [None]
    assert log()[-1] == "1 connection(s) did not end by themselves"


def test_a_drain_can_be_cut_short() -> None:
    """`cut` ends all connections now, and the stop with them."""
    service = service_of(Endpoint(port()), app=never)
    service.startService()
    connection = connected(service)
    connection.dataReceived(b"work\n")
    stopped = results(service.stopService())
    service.cut()
    assert stopped == [None]
    assert connection.when_closed().result.rule == "aborted"


def test_a_service_that_drained_serves_again() -> None:
    """After a stop with connections, the service starts, and takes new ones."""
    service = service_of(Endpoint(port(), port()))
    service.startService()
    connected(service)
    assert results(service.stopService()) == [None]
    service.startService()
    connection = connected(service)
    connection.dataReceived(b"again\n")
    assert connection.transport.value() == b"again\n"
