"""Behind a proxy: which proxies are trusted, which addresses a connection has, and which connections are rejected."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.connection.protocol import protocol_of
from tcpapp.limits.networks import Networks
from tcpapp.proxy_protocol import Command, Family, Header, InetAddress, Tlv, Type, frame
from tcpapp.transport.endpoint_strings import server_endpoint
from tcpapp.transport.proxy_header import (
    ProxyHeaderFactory,
    ProxyHeaderProtocol,
    ProxyHeaderServer,
    behind_header,
    header_below,
)
from tests.peers import Hosts, NotedTransport, StrictClock, outcome

PROXY = IPv4Address("TCP", "127.0.0.1", 40000)
CLIENT = IPv4Address("TCP", "192.0.2.7", 56324)
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
SOURCE, DESTINATION = (
    InetAddress(ipaddress.IPv4Address("192.0.2.7"), 56324),
    InetAddress(ipaddress.IPv4Address("198.51.100.1"), 443),
)


class App:
    """An app that records its messages and the peers of its connections."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def opened(self, connection: Any) -> None:
        self.told.append(("opened", connection.peer))

    def received(self, message: bytes, connection: Any) -> bytes:
        self.told.append(message)
        return message.upper()

    def closed(self, connection: Any, reason: Any) -> None:
        self.told.append(reason.rule)


class Rig:
    """A server behind proxies, and one connection of a proxy to it."""

    def __init__(self, app: Any = None, *, address: Any = PROXY, transport: Any = None, **options: Any) -> None:
        self.app = App() if app is None else app
        self.clock = StrictClock()
        self.events: list[Any] = []
        options.setdefault("timeouts", Timeouts(first_message=0, idle=0, message_timeout=0))
        self.factory = MessageServerFactory(
            self.app, clock=self.clock, telemetry=Telemetry(self.events.append), **options
        )
        self.connect(address)

    def connect(self, address: Any = PROXY) -> Any:
        self.transport = NotedTransport(clock=self.clock, peerAddress=address)
        self.waiting = ProxyHeaderFactory(self.factory, self.factory).buildProtocol(address)
        self.transport.connect(self.waiting)
        return self.waiting

    def says(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.transport.receive(chunk)

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.factory.admission.refused)


# Accepted connections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(len(HEADER) + 3))
def test_the_app_learns_the_true_peer_when_a_connection_opens(cut: int) -> None:
    """
    A connection opens with the header's addresses, at any cut of the header.

    Bytes behind the header in a chunk belong to the conversation.
    """
    rig = Rig()
    data = HEADER + b"hi\n"
    rig.says(data[:cut], data[cut:])
    assert rig.app.told == [("opened", CLIENT), b"hi"]
    assert rig.transport.value() == b"HI\n"
    [connection] = rig.factory.connections
    assert (connection.peer, connection.host) == (CLIENT, IPv4Address("TCP", "198.51.100.1", 443))
    assert connection.proxy.source == SOURCE
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (b"PROXY UNKNOWN\r\n", PROXY),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", IPv6Address("TCP", "2001:db8::1", 1)),
        (frame(Header(2, Command.LOCAL, Family.UNSPEC)), PROXY),
        (frame(Header(2, Command.PROXY, Family.TCP4, SOURCE, DESTINATION)), CLIENT),
        (frame(Header(2, Command.PROXY, Family.UDP4, SOURCE, DESTINATION)), IPv4Address("UDP", "192.0.2.7", 56324)),
        (
            frame(
                Header(
                    2,
                    Command.PROXY,
                    Family.TCP6,
                    InetAddress(ipaddress.IPv6Address("::1"), 5),
                    InetAddress(ipaddress.IPv6Address("::2"), 6),
                )
            ),
            IPv6Address("TCP", "::1", 5),
        ),
        (frame(Header(2, Command.PROXY, Family.UNIX_STREAM, b"/run/a", b"/run/b")), UNIXAddress(b"/run/a")),
    ],
)
def test_every_family_has_its_address(header: bytes, peer: Any) -> None:
    """A header of each family gives the peer's address; if the header names none, the proxy itself is the peer."""
    rig = Rig()
    rig.says(header)
    assert rig.app.told == [("opened", peer)]


