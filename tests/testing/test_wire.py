"""Two protocols on a `Wire`: which bytes arrive, when, in which pieces, and how the connection ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from service_identity import VerificationError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol
from twisted.protocols.amp import AMP
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from tcpapp.testing.pipe import each_byte, seeded_cuts
from tcpapp.testing.wire import NeverSettles, Wire
from tests.patience import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")


class Pieces(AccumulatingProtocol):
    """A protocol that notes each piece it receives."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.pieces.append(data)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Pieces):
    """A protocol that notes which of its directions have ended."""

    def readConnectionLost(self) -> None:
        self.ended.append("read")

    def writeConnectionLost(self) -> None:
        self.ended.append("write")


class Shout(LineReceiver):
    """A protocol that answers each line in capitals."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


class Endless(Protocol):
    """A protocol that sends back all it receives."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Paused:
    """A producer that notes which of its methods are called."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


def wire(**options: Any) -> Wire:
    """Return a wire between two protocols that note what they receive."""
    return Wire(Pieces(), Pieces(), **options)


@pytest.fixture(scope="module")
def contexts() -> tuple[CertificateOptions, Any]:
    """Give the TLS contexts of a server, and of a client that trusts the server."""
    authority = trustme.CA()
    issued = authority.issue_cert("server.example")
    private = PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())
    return private.options(), optionsForClientTLS("server.example", Certificate.loadPEM(authority.cert_pem.bytes()))


def test_two_protocols_talk() -> None:
    """Both protocols are connected when the wire is made, and no byte moves before `flush`."""
    line = Wire(Shout(), Pieces())
    assert line.client.made
    line.client.transport.write(b"hello\r\n")
    assert line.client.data == b""
    line.flush()
    assert line.client.data == b"HELLO\r\n"


def test_protocols_of_twisted_talk() -> None:
    """Two of Twisted's AMP protocols, unchanged, talk over a wire."""
    line = Wire(AMP(), AMP())
    answers: list[Any] = []
    line.client.callRemoteString(b"_unknown").addErrback(lambda failure: answers.append(failure.value))
    line.flush()
    assert "_unknown" in repr(answers)


def test_each_end_has_the_address_of_the_other() -> None:
    """The peer's address at each end of a wire is the host's address at the other end."""
    line = wire()
    assert line.client.transport.getPeer() == line.server.transport.getHost()
    assert line.server.transport.getPeer() == line.client.transport.getHost()


def test_both_directions_are_cut() -> None:
    """A function of `cuts` is called once for each direction, so both directions are cut alike, and share no state."""
    line = wire(cuts=each_byte)
    line.client.transport.write(b"abc")
    line.server.transport.write(b"xyz")
    line.flush()
    assert line.server.pieces == [b"a", b"b", b"c"]
    assert line.client.pieces == [b"x", b"y", b"z"]


def test_cuts_can_be_changed_and_removed() -> None:
    """`cut_into` changes how later bytes are cut, and None removes the cuts."""
    line = wire(cuts=[1, 2])
    line.client.transport.write(b"abcdef")
    line.flush()
    line.to_server.cut_into([1])
    line.client.transport.write(b"ghi")
    line.flush()
    line.to_server.cut_into(None)
    line.client.transport.write(b"jkl")
    line.flush()
    assert line.server.pieces == [b"a", b"bc", b"def", b"g", b"hi", b"jkl"]


@given(seed=st.integers(0, 1000))
def test_seeded_cuts_repeat(seed: int) -> None:
    """The same seed cuts the stream into the same pieces, and the lines are the same with every seed."""
    runs = []
    for _ in range(2):
        line = Wire(Shout(), Pieces(), cuts=partial(seeded_cuts, seed))
        line.client.transport.write(b"one\r\ntwo\r\nthree\r\n")
        line.flush()
        runs.append(line.client.pieces)
    assert runs[0] == runs[1]
    assert b"".join(runs[0]) == b"ONE\r\nTWO\r\nTHREE\r\n"


def test_latency_is_in_the_clocks_seconds() -> None:
    """With a latency of 1 second, a reply takes 2 seconds of the clock."""
    line = Wire(Shout(), Pieces(), latency=1.0)
    line.client.transport.write(b"a\r\n")
    line.advance(1.5)
    assert line.client.data == b""
    line.advance(0.5)
    assert line.client.data == b"A\r\n"
    assert line.clock.seconds() == 2.0


