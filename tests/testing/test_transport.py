"""`FakeTransport`: a `StringTransport` in use, a TCP connection in what it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol, StringTransport
from twisted.protocols.basic import FileSender, LineReceiver
from zope.interface.verify import verifyObject

from tcpapp.testing.transport import FakeTransport, NeverRests
from tcpapp.testing.wire import Wire
from tests.patience import PATIENCE
from tests.testing.protocols import HalfCloseable

if TYPE_CHECKING:
    from tcpapp.testing.leaks import Leaks

HIGH = FakeTransport.bufferSize


class Producer:
    """Notes what it is told; asked for more, it writes the next of its pieces."""

    def __init__(self, transport: FakeTransport, *pieces: bytes) -> None:
        self.transport = transport
        self.pieces = list(pieces)
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.pieces:
            self.transport.write(self.pieces.pop(0))

    def stopProducing(self) -> None:
        self.told.append("stop")


class Echo(LineReceiver):
    """An ordinary protocol, tested as with a `StringTransport`."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


def connected(**options: object) -> tuple[AccumulatingProtocol, FakeTransport]:
    """Return a protocol and its transport."""
    protocol = AccumulatingProtocol()
    return protocol, FakeTransport(protocol=protocol, **options)


# As a StringTransport ------------------------------------------------------------------------------------------------


def test_a_test_of_a_string_transport_moves_over() -> None:
    """The same lines, and another import."""
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


def test_addresses_are_those_of_a_string_transport() -> None:
    """Unless others are given, or set later."""
    here, there = IPv4Address("TCP", "1.2.3.4", 5), IPv4Address("TCP", "6.7.8.9", 10)
    assert FakeTransport().getHost() == StringTransport().getHost()
    assert FakeTransport().getPeer() == StringTransport().getPeer()
    given = FakeTransport(here, there)
    assert (given.getHost(), given.getPeer()) == (here, there)
    given.peerAddr = here
    assert given.getPeer() == here


def test_producer_state_follows_reading() -> None:
    """It is what a `StringTransport` says."""
    transport = FakeTransport()
    states = [transport.producerState]
    for call in (transport.pauseProducing, transport.resumeProducing, transport.stopProducing):
        call()
        states.append(transport.producerState)
    assert states == ["producing", "paused", "producing", "stopped"]
    assert transport.disconnecting


@pytest.mark.parametrize("interface", [ITCPTransport, ITLSTransport, IConsumer, IPushProducer])
def test_it_provides_the_interfaces(interface: object) -> None:
    assert verifyObject(interface, FakeTransport())


def test_options_of_the_socket_are_kept() -> None:
    transport = FakeTransport()
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert transport.getTcpNoDelay()
    assert transport.getTcpKeepAlive()


def test_streaming_is_told_of_the_producer() -> None:
    """None without one, as in a `StringTransport`."""
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
from tcpapp.testing.transport import FakeTransport, NeverRests
twisted.test.proto_helpers.StringTransport = twisted.internet.testing.StringTransport = FakeTransport
warnings.simplefilter("ignore")
from twisted.scripts.trial import run
run()
"""


@pytest.mark.once
@pytest.mark.parametrize("module", ["twisted.words.test.test_irc", "twisted.test.test_amp", "twisted.test.test_finger"])
def test_twisteds_own_tests_move_over(module: str, tmp_path: Path) -> None:
    """They pass with a `FakeTransport` for each `StringTransport`."""
    command = [sys.executable, "-c", TRIAL, f"--temp-directory={tmp_path / 'trial'}", module]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path.cwd(), timeout=PATIENCE)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


# TLS -----------------------------------------------------------------------------------------------------------------


def test_start_tls_is_noted() -> None:
    """The context is kept, the transport is secure, the bytes stay plain."""
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
    """With the certificate that the test gives it."""
    transport = FakeTransport(tls=True)
    transport.peer_certificate = "certificate"
    assert ISSLTransport.providedBy(transport)
    assert transport.getPeerCertificate() == "certificate"
    assert transport.negotiatedProtocol is None


# A peer that does not read -------------------------------------------------------------------------------------------


def test_a_peer_that_reads_at_once_pauses_nobody() -> None:
    """All that is written is in `value()`."""
    transport = FakeTransport()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.write(b"x" * 10 * HIGH)
    assert len(transport.value()) == 10 * HIGH
    assert producer.told == []


def test_over_the_mark_a_push_producer_is_paused_until_all_is_taken() -> None:
    """At the mark it is not yet; while anything is left it is not resumed."""
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


def test_what_a_resumed_producer_writes_waits_for_the_next_take() -> None:
    transport = FakeTransport(peer_reads=False)
    transport.registerProducer(Producer(transport, b"next"), True)
    transport.write(b"x" * (HIGH + 1))
    assert len(transport.take()) == HIGH + 1
    assert transport.take() == b"next"


def test_the_peer_stalls_and_goes_on() -> None:
    """All that waited is taken at once, and what is written then."""
    transport = FakeTransport()
    transport.write(b"a")
    transport.stall()
    transport.write(b"b")
    assert transport.value() == b"a"
    transport.go_on()
    transport.write(b"c")
    assert transport.value() == b"abc"


def test_a_pull_producer_is_asked_each_time_all_is_taken() -> None:
    """At once when it registers, then in turns."""
    transport = FakeTransport(peer_reads=False)
    producer = Producer(transport, b"a", b"b", b"c")
    transport.registerProducer(producer, False)
    assert producer.told == ["resume"]
    assert transport.take() == b"a"
    assert transport.take() == b"b"
    assert producer.told == ["resume"] * 3


def test_what_a_pull_producer_writes_is_there_at_once() -> None:
    """The next question waits for a turn, and so does the end."""
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
    """Twisted's `FileSender` sends a file."""
    path = tmp_path / "file"
    path.write_bytes(b"z" * 3 * FileSender.CHUNK_SIZE)
    transport = FakeTransport()
    with path.open("rb") as file:
        sent = FileSender().beginFileTransfer(file, transport)
        transport.turn()
    assert len(transport.value()) == 3 * FileSender.CHUNK_SIZE
    assert sent.called


