"""TLS ends as TCP does: the peer's side, or ours, and the reports of it. Real TLS, over a transport in memory."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.tls import BufferingTLSTransport

from tcpapp import MessageServerFactory, Telemetry, Timeouts, conversation
from tcpapp.apps import echo
from tcpapp.testing.transport import FakeTransport
from tcpapp.transport.layers import bottom_of
from tcpapp.transport.tls.closing import close_by_halves
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec, TLSServerFactory
from tests.peers import TurnClock, outcome

pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # Twisted's use of pyOpenSSL

QUIET = Timeouts(first_message=0, idle=0, tls_handshake=0)


class Peer:
    """A client of Python's own TLS, in memory, and the server that it speaks to."""

    def __init__(self, files: Any, app: Any, *, version: str = "1.3", kind: Any = None, **options: Any) -> None:
        self.clock = TurnClock()
        server = MessageServerFactory(app, clock=self.clock, timeouts=QUIET, telemetry=Telemetry(), **options)
        contexts = ServerContexts(ServerSpec(certificate=files / "server.pem"))
        factory = TLSServerFactory(contexts, server, self.clock, 0)
        factory.protocol = kind or factory.protocol
        context = ssl.create_default_context(cafile=str(files / "roots.pem"))
        context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
        self.come, self.go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.come, self.go, server_hostname="localhost")
        self.transport = FakeTransport(clock=self.clock)
        layer: Any = factory.buildProtocol(None)
        self.protocol: Any = layer.wrappedProtocol
        self.connection = self.protocol.connection
        self.transport.connect(layer)
        self.closed = outcome(self.connection.when_closed())
        for _ in range(5):
            with suppress(ssl.SSLWantReadError):
                self.session.do_handshake()
            self.pass_on()
        assert self.connection.is_open

    def pass_on(self) -> None:
        """The client's bytes go to the server; then the server's go to the client."""
        self.transport.receive(self.go.read())
        for _ in range(5):
            self.clock.turn()
        self.come.write(self.transport.value())
        self.transport.clear()

    def says(self, data: bytes) -> None:
        self.session.write(data)
        self.pass_on()

    def has_sent_all(self) -> None:
        """Send close_notify; errors say that the server's has not come, or that other bytes have."""
        with suppress(ssl.SSLError):
            self.session.unwrap()
        self.pass_on()

    def hears(self) -> bytes:
        """The received bytes; empty if there are none, or the server has sent everything."""
        with suppress(ssl.SSLError):
            return self.session.read(1_000_000)
        return b""

    def ends(self, how: str) -> None:
        """End the TCP connection."""
        getattr(self.transport, how)()
        for _ in range(5):
            self.clock.turn()


@conversation
async def in_the_end(connection: Any) -> None:
    """Answers everything when the peer has closed its side."""
    messages = [message async for message in connection]
    await connection.send(b"+".join(messages))


# The peer closes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, BufferingTLSTransport])
def test_what_a_peer_said_before_it_closed_its_side_is_answered(files: Any, kind: Any) -> None:
    """Over TLS 1.3, in whichever class of TLS; then our close_notify comes, and the end."""
    peer = Peer(files, in_the_end, kind=kind)
    peer.says(b"one\n")
    peer.says(b"two\n")
    peer.has_sent_all()
    assert peer.hears() == b"one+two\n"
    assert peer.hears() == b""
    assert peer.transport.finished
    assert [(reason.rule, str(reason.by), reason.clean) for reason in peer.closed] == [("end-of-stream", "peer", True)]


def test_an_answer_may_take_its_time(files: Any) -> None:
    """
    The connection stays open for it, for half_close seconds; nothing more is read, and a FIN then changes nothing.
    """
    replies: list[Deferred[bytes]] = [Deferred()]
    peer = Peer(files, lambda message, _: replies[0])
    peer.says(b"hello\n")
    peer.has_sent_all()
    assert (peer.transport.producerState, peer.closed) == ("paused", [])
    layer = peer.protocol.transport
    assert IHalfCloseableProtocol.providedBy(layer)
    layer.readConnectionLost()
    layer.writeConnectionLost()
    replies[0].callback(b"at last")
    peer.pass_on()
    assert peer.hears() == b"at last\n"
    assert [reason.rule for reason in peer.closed] == ["end-of-stream"]


def test_a_connection_lost_while_it_answers_ends_as_it_would_over_tcp(files: Any) -> None:
    """The peer had closed its side: that is the reason."""
    peer = Peer(files, lambda message, _: Deferred())
    peer.says(b"hello\n")
    peer.has_sent_all()
    peer.transport.lose()
    assert [reason.rule for reason in peer.closed] == ["end-of-stream"]


