"""`FakeTransport` is used like a `StringTransport`, and behaves as a TCP connection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.testing import AccumulatingProtocol, StringTransport
from twisted.protocols.basic import FileSender
from zope.interface.verify import verifyObject

from tcpapp.testing.transport import FakeTransport, NeverSettles
from tests.patience import PATIENCE
from tests.testing.protocols import HalfCloseable
from tests.testing.transports import HIGH, Echo, Producer, connected

if TYPE_CHECKING:
    pass


# As a StringTransport ------------------------------------------------------------------------------------------------


def test_a_fake_transport_replaces_a_string_transport() -> None:
    """A test of a `StringTransport` also passes with a `FakeTransport` in its place."""
    protocol, transport = Echo(), FakeTransport()
    assert isinstance(transport, StringTransport)
    protocol.makeConnection(transport)
    protocol.dataReceived(b"hello\r\n")
    assert transport.value() == b"HELLO\r\n"
    transport.clear()
    assert transport.value() == b""
    assert transport.connected
    assert not transport.disconnecting
    protocol.transport.loseConnection()
    assert transport.disconnecting


def test_the_default_addresses_are_the_same_as_of_a_string_transport() -> None:
    """A `FakeTransport` has the addresses of a `StringTransport`, unless the test gives or sets others."""
    here, there = IPv4Address("TCP", "1.2.3.4", 5), IPv4Address("TCP", "6.7.8.9", 10)
    assert FakeTransport().getHost() == StringTransport().getHost()
    assert FakeTransport().getPeer() == StringTransport().getPeer()
    given = FakeTransport(here, there)
    assert (given.getHost(), given.getPeer()) == (here, there)
    given.peerAddr = here
    assert given.getPeer() == here


def test_producer_state_follows_reading() -> None:
    """`producerState` names the same states as in a `StringTransport`."""
    transport = FakeTransport()
    states = [transport.producerState]
    for call in (transport.pauseProducing, transport.resumeProducing, transport.stopProducing):
        call()
        states.append(transport.producerState)
    assert states == ["producing", "paused", "producing", "stopped"]
    assert transport.disconnecting


@pytest.mark.parametrize("interface", [ITCPTransport, ITLSTransport, IConsumer, IPushProducer])
def test_the_transport_provides_the_interfaces(interface: object) -> None:
    """A `FakeTransport` provides the interfaces of Twisted's TCP transport."""
    assert verifyObject(interface, FakeTransport())


def test_options_of_the_socket_are_kept() -> None:
    """TCP_NODELAY and keepalive are kept as the protocol sets them."""
    transport = FakeTransport()
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert transport.getTcpNoDelay()
    assert transport.getTcpKeepAlive()


def test_streaming_shows_the_kind_of_the_producer() -> None:
    """`streaming` is None without a producer, as in a `StringTransport`. A second producer is refused."""
    transport = FakeTransport()
    assert transport.streaming is None
    transport.registerProducer(Producer(transport), True)
    assert transport.streaming is True
    with pytest.raises(RuntimeError):
        transport.registerProducer(Producer(transport), True)
    transport.unregisterProducer()
    assert transport.streaming is None


TRIAL = """
import sys, warnings
import twisted.test.proto_helpers
import twisted.internet.testing
from tcpapp.testing.transport import FakeTransport, NeverSettles
twisted.test.proto_helpers.StringTransport = twisted.internet.testing.StringTransport = FakeTransport
warnings.simplefilter("ignore")
from twisted.scripts.trial import run
run()
"""


@pytest.mark.once
@pytest.mark.parametrize("module", ["twisted.words.test.test_irc", "twisted.test.test_amp", "twisted.test.test_finger"])
def test_twisteds_own_tests_pass_on_the_fake_transport(module: str, tmp_path: Path) -> None:
    """Twisted's own tests pass with a `FakeTransport` in place of each `StringTransport`."""
    command = [sys.executable, "-c", TRIAL, f"--temp-directory={tmp_path / 'trial'}", module]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path.cwd(), timeout=PATIENCE)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


# TLS -----------------------------------------------------------------------------------------------------------------


def test_start_tls_is_noted() -> None:
    """`startTLS` keeps the context and makes the transport secure; the bytes in `value()` stay plain."""
    transport, context = FakeTransport(), object()
    assert not transport.secure
    assert not ISSLTransport.providedBy(transport)
    transport.startTLS(context)
    transport.write(b"plain")
    assert transport.secure
    assert transport.tls_context is context
    assert transport.value() == b"plain"
    assert verifyObject(ISSLTransport, transport)


