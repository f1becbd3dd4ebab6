"""TLS handshakes of a server: one step in a turn, however many are begun at once."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from twisted.protocols.tls import TLSMemoryBIOProtocol

from tcpapp import Limits, MessageServerFactory, Telemetry, Timeouts
from tcpapp.connection.deadlines import Deadlines
from tcpapp.connection.lifecycle import Lifecycle
from tcpapp.connection.read_control import ReadControl
from tcpapp.connection.tls_handshake import Handshake
from tcpapp.limits.fairness import StepScheduler
from tcpapp.telemetry import Event, NeverOpened, Opened
from tcpapp.testing.transport import FakeTransport
from tcpapp.transport.tls.contexts import ServerContexts, ServerSpec, TLSServerFactory
from tests.peers import TurnClock

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is deprecated:DeprecationWarning"
)  # Twisted passes such objects to pyOpenSSL

TURNS = 10
"""Turns after which a few handshakes have ended, or wait for their clients."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a certificate with its key."""
    path: Path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


class Client:
    """A client's side of TLS, and the transport of the server's side."""

    def __init__(self, transport: FakeTransport) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._taken = 0

    def shake(self) -> None:
        """Receive the server's bytes, and send the answer. The first answer is the ClientHello."""
        sent = self.transport.value()
        self._incoming.write(sent[self._taken :])
        self._taken = len(sent)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.transport.receive(self._outgoing.read())


class Served:
    """A TLS server on a clock of turns, its events, and how many `steps` of handshakes OpenSSL did."""

    def __init__(self, certificate: Path, clock: TurnClock, **options: Any) -> None:
        self.clock = clock
        self.events: list[Event] = []
        self.steps = 0
        told = Telemetry(self.events.append)
        self.server = MessageServerFactory(lambda message, _: message, clock=clock, telemetry=told, **options)
        self.factory = TLSServerFactory(ServerContexts(ServerSpec(certificate=certificate)), self.server, clock, 0)

    def client(self) -> Client:
        """Return a client that is connected, and has sent nothing yet."""
        protocol: Any = self.factory.buildProtocol(None)
        return Client(FakeTransport(protocol=protocol, clock=self.clock))

    def of(self, kind: type[Event]) -> int:
        """Return how often this event came."""
        return sum(isinstance(each, kind) for each in self.events)


@pytest.fixture
def serve(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """Return a function that makes a server."""

    def make(clock: TurnClock, **options: Any) -> Served:
        made = Served(certificate, clock, **options)
        step = TLSMemoryBIOProtocol._checkHandshakeStatus

        def counted(layer: Any) -> None:
            made.steps += 1
            step(layer)

        monkeypatch.setattr(TLSMemoryBIOProtocol, "_checkHandshakeStatus", counted)
        return made

    return make


def test_fifty_handshakes_at_once_are_one_step_in_each_turn(serve: Callable[..., Served]) -> None:
    """No step is done in the turn that accepts the clients, and then at most one step in each turn."""
    clock = TurnClock()
    served = serve(clock)
    clients = [served.client() for _ in range(50)]
    for each in clients:
        each.shake()
    assert served.steps == 0
    for turn in range(1, 51):
        clock.give_turn()
        assert served.steps == turn
    for each in clients:
        each.shake()
    begun = served.steps
    for _ in range(60):
        before = served.steps
        clock.give_turn()
        assert served.steps - before <= 1
    assert served.steps == begun + 50
    assert (served.of(Opened), len(served.server.connections), len(served.server.settings.step_scheduler)) == (
        50,
        50,
        0,
    )


def test_a_single_handshake_waits_for_no_turn(serve: Callable[..., Served]) -> None:
    """Each step of a single handshake is done as its bytes come. After the handshake, bytes go to TLS directly."""
    clock = TurnClock()
    served = serve(clock)
    client = served.client()
    for count in (1, 2):
        clock.give_turn()
        client.shake()
        assert served.steps == count
    assert served.of(Opened) == 1
    assert "dataReceived" not in vars(client.transport.protocol)


def test_a_client_whose_step_waits_is_not_read_from(serve: Callable[..., Served]) -> None:
    """A client whose step waits is not read from, and no timeout ends it meanwhile or afterwards."""
    clock = TurnClock()
    served = serve(clock, timeouts=Timeouts(tls_handshake=10))
    others, client = [served.client() for _ in range(2)], served.client()
    for each in (*others, client):
        each.shake()
    client.transport.receive(b"\x17\x03\x03\x00\x01x" * 1000)
    assert client.transport.unread == 6000
    clock.rightNow += 11
    clock.give_turn()
    assert (served.of(NeverOpened), client.transport.unread) == (0, 6000)
    for _ in range(TURNS):
        clock.give_turn()
    assert (served.of(NeverOpened), client.transport.unread) == (1, 0)  # the bytes were no TLS


def test_a_connection_that_is_lost_leaves_its_turn(serve: Callable[..., Served]) -> None:
    """If a connection is lost while its step waits, the next connection has the turn."""
    clock = TurnClock()
    served = serve(clock)
    first, lost, last = (served.client() for _ in range(3))
    for each in (first, lost, last):
        each.shake()
    layer = lost.transport.protocol
    lost.transport.abortConnection()
    clock.give_turn()
    assert (served.steps, served.of(NeverOpened), len(served.server.settings.step_scheduler)) == (1, 1, 1)
    clock.give_turn()
    assert (served.steps, len(served.server.settings.step_scheduler)) == (2, 0)
    assert "dataReceived" not in vars(layer)


def test_bytes_that_come_during_the_pause_are_kept_in_order(serve: Callable[..., Served]) -> None:
    """A transport can deliver bytes that it had read before the pause: they are kept, in order."""
    clock = TurnClock()
    served = serve(clock)
    client = served.client()
    receive = client.transport.protocol.dataReceived
    client.transport.receive = lambda data: [receive(data[at : at + 100]) for at in range(0, len(data), 100)]  # type: ignore[assignment, method-assign, misc, return-value]
    client.shake()
    assert served.steps == 0
    clock.give_turn()
    assert served.steps == 1
    for _ in range(TURNS):
        clock.give_turn()
    client.shake()
    assert served.of(Opened) == 1


def test_without_a_clock_there_are_no_turns() -> None:
    """Without a clock, as with a `StringTransport`, each step is done as its bytes come."""
    told: list[bytes] = []

    class Layer:
        def dataReceived(self, data: bytes) -> None:
            told.append(data)

    layer, steps = Layer(), StepScheduler()
    deadlines = Deadlines(cast("Any", None))
    control = ReadControl(layer, Lifecycle(deadlines), deadlines, 1)
    handshake = Handshake(layer, steps, control, deadlines, None)
    assert not deadlines.peer_spoke
    layer.dataReceived(b"one")
    layer.dataReceived(b"two")
    assert (told, len(steps), deadlines.peer_spoke) == ([b"one", b"two"], 0, True)
    handshake.end()
    handshake.end()
    layer.dataReceived(b"three")
    assert (told[-2:], vars(layer)) == ([b"two", b"three"], {})


def test_limits_count_a_handshake_that_was_begun_and_left(serve: Callable[..., Served]) -> None:
    """An abandoned handshake counts for `max_connections` until its timeout is over."""
    clock = TurnClock()
    served = serve(clock, limits=Limits(max_connections=2), timeouts=Timeouts(tls_handshake=10))
    for _ in range(2):
        served.client().shake()
    served.client()
    assert served.server.refused == 1
    for _ in range(TURNS):
        clock.give_turn()
    clock.advance(10)
    assert (served.of(NeverOpened), len(served.server.admission)) == (2, 0)