def test_a_connection_has_the_tlvs_of_its_header() -> None:
    """`connection.proxy` has the TLVs of the header; a header with a wrong checksum resets the connection."""
    header = Header(2, Command.PROXY, Family.TCP4, SOURCE, DESTINATION, (Tlv(Type.UNIQUE_ID, b"id"),))
    rig = Rig()
    rig.says(frame(header, checksum=True))
    [connection] = rig.factory.connections
    assert connection.proxy.unique_id == b"id"
    wrong = bytearray(frame(header, checksum=True))
    wrong[-1] ^= 1
    rig.connect()
    rig.says(bytes(wrong))
    assert (rig.transport.aborted, rig.refused) == (True, {"malformed-proxy-header": 1})


def test_the_gate_is_removed_once_the_header_is_read() -> None:
    """After the header, the transport's protocol is the conversation itself, which also gets the end of the stream."""
    rig = Rig()
    rig.says(HEADER)
    [connection] = rig.factory.connections
    assert rig.transport.protocol is protocol_of(connection)
    assert header_below(protocol_of(connection).transport) is connection.proxy
    rig.says(b"hi\n")
    rig.transport.half_close()
    rig.transport.turn()
    assert rig.transport.value() == b"HI\n"
    assert rig.app.told[-1] == "end-of-stream"
    assert (len(rig.factory.admission), rig.factory.connections) == (0, set())


class Elsewhere(NotedTransport):
    """A transport that does not show its protocol."""

    @property
    def protocol(self) -> Any:
        return None

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.kept = protocol


def test_a_gate_that_cannot_be_removed_passes_everything_on() -> None:
    """When the transport shows no protocol, the gate passes on bytes, both half-closes and the loss."""
    told: list[Any] = []

    class Behind(Protocol):
        def dataReceived(self, data: bytes) -> None:
            told.append(data)

        def connectionLost(self, reason: Any = None) -> None:
            told.append("lost")

    class Halves(Behind):
        def readConnectionLost(self) -> None:
            told.append("read")

        def writeConnectionLost(self) -> None:
            told.append("write")

    from zope.interface import classImplements

    classImplements(Halves, IHalfCloseableProtocol)
    rig = Rig()
    for kind in (Behind, Halves):
        told.clear()
        factory: Any = type("Factory", (), {"buildProtocol": lambda self, addr, kind=kind: kind()})()
        waiting = ProxyHeaderProtocol(ProxyHeaderFactory(factory, rig.factory), PROXY)
        assert verifyObject(IHalfCloseableProtocol, waiting)

        class Kept:
            """A transport."""

            disconnecting = lost = False

            def getPeer(self) -> Any:
                return PROXY

            getHost = getPeer

            def write(self, data: bytes) -> None:
                told.append((b"out", data))

            def loseConnection(self) -> None:
                self.lost = True

        transport = Kept()
        waiting.makeConnection(transport)
        waiting.dataReceived(HEADER + b"a")
        waiting.dataReceived(b"b")
        waiting.write(b"c")
        waiting.readConnectionLost()
        waiting.writeConnectionLost()
        waiting.connectionLost()
        halves = ["read", "write"] if kind is Halves else []
        assert told == [b"a", b"b", (b"out", b"c"), *halves, "lost"]
        assert transport.lost == (kind is Behind)


# Rejected connections -------------------------------------------------------------------------------------------------


def test_an_untrusted_proxy_is_reset() -> None:
    """A connection of an untrusted proxy is reset before its header is read: a header can name any peer."""
    rig = Rig(address=IPv4Address("TCP", "192.0.2.66", 1))
    rig.says(HEADER)
    assert (rig.transport.aborted, rig.app.told, rig.refused) == (True, [], {"proxy-untrusted": 1})
    rig.transport.turn()
    assert rig.clock.getDelayedCalls() == []
    [event] = rig.events
    assert str(event.refusal) == "it is not one of the allowed proxies"