def test_tls_from_the_start() -> None:
    """With `tls=True` the transport is secure from the start, and has the certificate that the test gives it."""
    transport = FakeTransport(tls=True)
    transport.peer_certificate = "certificate"
    assert ISSLTransport.providedBy(transport)
    assert transport.getPeerCertificate() == "certificate"
    assert transport.negotiatedProtocol is None


# A peer that does not read -------------------------------------------------------------------------------------------


def test_a_peer_that_reads_at_once_pauses_no_producer() -> None:
    """While the peer reads at once, `value()` has all written bytes, and no producer is paused."""
    transport = FakeTransport()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.write(b"x" * 10 * HIGH)
    assert len(transport.value()) == 10 * HIGH
    assert producer.told == []


def test_over_the_mark_a_push_producer_is_paused_until_all_is_taken() -> None:
    """
    A push producer is paused when more bytes than the mark are unsent, and is resumed when the peer has taken all.
    """
    transport = FakeTransport(peer_reads=False)
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.write(b"x" * HIGH)
    assert producer.told == []
    transport.write(b"y")
    assert producer.told == ["pause"]
    assert transport.take(HIGH) == b"x" * HIGH
    assert transport.unsent == 1
    assert producer.told == ["pause"]
    assert transport.take() == b"y"
    assert producer.told == ["pause", "resume"]


def test_bytes_of_a_resumed_producer_wait_for_the_next_take() -> None:
    """The bytes that a producer writes when `take` resumes it are given by the next `take`."""
    transport = FakeTransport(peer_reads=False)
    transport.registerProducer(Producer(transport, b"next"), True)
    transport.write(b"x" * (HIGH + 1))
    assert len(transport.take()) == HIGH + 1
    assert transport.take() == b"next"


def test_the_peer_stalls_and_goes_on() -> None:
    """After `stall()` written bytes wait. `go_on()` takes all of them, and later bytes at once."""
    transport = FakeTransport()
    transport.write(b"a")
    transport.stall()
    transport.write(b"b")
    assert transport.value() == b"a"
    transport.go_on()
    transport.write(b"c")
    assert transport.value() == b"abc"


def test_a_pull_producer_is_asked_each_time_all_is_taken() -> None:
    """A pull producer is resumed when it registers, and again each time the peer has taken all bytes."""
    transport = FakeTransport(peer_reads=False)
    producer = Producer(transport, b"a", b"b", b"c")
    transport.registerProducer(producer, False)
    assert producer.told == ["resume"]
    assert transport.take() == b"a"
    assert transport.take() == b"b"
    assert producer.told == ["resume"] * 3


def test_bytes_of_a_pull_producer_are_sent_at_once() -> None:
    """The first bytes of a pull producer are sent at once. The next `resumeProducing` and the end wait for a turn."""
    protocol, transport = connected()
    producer = Producer(transport, b"a", b"b")
    transport.registerProducer(producer, False)
    assert transport.value() == b"a"
    transport.loseConnection()
    assert producer.told == ["resume"]
    producer.pieces.clear()
    producer.resumeProducing = transport.unregisterProducer
    transport.turn()
    assert protocol.closed


def test_a_pull_producer_works_in_turns(tmp_path: object) -> None:
    """Twisted's `FileSender`, a pull producer, sends a whole file in turns."""
    path = tmp_path / "file"
    path.write_bytes(b"z" * 3 * FileSender.CHUNK_SIZE)
    transport = FakeTransport()
    with path.open("rb") as file:
        sent = FileSender().beginFileTransfer(file, transport)
        transport.turn()
    assert len(transport.value()) == 3 * FileSender.CHUNK_SIZE
    assert sent.called


class Endless:
    """A pull producer that never ends."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport

    def resumeProducing(self) -> None:
        self.transport.write(b"x")


def test_an_endless_pull_producer_is_an_error_and_a_long_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many turns at one moment raise `NeverSettles`. Turns that are spread over many moments do not."""
    monkeypatch.setattr("tcpapp.testing.transport.MOST_TURNS", 50)
    transport = FakeTransport()
    transport.registerProducer(Endless(transport), False)
    with pytest.raises(NeverSettles, match=r"after 50 turns <.*Endless object .*> still has something to send"):
        transport.turn()
    assert transport.value() == b"x" * 51  # one when it registered
    assert transport.reactor.getDelayedCalls() == []
    transport.go_on()
    with pytest.raises(NeverSettles):
        transport.turn()
    for _ in range(60):
        transport.unregisterProducer()
        transport.registerProducer(Producer(transport, b"a", b"b"), False)
        transport.reactor.advance(1)
    assert transport.value().endswith(b"ab")


