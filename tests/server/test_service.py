"""The service: it listens on any number of endpoints, drains when it stops, and can start again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.application.service import IService, MultiService
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tcpapp import MessageServerFactory, MessageService, Policies, Timeouts
from tcpapp.apps import echo
from tcpapp.errors import InvalidAddress, InvalidOption
from tcpapp.server.service import EndpointService
from tcpapp.telemetry import Closed, Event, Telemetry
from tests.peers import Hosts, Switch, Unlistenable, joined, never, outcome

TCP = "tcp:7007:interface=10.0.0.1"
UNIX = "unix:/run/app.sock"


@implementer(IStreamServerEndpoint)
class LateEndpoint:
    """
    An endpoint that listens, or fails to listen, when the test says so.

    The kit's endpoints do so at once, as Twisted's own.
    """

    def __init__(self, *outcome: Any, cancelled: Callable[[Any], object] | None = None) -> None:
        self.outcome: Deferred[Any] = Deferred(cancelled)
        for each in outcome:
            self.outcome.callback(each)

    def listen(self, factory: Any) -> Deferred[Any]:
        self.factory = factory
        return self.outcome


class StubbornPort:
    """A port whose file cannot be removed: the kit's hosts have no files of UNIX sockets."""

    def __init__(self) -> None:
        self.socket = self

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(b"/run/app.sock")

    def stopListening(self) -> Deferred[None]:
        return fail(PermissionError(13, "Permission denied"))

    def close(self) -> None:
        pass


@pytest.fixture
def service_of(hosts: Hosts) -> Callable[..., MessageService]:
    """Give a function that makes a service on ``hosts.server``; each service is stopped after the test."""

    def make(*endpoints: Any, app: Any = echo, **options: Any) -> MessageService:
        service = MessageService(MessageServerFactory(app, **options), endpoints, hosts.server.reactor)
        hosts.at_end += [service.stopService, service.cut]
        return service

    return make


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """Give a function that returns the lines logged so far by tcpapp."""
    observer = EventLoggingObserver()
    globalLogPublisher.addObserver(observer)
    yield lambda: [formatEvent(event) for event in observer if event["log_namespace"] == "tcpapp"]
    globalLogPublisher.removeObserver(observer)


# Starting -------------------------------------------------------------------------------------------------------------


def test_the_service_is_a_service_of_twisted(service_of: Any) -> None:
    """The service provides Twisted's `IService`, has one `EndpointService` for its endpoint, and can get a parent."""
    service = service_of(TCP)
    assert verifyObject(IService, service)
    assert [EndpointService] == [type(each) for each in service]
    service.setServiceParent(MultiService())


def test_nothing_is_listened_on_before_the_start(hosts: Hosts, service_of: Any) -> None:
    """A service that was only made has no addresses and has opened no port."""
    service = service_of(TCP, UNIX)
    hosts.wait()
    assert (service.addresses, list(hosts.sim.trace)) == ([], [])


@pytest.mark.parametrize("endpoint", ["tcp:65536", "tcp:", "pigeon:1", "", 7007, None])
def test_an_invalid_endpoint_raises_when_the_service_is_made(endpoint: Any, service_of: Any) -> None:
    """An invalid endpoint raises InvalidAddress when the service is made, even if another endpoint is valid."""
    with pytest.raises(InvalidAddress):
        service_of(TCP, endpoint)


@pytest.mark.parametrize("steps", [["startService"], ["privilegedStartService", "startService"]], ids=len)
def test_starting_listens_on_every_endpoint(steps: list[str], hosts: Hosts, service_of: Any, log: Any) -> None:
    """A started service serves on each endpoint and logs its address, also after `privilegedStartService`."""
    service = service_of(TCP, UNIX)
    for step in steps:
        getattr(service, step)()
    assert service.running
    assert service.addresses == [IPv4Address("TCP", "10.0.0.1", 7007), UNIXAddress(b"/run/app.sock")]
    assert [each.address for each in service] == service.addresses
    assert log() == ["listening on 10.0.0.1:7007", "listening on unix:/run/app.sock"]
    clients = [hosts.connect(), hosts.connect(UNIX, host=hosts.server)]
    assert [hosts.run(each.request(b"hello")) for each in clients] == [b"hello"] * 2
    assert len(service.factory.connections) == 2