class Endless:
    """A pull producer that has no end."""

    def __init__(self, transport: FakeTransport) -> None:
        self.transport = transport

    def resumeProducing(self) -> None:
        self.transport.write(b"x")


def test_a_pull_producer_without_an_end_is_told_apart_from_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the turns it takes at one moment, however often there is a moment more."""
    monkeypatch.setattr("tcpapp.testing.transport.MOST_TURNS", 50)
    transport = FakeTransport()
    transport.registerProducer(Endless(transport), False)
    with pytest.raises(NeverRests, match=r"after 50 turns <.*Endless object .*> still has something to send"):
        transport.turn()
    assert transport.value() == b"x" * 51  # one when it registered
    assert transport.reactor.getDelayedCalls() == []
    transport.go_on()
    with pytest.raises(NeverRests):
        transport.turn()
    for _ in range(60):
        transport.unregisterProducer()
        transport.registerProducer(Producer(transport, b"a", b"b"), False)
        transport.reactor.advance(1)
    assert transport.value().endswith(b"ab")


def test_a_pull_producer_without_an_end_is_asked_for_as_much_as_is_taken() -> None:
    transport = FakeTransport(peer_reads=False)
    transport.registerProducer(Endless(transport), False)
    assert [transport.take() for _ in range(3)] == [b"x"] * 3
    transport.turn()
    assert transport.unsent == 1


# Closing -------------------------------------------------------------------------------------------------------------


def test_lose_connection_ends_in_the_next_turn() -> None:
    """Not inside the call; what is written in between is still sent."""
    protocol, transport = connected()
    transport.write(b"a")
    transport.loseConnection()
    transport.write(b"b")
    transport.loseConnection()
    assert transport.value() == b"ab"
    assert not protocol.closed
    transport.turn()
    assert protocol.closedReason.check(ConnectionDone)
    assert transport.finished
    assert not transport.was_abrupt
    transport.write(b"dropped")
    assert transport.value() == b"ab"
    assert not transport.connected


def test_lose_connection_waits_for_a_peer_that_does_not_read() -> None:
    protocol, transport = connected(peer_reads=False)
    transport.write(b"a")
    transport.loseConnection()
    transport.turn()
    assert not protocol.closed
    assert transport.take() == b"a"
    assert not protocol.closed
    transport.turn()
    assert protocol.closed


def test_lose_connection_waits_for_a_paused_producer() -> None:
    """When it is resumed it writes the rest; then it unregisters."""
    protocol, transport = connected(peer_reads=False)
    transport.registerProducer(Producer(transport, b"last"), True)
    transport.write(b"x" * (HIGH + 1))
    transport.loseConnection()
    transport.take()
    transport.turn()
    assert not protocol.closed
    transport.unregisterProducer()
    assert transport.take() == b"last"
    transport.turn()
    assert protocol.closed


def test_lose_connection_does_not_wait_for_a_push_producer_that_is_not_paused() -> None:
    """Twisted's docs say that it does; its sockets say that it does not."""
    protocol, transport = connected()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.loseConnection()
    transport.turn()
    assert protocol.closed
    assert producer.told == ["stop"]


