"""A host name with several addresses: they are tried one after the other, and the first connection wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.error import (
    ConnectBindError,
    ConnectingCancelledError,
    DNSLookupError,
    NoRouteError,
)
from twisted.internet.error import (
    ConnectionRefusedError as Refused,
)
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.transport.happy_eyeballs import DELAY, HostEndpoint
from tests.peers import outcome


@implementer(IHostnameResolver)
class Names:
    """A resolver that gives these addresses when the test calls `tell`."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.tell: Callable[[], None] = lambda: None

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *given: Any) -> Any:  # noqa: N803
        def tell() -> None:
            for host in self.hosts:
                kind = HostnameAddress if host == "no address" else IPv6Address if ":" in host else IPv4Address
                given = (b"host", portNumber) if kind is HostnameAddress else ("TCP", host, portNumber)
                receiver.addressResolved(kind(*given))
            receiver.resolutionComplete()

        self.asked.append(name)
        receiver.resolutionBegan(None)
        self.tell = tell


class Dialled:
    """An attempt to connect to ``host.test``, on a reactor whose connections the test lets succeed or fail."""

    def __init__(self, *hosts: str, name: str = "host.test", **given: Any) -> None:
        self.reactor = MemoryReactorClock()
        self.names = Names(*hosts)
        self.reactor.installNameResolver(self.names)
        self.factory = Factory.forProtocol(Protocol)
        self.connecting = HostEndpoint(self.reactor, name, 7007, **given).connect(self.factory)
        self.told = outcome(self.connecting)

    @property
    def tried(self) -> list[str]:
        """The tried hosts, in order."""
        return [each[0] for each in self.reactor.tcpClients]

    def fail(self, at: int, error: Exception | None = None) -> None:
        """Let the attempt with this index fail."""
        self.reactor.tcpClients[at][2].clientConnectionFailed(None, Failure(error or Refused()))

    def succeed(self, at: int, *, itself: bool = False) -> StringTransport:
        """Let the attempt with this index connect, with `itself` or with a server, and return its transport."""
        to = IPv4Address("TCP", self.reactor.tcpClients[at][0], 7007)
        transport = StringTransport(hostAddress=to if itself else None, peerAddress=to)
        self.reactor.tcpClients[at][2].buildProtocol(to).makeConnection(transport)
        return transport

    def given_up(self) -> list[bool]:
        """Return for each attempt whether it was given up."""
        return [each.stoppedConnecting for each in self.reactor.connectors]

    def all_is_over(self) -> bool:
        """Tell whether no timer is left."""
        return self.reactor.getDelayedCalls() == []


def test_the_first_address_that_answers_wins() -> None:
    """When the first address connects at once, no other address is tried, and no timer is left."""
    dialled = Dialled("192.0.2.1", "192.0.2.2")
    assert (dialled.names.asked, dialled.tried) == (["host.test"], [])
    dialled.names.tell()
    assert dialled.tried == ["192.0.2.1"]
    dialled.succeed(0)
    assert isinstance(dialled.told[0], Protocol)
    dialled.reactor.advance(10 * DELAY)
    assert dialled.tried == ["192.0.2.1"]
    assert dialled.all_is_over()


def test_after_a_refusal_the_next_address_is_tried_at_once() -> None:
    """When an address refuses the connection, the next one is tried without a delay, as for ``localhost``."""
    dialled = Dialled("::1", "127.0.0.1")
    dialled.names.tell()
    dialled.fail(0)
    assert dialled.tried == ["::1", "127.0.0.1"]
    dialled.succeed(1)
    assert isinstance(dialled.told[0], Protocol)
    assert dialled.all_is_over()


def test_after_a_connection_with_itself_the_next_address_is_tried() -> None:
    """A connection with itself is closed, because no server listens there, and the next address is tried."""
    dialled = Dialled("192.0.2.1", "192.0.2.2")
    dialled.names.tell()
    assert dialled.succeed(0, itself=True).disconnecting
    assert (dialled.told, dialled.tried) == ([], ["192.0.2.1", "192.0.2.2"])
    assert not dialled.succeed(1).disconnecting
    assert isinstance(dialled.told[0], Protocol)
    assert dialled.all_is_over()


def test_a_connection_with_itself_alone_is_refused() -> None:
    """When the only address gives a connection with itself, connecting fails as refused."""
    dialled = Dialled("192.0.2.1")
    dialled.names.tell()
    dialled.succeed(0, itself=True)
    (error,) = dialled.told
    assert isinstance(error, Refused)
    assert "connected to itself" in str(error)


def test_without_an_answer_the_next_address_is_tried_soon() -> None:
    """After `DELAY` without an answer, the next address is tried, too; when one connects, the other is given up."""
    dialled = Dialled("192.0.2.1", "192.0.2.2", "192.0.2.3")
    dialled.names.tell()
    dialled.reactor.advance(DELAY * 0.9)
    assert dialled.tried == ["192.0.2.1"]
    dialled.reactor.advance(DELAY * 0.1)
    assert dialled.tried == ["192.0.2.1", "192.0.2.2"]
    dialled.succeed(0)
    assert isinstance(dialled.told[0], Protocol)
    dialled.reactor.advance(10 * DELAY)
    assert dialled.tried == ["192.0.2.1", "192.0.2.2"]
    assert dialled.given_up() == [False, True]
    assert dialled.all_is_over()