@pytest.mark.parametrize("address", [IPv4Address("TCP", "10.0.0.5", 1), UNIXAddress(None)])
def test_allowed_proxies_are_trusted(address: Any) -> None:
    """A proxy of an allowed network is trusted, and so is a proxy on a UNIX socket, which is on this machine."""
    rig = Rig(address=address, proxies=Networks(allow=["10.0.0.0/8"]))
    rig.says(HEADER)
    assert rig.app.told == [("opened", CLIENT)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "b'G' begins the stream; a PROXY header begins with"),
        (b"PROXY TCP4 999.1.1.1 1.1.1.1 1 2\r\n", "999.1.1.1"),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 99999\r\n", "99999"),
        (b"PROXY TCP4 " + b"1" * 200, "107"),
        (b"PROXY \x1b[2J" + b"\x07" * 100 + b"\r\n", "begins the stream"),
    ],
)
def test_a_malformed_header_is_reported_and_counted(data: bytes, says: str) -> None:
    """A malformed header resets the connection, and is reported in one printable line of at most 200 characters."""
    rig = Rig()
    rig.says(data)
    assert (rig.transport.aborted, rig.app.told) == (True, [])
    [event] = rig.events
    told = str(event.refusal)
    assert (event.refusal.rule, says in told, told.isprintable(), len(told) <= 200) == (
        "malformed-proxy-header",
        True,
        True,
        True,
    )
    rig.waiting.dataReceived(b"more")  # TLS can still deliver bytes after an abort
    rig.transport.turn()
    assert len(rig.factory.admission) == 0


def test_an_incomplete_header_has_a_timeout() -> None:
    """A header that is not complete after `proxy_header` seconds resets the connection; single bytes do not help."""
    rig = Rig(timeouts=Timeouts(proxy_header=5))
    for byte in HEADER[:5]:
        rig.clock.advance(0.9)
        rig.says(bytes([byte]))
    assert not rig.transport.aborted
    rig.clock.advance(0.5)
    assert rig.transport.aborted
    assert rig.refused == {"proxy-header-timeout": 1}
    endless = Rig(timeouts=Timeouts(proxy_header=0))
    assert endless.clock.getDelayedCalls() == []


def test_a_connection_that_only_opens_and_closes_is_not_reported() -> None:
    """A port check that closes before its header is not reported; a connection that ends inside its header is."""
    rig = Rig()
    rig.transport.half_close()
    rig.transport.turn()
    assert (rig.events, rig.refused, rig.transport.aborted) == ([], {}, True)
    rig.connect()
    rig.transport.lose()
    assert (rig.events, rig.refused, len(rig.factory.admission)) == ([], {}, 0)
    rig.connect()
    rig.says(b"PROXY")
    rig.transport.lose()
    assert [each.refusal.rule for each in rig.events] == ["malformed-proxy-header"]


def test_connections_that_wait_for_their_header_take_a_place() -> None:
    """A connection without a whole header takes a place of `max_connections` until it ends."""
    rig = Rig(limits=Limits(max_connections=1))
    first = rig.transport
    rig.connect()
    assert (rig.transport.aborted, rig.refused) == (True, {"max-connections": 1})
    first.receive(HEADER + b"hi\n")
    assert first.value() == b"HI\n"
    first.lose()
    rig.connect()
    assert not rig.transport.aborted


def test_limits_of_addresses_and_networks_hold_for_the_true_peer() -> None:
    """`max_per_address` and denied networks hold for the peer that the header names, not for the proxy."""
    rig = Rig(limits=Limits(max_per_address=1), networks=Networks(deny=["203.0.113.0/24"]))
    first = rig.transport
    first.receive(HEADER)
    for header, rule in (
        (HEADER.replace(b"56324", b"56325"), "max-per-address"),
        (HEADER.replace(b"192.0.2.7", b"203.0.113.9"), "network-denied"),
    ):
        rig.connect()
        rig.says(header)
        assert rig.refused[rule] == 1
    rig.connect()
    rig.says(HEADER.replace(b"192.0.2.7", b"192.0.2.8") + b"hi\n")
    assert rig.transport.value() == b"HI\n"


@pytest.mark.parametrize("how", ["drain", "close", "abort"])
def test_a_server_that_stops_waits_for_no_header(how: str) -> None:
    """When the server drains, closes or aborts, a connection without a whole header is reset at once."""
    rig = Rig()
    ended = outcome(rig.waiting.when_closed())
    stopped = getattr(rig.factory, how)()
    assert rig.transport.aborted
    assert [each.clean for each in ended] == [how != "abort"]
    assert stopped is None or outcome(stopped) in ([0], [None])
    assert outcome(rig.waiting.when_closed()) == ended
    rig.waiting.abort()


def test_a_waiter_for_the_proxy_header_can_be_cancelled() -> None:
    """A cancelled Deferred of `when_closed` gets no result when the connection ends."""
    rig = Rig()
    waiter = rig.waiting.when_closed()
    waiter.addErrback(lambda failure: None)
    waiter.cancel()
    rig.waiting.abort()