def test_tls_1_2_has_no_half_close(files: Any) -> None:
    """Unsent bytes are discarded, as RFC 5246 (section 7.2.1) demands; earlier bytes arrive."""
    peer = Peer(files, in_the_end, version="1.2")
    peer.says(b"one\n")
    peer.has_sent_all()
    assert peer.hears() == b""
    assert [(reason.rule, reason.clean) for reason in peer.closed] == [("end-of-stream", True)]


def test_a_side_that_is_closed_inside_a_message_is_told(files: Any) -> None:
    """As over TCP."""
    peer = Peer(files, echo)
    peer.says(b"one\ntw")
    assert peer.hears() == b"one\n"
    peer.has_sent_all()
    assert [reason.rule for reason in peer.closed] == ["truncated-message"]


def test_a_side_that_is_closed_while_we_close_changes_nothing(files: Any) -> None:
    """Both have closed, and each has all."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return message

    peer = Peer(files, app)
    peer.session.write(b"bye\n")
    peer.has_sent_all()
    assert peer.hears() == b"bye\n"
    assert [(reason.rule, str(reason.by)) for reason in peer.closed] == [("closed", "us")]


def test_a_peer_that_ends_without_a_word_was_maybe_cut_off(files: Any) -> None:
    """By anybody: that is no proper end, whichever end of TCP it is."""
    for how in ("half_close", "reset"):
        peer = Peer(files, echo)
        peer.says(b"hello\n")
        peer.ends(how)
        assert [(reason.rule, reason.clean) for reason in peer.closed] == [("lost", False)]


# We close -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("how", ["half_close", "reset"])
def test_a_peer_need_not_answer_our_close(files: Any, version: str, how: str) -> None:
    """Its FIN, or the reset of a peer that did not read our close_notify: we ended it, properly, as over TCP."""
    peer = Peer(files, echo, version=version)
    sent = outcome(peer.connection.send(b"bye"))
    peer.connection.close()
    peer.pass_on()
    assert (peer.hears(), sent, peer.closed) == (b"bye\n", [None], [])
    peer.ends(how)
    assert [(reason.rule, str(reason.by), reason.clean) for reason in peer.closed] == [("closed", "us", True)]


def test_a_peer_that_never_answers_our_close_is_left(files: Any) -> None:
    """When the grace is over; it has everything, so nothing was cut. Otherwise, the cut is reported."""
    for stalls, rule in ((False, "closed"), (True, "grace-over")):
        peer = Peer(files, echo)
        if stalls:
            peer.transport.stall()
        peer.connection.send(b"bye")
        peer.connection.close()
        peer.clock.advance(4.9)
        assert peer.closed == []
        peer.clock.advance(0.2)
        assert [reason.rule for reason in peer.closed] == [rule]
        assert peer.transport.aborted is stalls


@pytest.mark.parametrize("how", ["half_close", "reset"])
def test_what_the_system_has_not_taken_is_lost(files: Any, how: str) -> None:
    """A peer that ends the connection before it has everything: that is reported."""
    peer = Peer(files, echo)
    peer.transport.stall()
    peer.connection.send(b"bye")
    peer.connection.close()
    peer.ends(how)
    assert [(reason.rule, reason.clean) for reason in peer.closed] == [("lost", False)]


def test_a_connection_that_is_cut_is_not_closed(files: Any) -> None:
    """Though a close_notify goes out then, too, and whatever the transport says of it."""
    for how in ("lose", "turn"):
        peer = Peer(files, echo)
        told: list[Any] = []
        peer.protocol.connectionLost = told.append
        peer.connection.abort()
        getattr(peer.transport, how)()
        [reason] = told
        assert not reason.check(ConnectionDone)
        type(peer.protocol).connectionLost(peer.protocol, reason)
        assert [(reason.rule, reason.clean) for reason in peer.closed] == [("aborted", False)]


def test_bytes_that_our_reactor_queues_count_as_unsent(files: Any) -> None:
    """It says of its transport that it is blocked: uvloop has the bytes then, and the kernel has not."""
    peer = Peer(files, echo)
    peer.connection.close()
    bottom_of(peer.protocol.transport)._blocked = True
    peer.ends("half_close")
    assert [reason.rule for reason in peer.closed] == ["lost"]


def test_a_layer_is_changed_once(files: Any) -> None:
    """A second call does nothing more."""
    peer = Peer(files, echo)
    layer = peer.protocol.transport
    kind = type(layer)
    close_by_halves(layer)
    assert type(layer) is kind
