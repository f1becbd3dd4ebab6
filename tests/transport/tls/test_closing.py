"""How TLS connections end: by close_notify of either side, and how that is reported. Real TLS, in memory."""

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
    """A client of Python's own TLS, in memory, and the server that it is connected to."""

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
        """Pass the client's bytes to the server, then the server's bytes to the client."""
        self.transport.receive(self.go.read())
        for _ in range(5):
            self.clock.turn()
        self.come.write(self.transport.value())
        self.transport.clear()

    def says(self, data: bytes) -> None:
        """Send a message to the server."""
        self.session.write(data)
        self.pass_on()

    def has_sent_all(self) -> None:
        """Send close_notify. An SSLError only means that the server's has not come, or that other bytes have."""
        with suppress(ssl.SSLError):
            self.session.unwrap()
        self.pass_on()

    def hears(self) -> bytes:
        """Return the received bytes, which are empty if there are none or the server has sent close_notify."""
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
    """Answer all messages at once when the peer has closed its side."""
    messages = [message async for message in connection]
    await connection.send(b"+".join(messages))


# The peer closes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, BufferingTLSTransport])
def test_messages_before_a_close_notify_are_answered(files: Any, kind: Any) -> None:
    """Over TLS 1.3, the app can still answer after the peer's close_notify; then the server closes, too."""
    peer = Peer(files, in_the_end, kind=kind)
    peer.says(b"one\n")
    peer.says(b"two\n")
    peer.has_sent_all()
    assert peer.hears() == b"one+two\n"
    assert peer.hears() == b""
    assert peer.transport.finished
    assert [(reason.rule, str(reason.by), reason.clean) for reason in peer.closed] == [("end-of-stream", "peer", True)]


def test_an_answer_can_come_long_after_a_close_notify(files: Any) -> None:
    """After the peer's close_notify, the connection reads nothing more and stays open for a late reply."""
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
    """When the connection is lost after the peer's close_notify, the reason is still "end-of-stream", as over TCP."""
    peer = Peer(files, lambda message, _: Deferred())
    peer.says(b"hello\n")
    peer.has_sent_all()
    peer.transport.lose()
    assert [reason.rule for reason in peer.closed] == ["end-of-stream"]


def test_tls_1_2_has_no_half_close(files: Any) -> None:
    """Over TLS 1.2, a reply after the peer's close_notify is discarded, as RFC 5246 (section 7.2.1) demands."""
    peer = Peer(files, in_the_end, version="1.2")
    peer.says(b"one\n")
    peer.has_sent_all()
    assert peer.hears() == b""
    assert [(reason.rule, reason.clean) for reason in peer.closed] == [("end-of-stream", True)]


def test_a_close_notify_inside_a_message_truncates_it(files: Any) -> None:
    """A close_notify inside a message ends the connection with "truncated-message", as over TCP."""
    peer = Peer(files, echo)
    peer.says(b"one\ntw")
    assert peer.hears() == b"one\n"
    peer.has_sent_all()
    assert [reason.rule for reason in peer.closed] == ["truncated-message"]


def test_a_close_notify_while_the_server_closes_changes_nothing(files: Any) -> None:
    """When both sides close, the peer gets its reply, and the reason is "closed" by us."""

    def app(message: bytes, connection: Any) -> bytes:
        connection.close()
        return message

    peer = Peer(files, app)
    peer.session.write(b"bye\n")
    peer.has_sent_all()
    assert peer.hears() == b"bye\n"
    assert [(reason.rule, str(reason.by)) for reason in peer.closed] == [("closed", "us")]


def test_an_end_without_a_close_notify_is_a_loss(files: Any) -> None:
    """A FIN or a reset without a close_notify ends with "lost": an attacker can cut a connection so."""
    for how in ("half_close", "reset"):
        peer = Peer(files, echo)
        peer.says(b"hello\n")
        peer.ends(how)
        assert [(reason.rule, reason.clean) for reason in peer.closed] == [("lost", False)]


# The server closes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("how", ["half_close", "reset"])
def test_a_peer_need_not_answer_our_close(files: Any, version: str, how: str) -> None:
    """After our close_notify, a FIN or a reset of the peer is a clean end by us, as over TCP."""
    peer = Peer(files, echo, version=version)
    sent = outcome(peer.connection.send(b"bye"))
    peer.connection.close()
    peer.pass_on()
    assert (peer.hears(), sent, peer.closed) == (b"bye\n", [None], [])
    peer.ends(how)
    assert [(reason.rule, str(reason.by), reason.clean) for reason in peer.closed] == [("closed", "us", True)]


def test_a_peer_that_never_answers_our_close_is_left(files: Any) -> None:
    """
    Without an answer to our close_notify, the connection ends when the grace is over.

    The reason is "closed" if the peer has all bytes, and "grace-over" if the transport still holds some.
    """
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
def test_an_end_of_the_peer_with_unsent_bytes_is_a_loss(files: Any, how: str) -> None:
    """When the peer ends the connection before it has all our bytes, the reason is "lost"."""
    peer = Peer(files, echo)
    peer.transport.stall()
    peer.connection.send(b"bye")
    peer.connection.close()
    peer.ends(how)
    assert [(reason.rule, reason.clean) for reason in peer.closed] == [("lost", False)]


def test_an_abort_is_no_clean_end(files: Any) -> None:
    """`abort` ends the connection with "aborted", although a close_notify is sent then, too."""
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
    """When uvloop still holds bytes of our transport, an end of the peer is a loss."""
    peer = Peer(files, echo)
    peer.connection.close()
    bottom_of(peer.protocol.transport)._blocked = True
    peer.ends("half_close")
    assert [reason.rule for reason in peer.closed] == ["lost"]


def test_a_layer_is_changed_once(files: Any) -> None:
    """A second call of `close_by_halves` for a layer changes nothing."""
    peer = Peer(files, echo)
    layer = peer.protocol.transport
    kind = type(layer)
    close_by_halves(layer)
    assert type(layer) is kind