@pytest.mark.parametrize("start", ["startService", "privilegedStartService"])
@pytest.mark.parametrize("busy", [0, 1, 2])
def test_either_every_endpoint_is_listened_on_or_none(start: str, busy: int, hosts: Hosts, service_of: Any) -> None:
    """If one endpoint is busy, starting raises its error, and no other endpoint listens."""
    endpoints = ["tcp:7007", UNIX, "tcp:7008"]
    hosts.listen(echo, endpoints[busy])
    taken = hosts.sim.left()
    service = service_of(*endpoints)
    with pytest.raises(CannotListenError):
        getattr(service, start)()
    assert not service.running
    assert [each.running for each in service] == [0, 0, 0]
    assert service.addresses == []
    hosts.wait()
    assert hosts.sim.left() == taken


@pytest.mark.parametrize("start", ["startService", "privilegedStartService"])
def test_a_missing_address_family_can_be_skipped(start: str, hosts: Hosts, service_of: Any, log: Any) -> None:
    """With missing_family="skip", the service skips an endpoint of a missing family, if another endpoint is left."""
    skip = Policies(missing_family="skip")
    service = service_of(TCP, Unlistenable(), policies=skip)
    for step in (start, "startService"):
        getattr(service, step)()
    assert service.addresses == [IPv4Address("TCP", "10.0.0.1", 7007)]
    assert log()[1].startswith("skipped, because missing_family is skip: Couldn't listen on [::]:7007: [Errno 97]")
    assert hosts.run(hosts.connect().request(b"hello")) == b"hello"
    for nowhere in (service_of(Unlistenable(), policies=skip), service_of(Unlistenable(), TCP)):
        with pytest.raises(CannotListenError):
            getattr(nowhere, start)()


def test_an_endpoint_service_can_start_after_a_failed_start(hosts: Hosts) -> None:
    """An `EndpointService` that cannot listen does not run, and starts once the port is free."""
    other = hosts.listen(echo)
    service = EndpointService(TCP4ServerEndpoint(hosts.server.reactor, 7007), MessageServerFactory(echo))
    with pytest.raises(CannotListenError):
        service.startService()
    assert not service.running
    hosts.run(other.close())
    service.startService()
    assert service.running
    hosts.run(service.stopService())


def test_a_failed_start_can_be_tried_again(hosts: Hosts, service_of: Any) -> None:
    """A service whose start failed for a busy port starts once this port is free."""
    other = hosts.listen(echo, "tcp:7008")
    service = service_of("tcp:7007", "tcp:7008")
    with pytest.raises(CannotListenError):
        service.startService()
    hosts.run(other.close())
    hosts.wait()
    service.startService()
    assert service.running
    assert [address.port for address in service.addresses] == [7007, 7008]


def test_an_endpoint_that_listens_later_is_added_then(hosts: Hosts, service_of: Any, log: Any) -> None:
    """The address of an endpoint that listens later is in `addresses` and in the log from then on."""
    later = LateEndpoint()
    service = service_of(later, TCP)
    service.startService()
    assert [address.port for address in service.addresses] == [7007]
    later.outcome.callback(hosts.server.reactor.listenTCP(7008, later.factory, interface="10.0.0.1"))
    assert [address.port for address in service.addresses] == [7008, 7007]
    assert log() == ["listening on 10.0.0.1:7007", "listening on 10.0.0.1:7008"]