def test_an_endless_pull_producer_is_resumed_once_for_each_take() -> None:
    """If the peer does not read, a pull producer is resumed once after each `take`."""
    transport = FakeTransport(peer_reads=False)
    transport.registerProducer(Endless(transport), False)
    assert [transport.take() for _ in range(3)] == [b"x"] * 3
    transport.turn()
    assert transport.unsent == 1


# Bytes from the peer --------------------------------------------------------------------------------------------------


def test_bytes_from_the_peer_are_delivered_at_once() -> None:
    """`receive` delivers the bytes to the protocol before it returns."""
    protocol, transport = connected()
    transport.receive(b"hello")
    assert protocol.data == b"hello"


def test_a_paused_transport_delivers_in_the_turn_after_resuming() -> None:
    """
    Bytes that came while the transport was paused are delivered in the next turn, and not inside `resumeProducing`.
    """
    protocol, transport = connected()
    transport.pauseProducing()
    transport.receive(b"hello")
    transport.resumeProducing()
    assert protocol.data == b""
    transport.turn()
    assert protocol.data == b"hello"


def test_bytes_after_lose_connection_are_not_delivered() -> None:
    """After `loseConnection` received bytes are not delivered, even after `resumeProducing`."""
    protocol, transport = connected()
    transport.loseConnection()
    transport.resumeProducing()
    transport.receive(b"hello")
    transport.turn()
    assert protocol.data == b""


def test_a_half_close_by_the_peer_is_reported() -> None:
    """
    When the peer half-closes, `readConnectionLost` is called after the last bytes, and the protocol can still answer.
    """
    protocol = HalfCloseable()
    transport = FakeTransport(protocol=protocol)
    transport.receive(b"question")
    transport.half_close()
    transport.write(b"answer")
    assert protocol.ended == ["read"]
    assert transport.value() == b"answer"
    assert not protocol.closed


def test_half_close_by_the_peer_ends_a_protocol_without_half_close() -> None:
    """When the peer half-closes, a protocol without half-close is lost with `ConnectionDone`."""
    protocol, transport = connected()
    transport.half_close()
    assert protocol.closedReason.check(ConnectionDone)


def test_a_half_close_by_this_side_is_reported() -> None:
    """
    `writeConnectionLost` is called in the turn after `loseWriteConnection`. Later writes are dropped; received bytes
    are delivered.
    """
    protocol = HalfCloseable()
    transport = FakeTransport(protocol=protocol)
    transport.write(b"question")
    transport.loseWriteConnection()
    assert protocol.ended == []
    transport.turn()
    transport.write(b"dropped")
    transport.receive(b"answer")
    assert protocol.ended == ["write"]
    assert transport.finished
    assert transport.value() == b"question"
    assert protocol.data == b"answer"


def test_a_reset_by_the_peer_is_a_lost_connection() -> None:
    """When the peer resets, the protocol is lost with `ConnectionLost`."""
    protocol, transport = connected()
    transport.reset()
    assert protocol.closedReason.check(ConnectionLost)


@pytest.mark.parametrize("peer_reads", [True, False])
def test_a_paused_writer_notices_a_reset(peer_reads: bool) -> None:
    """A paused transport notices a reset in the turn after its next write, and not before."""
    protocol, transport = connected(peer_reads=peer_reads)
    transport.pauseProducing()
    transport.reset()
    transport.turn()
    assert not protocol.closed
    transport.write(b"x")
    assert not protocol.closed
    transport.turn()
    assert protocol.closedReason.check(ConnectionLost)


def test_an_exception_of_the_protocol_ends_the_connection(logged_errors: object) -> None:
    """An exception in `dataReceived` is logged, and is the reason that `connectionLost` gets."""

    class Failing(AccumulatingProtocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    protocol = Failing()
    FakeTransport(protocol=protocol).receive(b"x")
    assert protocol.closedReason.check(ZeroDivisionError)
    assert logged_errors.take(ZeroDivisionError)