def test_flush_advances_as_far_as_the_line_needs() -> None:
    """`flush` advances the clock until all bytes have arrived, and does not run later timers."""
    late: list[int] = []
    line = Wire(Shout(), Pieces(), latency=1.0, bandwidth=3.0)
    line.clock.callLater(60, late.append, 1)
    line.client.transport.write(b"a\r\n")
    line.flush()
    assert line.client.data == b"A\r\n"
    assert line.clock.seconds() == 4.0
    assert late == []


def test_flush_fails_when_two_protocols_never_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """When two protocols send without end, `flush` raises `NeverSettles`, and `close` leaves no timer."""
    monkeypatch.setattr("tcpapp.testing.wire.MOST_TURNS", 50)
    line = Wire(Endless(), Endless())
    line.client.transport.write(b"x")
    with pytest.raises(NeverSettles, match="after 50 turns"):
        line.flush()
    line.close()
    assert line.clock.getDelayedCalls() == []


def test_a_wire_can_use_a_given_clock() -> None:
    """With a given clock, advancing that clock moves the bytes."""
    clock = Clock()
    line = wire(clock=clock)
    line.client.transport.write(b"x")
    clock.advance(0)
    assert line.server.data == b"x"


def test_a_slow_reader_pauses_the_writer() -> None:
    """
    The writer's producer is paused when the line and the transport's buffer are full, and is resumed when the peer
    reads.
    """
    line = wire(capacity=1000)
    producer = Paused()
    line.client.transport.registerProducer(producer, True)
    line.server.transport.pauseProducing()
    line.client.transport.write(b"x" * 70_000)
    line.flush()
    assert producer.told == ["pause"]
    assert line.to_server.held == 1000
    line.server.transport.resumeProducing()
    line.flush()
    assert producer.told == ["pause", "resume"]
    assert len(line.server.data) == 70_000


def test_a_stalled_wire_delivers_when_it_goes_on() -> None:
    """A stalled wire delivers nothing until `go_on`, and then all bytes."""
    line = wire()
    line.stall()
    line.client.transport.write(b"x")
    line.advance(60)
    assert line.server.data == b""
    line.go_on()
    line.flush()
    assert line.server.data == b"x"


def test_a_stalled_line_with_latency_is_at_rest() -> None:
    """`flush` does not wait for bytes on a stalled line, since they cannot arrive."""
    line = wire(latency=1.0)
    line.client.transport.write(b"x")
    line.clock.advance(0)
    line.stall()
    line.flush()
    assert line.server.data == b""


def test_a_peer_does_not_learn_of_a_cut_wire() -> None:
    """After `cut` neither bytes nor an abort of one end reach the other end."""
    line = wire()
    line.cut()
    line.client.transport.write(b"x")
    line.client.transport.abortConnection()
    line.advance(3600)
    assert line.client.closed
    assert line.server.data == b""
    assert not line.server.closed


def test_a_reset_of_the_line_ends_both_connections() -> None:
    """`reset()` ends both connections with `ConnectionLost`, after the bytes already sent."""
    line = wire()
    line.client.transport.write(b"x")
    line.flush()
    line.reset()
    line.flush()
    assert line.server.data == b"x"
    assert line.server.closedReason.check(ConnectionLost)
    assert line.client.closedReason.check(ConnectionLost)


@pytest.mark.parametrize("who", ["client", "server"])
def test_after_a_half_close_the_other_end_can_answer(who: str) -> None:
    """After one end half-closes, the other end can still answer."""
    line = Wire(HalfCloseable(), HalfCloseable())
    asks, answers = (line.client, line.server) if who == "client" else (line.server, line.client)
    asks.transport.write(b"question")
    line.half_close(who)
    line.flush()
    answers.transport.write(b"answer")
    line.flush()
    assert answers.ended == ["read"]
    assert asks.ended == ["write"]
    assert asks.data == b"answer"


def test_an_end_that_closes_without_reading_resets_the_other() -> None:
    """
    An end that closes while it is paused ends both connections, although bytes to it were unread, as with sockets.
    """
    line = wire(latency=1.0)
    line.server.transport.pauseProducing()
    line.client.transport.write(b"unread")
    line.flush()
    line.server.transport.loseConnection()
    line.flush()
    assert line.server.closedReason.check(ConnectionDone)
    assert line.client.closedReason.check(ConnectionDone, ConnectionLost)