def test_without_a_clock_a_header_has_no_timeout() -> None:
    """Without a clock, no timer is set, and `abort` closes the transport."""
    factory = MessageServerFactory(App(), telemetry=Telemetry())

    class Bare:
        """A transport that has nothing but its end."""

        ended = False

        def loseConnection(self) -> None:
            self.ended = True

        def getPeer(self) -> Any:
            return PROXY

    waiting, transport = ProxyHeaderFactory(factory, factory).buildProtocol(PROXY), Bare()
    waiting.makeConnection(transport)
    waiting.abort()
    assert transport.ended


# Endpoints ------------------------------------------------------------------------------------------------------------


def test_an_endpoint_string_puts_a_gate_before_the_server() -> None:
    """``haproxy:`` before an endpoint puts our gate, not Twisted's, before the server, and only once if given twice."""
    reactor = MemoryReactorClock()
    for text in ("haproxy:tcp:7007", "HAPROXY:haproxy:tcp:7007"):
        endpoint = server_endpoint(reactor, text)
        assert isinstance(endpoint, ProxyHeaderServer)
        assert isinstance(endpoint.endpoint, TCP4ServerEndpoint)
        endpoint.listen(MessageServerFactory(App()))
        assert isinstance(reactor.tcpServers.pop()[1], ProxyHeaderFactory)
        assert endpoint.reload()


def test_a_client_can_send_a_proxy_header(hosts: Hosts) -> None:
    """A client sends a header, or the header that a function of its transport returns, and the server uses it."""
    app = App()
    hosts.listen(app, "haproxy:tcp:7007", proxies=Networks(allow=[hosts.client.ip]))
    header = Header(2, Command.PROXY, Family.TCP4, SOURCE, DESTINATION)
    for header_source in (header, lambda transport: header):
        client = hosts.connect(proxy_header=header_source)
        reply = outcome(client.request(b"hello"))
        hosts.wait()
        assert reply == [b"HELLO"]
    assert app.told == [("opened", CLIENT), b"hello"] * 2


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")
def test_the_header_lies_below_tls(hosts: Hosts, tls_certificates: Any) -> None:
    """Under TLS, the header is sent and read in plain text before the handshake."""
    app = App()
    proxied: list[Any] = []
    for kind in ("ssl", "tls"):
        key, chain = tls_certificates.key, tls_certificates.chain
        names = ("privateKey", "certKey") if kind == "ssl" else ("privateKey", "certificate")
        port = 443 if kind == "ssl" else 444
        endpoint = f"haproxy:{kind}:{port}:{names[0]}={key}:{names[1]}={chain}" + (":watch=0" if kind == "tls" else "")
        server = hosts.listen(app, endpoint, proxies=Networks(allow=[hosts.client.ip]))
        client = hosts.connect(
            tls_certificates.connect(port, "server") + ":hostname=localhost",
            proxy_header=Header(2, Command.PROXY, Family.TCP4, SOURCE, DESTINATION),
        )
        reply = outcome(client.request(b"hello"))
        hosts.wait()
        assert (reply, client.tls.version) == ([b"HELLO"], "TLSv1.3")
        assert client.proxy is None
        proxied += server.connections
    assert [each.proxy.source for each in proxied] == [SOURCE] * 2
    assert app.told == [("opened", CLIENT), b"hello"] * 2
    assert server_endpoint(hosts.server.reactor, endpoint).reload()  # type: ignore[attr-defined]


def test_a_connection_from_another_process_keeps_the_addresses_of_its_header() -> None:
    """`behind_header` gives a transport with the header's addresses, and connects transport and protocol directly."""
    header = Header(1, Command.PROXY, Family.TCP4, SOURCE, DESTINATION)
    transport = NotedTransport(peerAddress=PROXY)
    protocol: Any = MessageServerFactory(App(), telemetry=Telemetry(), timeouts=Timeouts(idle=0)).buildProtocol(CLIENT)
    transport.connect(protocol)
    gate = behind_header(transport, header, protocol)
    assert (gate.getPeer(), gate.getHost().host, header_below(gate)) == (CLIENT, "198.51.100.1", header)
    assert (transport.protocol, gate.write) == (protocol, transport.write)
    gate.loseConnection()
    transport.turn()
    assert transport.finished