def test_an_endpoint_that_fails_later_is_logged(hosts: Hosts, service_of: Any, log: Any, logged_errors: Any) -> None:
    """An endpoint that fails after the start is logged; the other endpoint serves, and stopping is no error."""
    later = LateEndpoint()
    service = service_of(later, TCP)
    service.startService()
    later.outcome.errback(CannotListenError("127.0.0.1", 7008, OSError(98, "Address already in use")))
    assert logged_errors.take(CannotListenError)
    assert log()[-1] == "cannot listen"
    assert [address.port for address in service.addresses] == [7007]
    assert hosts.run(hosts.connect().request(b"hello")) == b"hello"
    assert hosts.run(service.stopService()) is None


# Stopping -------------------------------------------------------------------------------------------------------------


def test_stopping_closes_every_port(hosts: Hosts, service_of: Any, log: Any) -> None:
    """A stopped service listens nowhere, and logs that for each address."""
    service = service_of(TCP, UNIX)
    service.startService()
    assert hosts.run(service.stopService()) is None
    assert not service.running
    assert service.addresses == []
    assert hosts.sim.left() == []
    assert sorted(log()[2:]) == ["no longer listening on 10.0.0.1:7007", "no longer listening on unix:/run/app.sock"]


def test_stopping_waits_until_the_ports_are_closed(hosts: Hosts, service_of: Any) -> None:
    """The Deferred of `stopService` fires in a later turn, when the last port is closed."""
    service = service_of(TCP, UNIX)
    service.startService()
    ports: list[int] = []
    stopped = outcome(service.stopService(), lambda _: ports.append(len(hosts.sim.left())))
    assert stopped == []
    hosts.wait()
    assert (stopped, ports) == ([None], [0])


def test_stopping_before_the_start_or_twice_does_nothing(hosts: Hosts, service_of: Any) -> None:
    """`stopService` fires at once before the start, and again after the service was stopped."""
    service = service_of(TCP)
    assert outcome(service.stopService()) == [None]
    service.startService()
    assert hosts.run(service.stopService()) is None
    assert outcome(service.stopService()) == [None]


def test_stopping_before_it_listens_ends_the_listening(service_of: Any, log: Any) -> None:
    """Stopping cancels an endpoint that is about to listen, and this is not logged as a failure."""
    told: list[object] = []
    service = service_of(LateEndpoint(cancelled=told.append))
    service.startService()
    assert outcome(service.stopService()) == [None]
    assert len(told) == 1
    assert log() == []


def test_a_stopped_service_starts_again(hosts: Hosts, service_of: Any) -> None:
    """The service can stop and start on the same endpoints again and again; Twisted's own service cannot."""
    service = service_of(TCP)
    for _ in range(3):
        service.privilegedStartService()
        service.startService()
        assert service.addresses == [IPv4Address("TCP", "10.0.0.1", 7007)]
        client = hosts.connect()
        assert hosts.run(client.request(b"hello")) == b"hello"
        assert hosts.run(service.stopService()) is None
        assert hosts.run(client.when_closed()).rule == "end-of-stream"
        with pytest.raises(Refused):
            hosts.connect()


def test_a_port_that_does_not_close_is_logged(service_of: Any, log: Any) -> None:
    """A port that cannot remove its file is logged, and the stop still waits for the connections."""
    service = service_of(LateEndpoint(StubbornPort()), app=never)
    service.startService()
    client = joined(service.factory)
    client.receive(b"work\n")
    stopped = outcome(service.stopService())
    assert "cannot stop listening properly: [Errno 13] Permission denied" in log()
    assert stopped == []
    service.cut()
    client.turn()
    assert stopped == [None]


# Draining -------------------------------------------------------------------------------------------------------------