# TLS -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [None, each_byte], ids=["whole", "each byte"])
def test_tls_with_real_certificates(contexts: Any, cuts: Any) -> None:
    """Over TLS, the client gets its answer and the server's certificate, also when each byte arrives by itself."""
    line = Wire(Shout(), Pieces(), tls=contexts, cuts=cuts)
    line.flush()
    line.client.transport.write(b"hello\r\n")
    line.flush()
    assert line.client.data == b"HELLO\r\n"
    assert ISSLTransport.providedBy(line.client.transport)
    assert line.client.transport.getPeerCertificate() is not None
    line.client.transport.loseConnection()
    line.flush()
    assert line.client.closedReason.check(ConnectionDone)


def test_tls_that_is_not_trusted_fails(contexts: Any) -> None:
    """When the client does not trust the server's certificate, its connection ends with the verification error."""
    line = wire(tls=(contexts[0], optionsForClientTLS("other.example")))
    line.flush()
    assert line.client.closedReason.check(VerificationError)


@pytest.mark.parametrize("streaming", [True, None], ids=["a producer", "no producer"])
def test_start_tls_in_the_middle_of_the_stream(contexts: Any, streaming: Any) -> None:
    """Both ends can change to TLS in the middle of the stream, also while a producer is registered."""
    line = wire()
    producer = Paused()
    line.client.transport.write(b"plain ")
    line.flush()
    if streaming:
        line.client.transport.registerProducer(producer, streaming)
    line.server.transport.startTLS(contexts[0])
    line.client.transport.startTLS(contexts[1])
    line.flush()
    line.client.transport.write(b"secret")
    line.flush()
    assert line.server.data == b"plain secret"
    assert line.client_transport.TLS
    assert ISSLTransport.providedBy(line.client.transport)
    assert line.client.transport.getPeerCertificate() is not None
    if streaming:
        line.client.transport.unregisterProducer()
    line.client.transport.loseConnection()
    line.flush()
    assert line.server.closedReason.check(ConnectionDone)
    assert line.client.closedReason.check(ConnectionDone)


def test_no_reactor_is_needed() -> None:
    """Importing the kit's transports, and closing a connection on them, installs no reactor."""
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from tcpapp.testing.wire import Wire\nfrom tcpapp.testing.transport import FakeTransport\n"
        "from tcpapp.testing import contract\n"
        "from twisted.internet.protocol import Protocol\n"
        "FakeTransport(); w = Wire(Protocol(), Protocol()); w.client.transport.loseConnection(); w.flush()\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)


# The report of the last chunks ----------------------------------------------------------------------------------------


def test_the_report_shows_the_chunks_of_each_direction() -> None:
    """`told()` lists the chunks of each direction as they were cut, and shortens long chunks."""
    line = wire(cuts=[1, 2])
    line.client.transport.write(b"hello")
    line.server.transport.write(b"x" * 100)
    line.flush()
    assert list(line.to_server.chunks) == line.server.pieces
    assert line.told().splitlines() == [
        "to the server, Pieces: 3 chunks: b'h' b'el' b'lo'",
        f"to the client, Pieces: 3 chunks: b'x' b'xx' {b'x' * 40!r}…",
    ]


def test_the_report_shows_only_the_last_of_many_chunks() -> None:
    """The report counts all chunks and shows the last 200."""
    line = wire(cuts=each_byte)
    line.client.transport.write(b"a" * 300 + b"z")
    line.flush()
    assert (len(line.to_server.chunks), line.to_server.chunks_read) == (200, 301)
    first, last = line.told().splitlines()
    assert first.startswith("to the server, Pieces: 301 chunks: … b'a' b'a' ")
    assert first.endswith(" b'a' b'z'")
    assert last == "to the client, Pieces: 0 chunks"


def test_the_report_counts_one_chunk_in_the_singular() -> None:
    """The report says "1 chunk" in the singular."""
    line = wire()
    line.client.transport.write(b"a")
    line.flush()
    assert line.told().startswith("to the server, Pieces: 1 chunk: b'a'\n")