def test_a_producer_resumed_by_a_peer_that_goes_on_writes_into_the_open() -> None:
    transport = FakeTransport(peer_reads=False)
    producer = Producer(transport, b"next")
    transport.registerProducer(producer, True)
    transport.write(b"x" * (HIGH + 1))
    transport.go_on()
    assert transport.value() == b"x" * (HIGH + 1) + b"next"


def test_a_given_clock_turns_it() -> None:
    """It is the transport's reactor."""
    clock = Clock()
    protocol, transport = connected(clock=clock)
    assert transport.reactor is clock
    transport.loseConnection()
    clock.advance(0)
    assert protocol.closed


@pytest.mark.parametrize("peer_reads", [True, False])
def test_what_is_written_after_an_abort_is_dropped(peer_reads: bool) -> None:
    """It waits for nothing: the connection is lost in the next turn, as always."""
    protocol, transport = connected(peer_reads=peer_reads)
    transport.write(b"before")
    transport.abortConnection()
    transport.write(b"after")
    assert transport.take() == b""
    transport.go_on()
    transport.turn()
    assert (transport.value(), transport.dropped) == (b"", b"before")
    assert protocol.closedReason.check(ConnectionAborted)


LATER: dict[str, Callable[[FakeTransport], object]] = {
    "a turn": lambda transport: transport.turn(),
    "time": lambda transport: transport.reactor.advance(1),
    "bytes of the peer's": lambda transport: transport.receive(b"x"),
    "a stall": lambda transport: transport.stall(),
    "what the peer takes": lambda transport: transport.take(),
    "all that the peer takes": lambda transport: transport.go_on(),
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_an_abort_drops_what_was_written_since_the_last_turn(later: Callable[[FakeTransport], object]) -> None:
    """As over a socket, where it waits for the next turn; what was written before has left."""
    _, transport = connected()
    transport.write(b"has left")
    later(transport)
    transport.write(b"is ")
    transport.writeSequence([b"lost", b"."])
    transport.abortConnection()
    assert (transport.value(), transport.dropped) == (b"has left", b"is lost.")
    transport.abortConnection()
    transport.turn()
    assert (transport.value(), transport.dropped) == (b"has left", b"is lost.")


def test_what_a_peer_has_not_taken_is_dropped_in_its_order() -> None:
    """What it has taken is not."""
    _, transport = connected(peer_reads=False)
    transport.write(b"abc")
    transport.write(b"def")
    assert transport.take(2) == b"ab"
    transport.write(b"ghi")
    transport.abortConnection()
    assert (transport.value(), transport.dropped) == (b"ab", b"cdefghi")


def test_what_was_cleared_is_not_dropped() -> None:
    _, transport = connected()
    transport.write(b"seen")
    transport.clear()
    transport.write(b"lost")
    transport.abortConnection()
    assert (transport.value(), transport.dropped) == (b"", b"lost")


class Aborts(LineReceiver):
    """Answers, and then cuts the connection, or fails."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())
        if line == b"abort":
            self.transport.abortConnection()
        elif line == b"fail":
            raise ZeroDivisionError


@pytest.mark.parametrize("last", [b"abort", b"fail"])
def test_a_protocol_that_cuts_the_connection_takes_its_last_answer_with_it(last: bytes, logged_errors: Leaks) -> None:
    """Whether it aborts or raises: what it wrote in that turn never leaves."""
    transport = FakeTransport(protocol=Aborts())
    transport.receive(b"hello\r\n")
    transport.receive(last + b"\r\n")
    transport.turn()
    assert (transport.value(), transport.dropped) == (b"HELLO\r\n", last.upper() + b"\r\n")
    logged_errors.take(ZeroDivisionError)


def test_what_comes_in_two_pieces_takes_two_turns() -> None:
    """What is written at the first piece has left before the second one comes."""

    class CutsAtTheSecond(AccumulatingProtocol):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.write(b"%d " % len(self.data))
            if len(self.data) > HIGH:
                self.transport.abortConnection()

    protocol = CutsAtTheSecond()
    transport = FakeTransport(protocol=protocol)
    transport.receive(b"x" * (HIGH + 1))
    assert (transport.value(), transport.dropped) == (b"%d " % HIGH, b"%d " % (HIGH + 1))


def test_what_the_wire_delivers_before_an_abort_is_what_the_fake_says() -> None:
    """`FakeTransport` and two ends of a `Wire`, to which the same happens."""
    line = Wire(Aborts(), AccumulatingProtocol())
    transport = FakeTransport(protocol=Aborts())
    for data in (b"hello\r\n", b"one\r\nabort\r\n"):
        line.client.transport.write(data)
        line.flush()
        transport.receive(data)
        transport.turn()
    assert line.client.data == transport.value() == b"HELLO\r\n"
    assert transport.dropped == b"ONE\r\nABORT\r\n"


def test_a_connection_that_is_closed_drops_nothing() -> None:
    protocol, transport = connected()
    transport.write(b"hello")
    transport.loseConnection()
    transport.turn()
    assert protocol.closed
    assert (transport.value(), transport.dropped) == (b"hello", b"")


def test_abort_is_noted_and_ends_in_the_next_turn() -> None:
    """What is unsent is lost, and the peer is reset."""
    protocol, transport = connected(peer_reads=False)
    transport.write(b"lost")
    transport.abortConnection()
    assert (transport.aborted, transport.disconnecting, transport.disconnected) == (True, True, True)
    assert not protocol.closed
    transport.turn()
    assert protocol.closedReason.check(ConnectionAborted)
    assert transport.was_abrupt
    assert (transport.value(), transport.dropped) == (b"", b"lost")


@pytest.mark.parametrize(("reason", "expected"), [(None, ConnectionDone), (ConnectionLost(), ConnectionLost)])
def test_the_test_loses_the_connection(reason: BaseException | None, expected: type) -> None:
    """At once, and once; a producer is stopped, and one that comes later."""
    protocol, transport = connected()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.lose(reason)
    transport.lose()
    assert protocol.closedReason.check(expected)
    transport.registerProducer(producer, True)
    assert producer.told == ["stop", "stop"]


def test_without_a_protocol_nobody_is_told() -> None:
    transport = FakeTransport()
    transport.loseConnection()
    transport.turn()
    assert transport.finished


def test_a_protocol_may_be_connected_later() -> None:
    protocol, transport = AccumulatingProtocol(), FakeTransport()
    transport.connect(protocol)
    assert protocol.made
    transport.lose()
    assert protocol.closed


# What the peer sends -------------------------------------------------------------------------------------------------


def test_what_the_peer_sends_is_delivered_at_once() -> None:
    protocol, transport = connected()
    transport.receive(b"hello")
    assert protocol.data == b"hello"


def test_paused_it_waits_for_a_turn_after_resuming() -> None:
    """Nothing is delivered inside `resumeProducing`."""
    protocol, transport = connected()
    transport.pauseProducing()
    transport.receive(b"hello")
    transport.resumeProducing()
    assert protocol.data == b""
    transport.turn()
    assert protocol.data == b"hello"


def test_what_comes_after_lose_connection_is_not_delivered() -> None:
    protocol, transport = connected()
    transport.loseConnection()
    transport.resumeProducing()
    transport.receive(b"hello")
    transport.turn()
    assert protocol.data == b""


def test_half_close_by_the_peer() -> None:
    """The protocol is told after the last bytes, and can answer."""
    protocol = HalfCloseable()
    transport = FakeTransport(protocol=protocol)
    transport.receive(b"question")
    transport.half_close()
    transport.write(b"answer")
    assert protocol.ended == ["read"]
    assert transport.value() == b"answer"
    assert not protocol.closed


def test_half_close_by_the_peer_ends_a_protocol_that_does_not_know_it() -> None:
    protocol, transport = connected()
    transport.half_close()
    assert protocol.closedReason.check(ConnectionDone)


def test_half_close_by_us() -> None:
    """The protocol is told in the next turn; what is written then is dropped, what comes is delivered."""
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


def test_the_peers_reset() -> None:
    protocol, transport = connected()
    transport.reset()
    assert protocol.closedReason.check(ConnectionLost)


@pytest.mark.parametrize("peer_reads", [True, False])
def test_a_reset_is_noticed_while_paused_by_who_writes(peer_reads: bool) -> None:
    """Not before, and not inside `write`."""
    protocol, transport = connected(peer_reads=peer_reads)
    transport.pauseProducing()
    transport.reset()
    transport.turn()
    assert not protocol.closed
    transport.write(b"x")
    assert not protocol.closed
    transport.turn()
    assert protocol.closedReason.check(ConnectionLost)


def test_what_the_protocol_raises_ends_the_connection(logged_errors: object) -> None:
    class Failing(AccumulatingProtocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    protocol = Failing()
    FakeTransport(protocol=protocol).receive(b"x")
    assert protocol.closedReason.check(ZeroDivisionError)
    assert logged_errors.take(ZeroDivisionError)