def test_stopping_lets_connections_finish(hosts: Hosts, service_of: Any, log: Any) -> None:
    """Stopping closes an idle connection at once and a busy one after its reply, and logs how many there are."""
    app = Switch()
    events: list[Event] = []
    service = service_of(TCP, app=app, telemetry=Telemetry(events.append))
    service.startService()
    idle, busy = hosts.connect(), hosts.connect()
    reply = outcome(busy.request(b"work"))
    hosts.wait()
    stopped = outcome(service.stopService())
    assert service.addresses == []
    assert "draining 2 connection(s), for 15 s at most" in log()
    hosts.wait()
    assert [each.peer for each in service.factory.connections] == [busy.host]
    assert idle.when_closed().result.rule == "end-of-stream"
    app.pending[0].callback(b"done")
    hosts.wait()
    assert (reply, stopped) == ([b"done"], [None])
    assert [each.reason.rule for each in events if isinstance(each, Closed)] == ["drained"] * 2


def test_the_drain_has_a_deadline(hosts: Hosts, service_of: Any, log: Any) -> None:
    """Connections that are still open after ``timeouts.drain`` seconds are cut, and the log has their number."""
    service = service_of(TCP, app=never, timeouts=Timeouts(drain=3))
    service.startService()
    outcome(hosts.connect().request(b"work"))
    hosts.wait()
    began, stopped = hosts.sim.now, outcome(service.stopService())
    hosts.run(began + 2.99)
    assert stopped == []
    hosts.run(began + 3.01)
    assert stopped == [None]
    assert "cut 1 connection(s) that did not end by themselves" in log()


def test_a_drain_can_be_cut_short(hosts: Hosts, service_of: Any) -> None:
    """`cut` ends all connections at once, and the Deferred of `stopService` fires."""
    events: list[Event] = []
    service = service_of(TCP, app=never, telemetry=Telemetry(events.append))
    service.startService()
    outcome(hosts.connect().request(b"work"))
    hosts.wait()
    stopped = outcome(service.stopService())
    hosts.wait()
    assert stopped == []
    service.cut()
    hosts.wait()
    assert stopped == [None]
    assert [each.reason.rule for each in events if isinstance(each, Closed)] == ["aborted"]


def test_a_service_that_drained_serves_again(hosts: Hosts, service_of: Any) -> None:
    """After a stop with an open connection, the service can start, and serves new clients."""
    service = service_of(TCP)
    service.startService()
    hosts.connect()
    hosts.wait()
    assert hosts.run(service.stopService()) is None
    service.startService()
    assert hosts.run(hosts.connect().request(b"again")) == b"again"


# Suspending, resuming, changing ---------------------------------------------------------------------------------------


def test_a_service_can_be_suspended_drained_and_resumed(hosts: Hosts) -> None:
    """A suspended service stays suspended when it starts. After `resume`, all endpoints serve, also after a drain."""
    factory = MessageServerFactory(echo, clock=hosts.server.reactor)
    service = MessageService(factory, ["tcp:1001", "tcp:1002"], hosts.server.reactor)
    service.suspend()
    service.startService()
    hosts.at_end.append(service.stopService)
    replies = [outcome(hosts.connect(f"tcp:server:{port}").request(b"hi")) for port in (1001, 1002)]
    hosts.wait()
    assert (replies, service.info().state) == ([[], []], "suspended")
    service.resume()
    hosts.wait()
    assert (replies, service.info().state) == ([[b"hi"], [b"hi"]], "serving")
    few = outcome(service.wait_for(0))
    drained = outcome(service.drain())
    hosts.wait()
    assert (drained, few, service.info().state) == ([0], [None], "suspended")
    service.resume()
    reply = outcome(hosts.connect("tcp:server:1001").request(b"hi"))
    hosts.wait()
    assert reply == [b"hi"]
    assert service.reload_certificates()


def test_settings_change_while_it_serves(hosts: Hosts, service_of: Any) -> None:
    """`change` of the service changes the settings of its factory, or nothing if a value is invalid."""
    service = service_of(TCP)
    service.change(max_connections=5, policies=Policies(over_max_connections="wait"))
    assert (service.info().limits.max_connections, service.info().policies.over_max_connections) == (5, "wait")
    with pytest.raises(InvalidOption, match=r"^idle="):
        service.change(max_connections=7, idle=-1)
    assert service.info().limits.max_connections == 5