def test_a_failure_while_another_attempt_is_pending_waits_for_it() -> None:
    """When the second attempt fails while the first is pending, the first can still win."""
    dialled = Dialled("192.0.2.1", "192.0.2.2")
    dialled.names.tell()
    dialled.reactor.advance(DELAY)
    dialled.fail(1)
    assert dialled.told == []
    dialled.succeed(0)
    assert isinstance(dialled.told[0], Protocol)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ([Refused("one"), Refused("other")], "one"),
        ([NoRouteError("no IPv6"), Refused("refused")], "refused"),
        ([Refused("refused"), NoRouteError("no IPv6")], "refused"),
        ([ConnectBindError("wrong"), NoRouteError("no IPv6")], "no IPv6"),
    ],
)
def test_when_all_attempts_fail_the_most_useful_error_is_reported(errors: list[Exception], told: str) -> None:
    """When all attempts fail, the error is the first one about the peer, else the last one about this machine."""
    dialled = Dialled("2001:db8::1", "192.0.2.1")
    dialled.names.tell()
    for at, error in enumerate(errors):
        dialled.fail(at, error)
    assert [each.osError or each.args[0] for each in dialled.told] == [told]
    assert dialled.all_is_over()


def test_the_families_take_turns() -> None:
    """IPv6 and IPv4 addresses are tried alternately, in the resolver's order, and none is tried twice."""
    dialled = Dialled("2001:db8::1", "2001:db8::2", "2001:db8::1", "no address", "192.0.2.1")
    dialled.names.tell()
    for at in range(3):
        dialled.fail(at)
    assert dialled.tried == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


def test_a_name_without_addresses_is_not_found() -> None:
    """A host name without an address fails with DNSLookupError, which names the host."""
    dialled = Dialled()
    dialled.names.tell()
    (error,) = dialled.told
    assert isinstance(error, DNSLookupError)
    assert "the host 'host.test' has no address" in str(error)


@pytest.mark.parametrize(("origin", "tried"), [("192.0.2.9", ["192.0.2.1"]), ("2001:db8::9", ["2001:db8::1"])])
def test_only_addresses_of_the_origins_family_are_tried(origin: str, tried: list[str]) -> None:
    """A client that is bound to an IPv4 address tries only IPv4 addresses, and the same holds for IPv6."""
    dialled = Dialled("2001:db8::1", "192.0.2.1", origin=origin, timeout=5)
    dialled.names.tell()
    dialled.fail(0)
    assert dialled.tried == tried
    assert [each[3:] for each in dialled.reactor.tcpClients] == [(5, (origin, 0))]


def test_an_origin_of_a_family_that_the_name_lacks_is_an_error() -> None:
    """When the host has no address of the origin's family, the error says so."""
    dialled = Dialled("2001:db8::1", origin="192.0.2.9")
    dialled.names.tell()
    assert "the host 'host.test' has no address of the family of 192.0.2.9" in str(dialled.told[0])


def test_connecting_can_be_cancelled_during_its_attempts() -> None:
    """When connecting is cancelled, all attempts are given up, and no timer is left."""
    dialled = Dialled("192.0.2.1", "192.0.2.2")
    dialled.names.tell()
    dialled.reactor.advance(DELAY)
    dialled.connecting.cancel()
    assert [type(each) for each in dialled.told] == [ConnectingCancelledError]
    assert dialled.given_up() == [True, True]
    assert dialled.all_is_over()


@pytest.mark.parametrize("hosts", [(), ("192.0.2.1",)])
def test_connecting_can_be_cancelled_during_the_lookup(hosts: tuple[str, ...]) -> None:
    """When connecting is cancelled during the lookup, no address is tried."""
    dialled = Dialled(*hosts)
    dialled.connecting.cancel()
    dialled.names.tell()
    assert [type(each) for each in dialled.told] == [ConnectingCancelledError]
    assert dialled.tried == []


def test_a_name_beyond_ascii_is_looked_up_in_ascii() -> None:
    """A host name beyond ASCII is looked up in its ASCII form (RFC 3490)."""
    assert Dialled(name="bücher.example").names.asked == ["xn--bcher-kva.example"]


class Nameless:
    """A reactor without a resolver, which looks names up by itself."""

    def __init__(self) -> None:
        self.tried: list[Any] = []

    def connectTCP(self, *given: Any, **named: Any) -> None:
        self.tried.append(given[0])


def test_a_reactor_without_a_resolver_is_given_the_name() -> None:
    """A reactor without a resolver, such as a test's own, is given the host name itself."""
    reactor = Nameless()
    assert not IReactorPluggableNameResolver.providedBy(reactor)
    HostEndpoint(reactor, "host.test", 7007).connect(Factory())
    assert reactor.tried == ["host.test"]
