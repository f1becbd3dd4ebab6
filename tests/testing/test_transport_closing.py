"""How a connection on the fake transport closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol
from twisted.protocols.basic import LineReceiver

from tcpapp.testing.transport import FakeTransport
from tcpapp.testing.wire import Wire
from tests.testing.transports import HIGH, Producer, connected

if TYPE_CHECKING:
    from tcpapp.testing.leaks import Leaks


def test_lose_connection_ends_in_the_next_turn() -> None:
    """`loseConnection` ends the connection in the next turn; bytes that are written before that are still sent."""
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
    """`loseConnection` ends the connection in the turn after the peer has taken all bytes."""
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
    """`loseConnection` waits for a paused producer, which writes the rest when it is resumed, until it unregisters."""
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
    """
    `loseConnection` stops a push producer that is not paused. Twisted's docs say that it waits; Twisted's sockets do
    not.
    """
    protocol, transport = connected()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.loseConnection()
    transport.turn()
    assert protocol.closed
    assert producer.told == ["stop"]


def test_bytes_of_a_producer_that_the_peer_resumes_are_sent_at_once() -> None:
    """When the peer reads again after `go_on`, the bytes of the resumed producer are sent at once."""
    transport = FakeTransport(peer_reads=False)
    producer = Producer(transport, b"next")
    transport.registerProducer(producer, True)
    transport.write(b"x" * (HIGH + 1))
    transport.go_on()
    assert transport.value() == b"x" * (HIGH + 1) + b"next"


def test_a_given_clock_runs_the_turns() -> None:
    """A given clock is the transport's reactor, and advancing the clock runs its turns."""
    clock = Clock()
    protocol, transport = connected(clock=clock)
    assert transport.reactor is clock
    transport.loseConnection()
    clock.advance(0)
    assert protocol.closed


@pytest.mark.parametrize("peer_reads", [True, False])
def test_bytes_written_after_an_abort_are_dropped(peer_reads: bool) -> None:
    """
    Bytes written after an abort are dropped. The connection is lost in the next turn, also when the peer does not read.
    """
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
def test_an_abort_drops_bytes_written_since_the_last_turn(later: Callable[[FakeTransport], object]) -> None:
    """An abort drops the bytes written since the last turn, as over a socket; bytes written before have left."""
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


def test_dropped_bytes_are_in_order() -> None:
    """An abort drops the bytes that the peer has not taken, in order; the bytes that it has taken are not dropped."""
    _, transport = connected(peer_reads=False)
    transport.write(b"abc")
    transport.write(b"def")
    assert transport.take(2) == b"ab"
    transport.write(b"ghi")
    transport.abortConnection()
    assert (transport.value(), transport.dropped) == (b"ab", b"cdefghi")


def test_cleared_bytes_are_not_dropped() -> None:
    """An abort drops no bytes that the test has cleared before."""
    _, transport = connected()
    transport.write(b"seen")
    transport.clear()
    transport.write(b"lost")
    transport.abortConnection()
    assert (transport.value(), transport.dropped) == (b"", b"lost")


class Aborts(LineReceiver):
    """A protocol that answers each line, and aborts or raises after some."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())
        if line == b"abort":
            self.transport.abortConnection()
        elif line == b"fail":
            raise ZeroDivisionError


@pytest.mark.parametrize("last", [b"abort", b"fail"])
def test_an_answer_before_an_abort_in_the_same_turn_is_dropped(last: bytes, logged_errors: Leaks) -> None:
    """When a protocol aborts or raises, the answer that it wrote in that turn is dropped."""
    transport = FakeTransport(protocol=Aborts())
    transport.receive(b"hello\r\n")
    transport.receive(last + b"\r\n")
    transport.turn()
    assert (transport.value(), transport.dropped) == (b"HELLO\r\n", last.upper() + b"\r\n")
    logged_errors.take(ZeroDivisionError)


def test_two_received_pieces_take_two_turns() -> None:
    """The answer to the first of two received pieces has left before the second piece is delivered."""

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


def test_a_wire_and_the_fake_drop_the_same_bytes_at_an_abort() -> None:
    """The same events on a `Wire` and on a `FakeTransport` send the same bytes before an abort."""
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
    """`loseConnection` sends the written bytes, and none is dropped."""
    protocol, transport = connected()
    transport.write(b"hello")
    transport.loseConnection()
    transport.turn()
    assert protocol.closed
    assert (transport.value(), transport.dropped) == (b"hello", b"")


def test_abort_is_noted_and_ends_in_the_next_turn() -> None:
    """An abort is noted at once. In the next turn the connection ends abruptly, and unsent bytes are dropped."""
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
    """
    `lose()` ends the connection at once, and only once. It stops the producer, and a producer that registers later.
    """
    protocol, transport = connected()
    producer = Producer(transport)
    transport.registerProducer(producer, True)
    transport.lose(reason)
    transport.lose()
    assert protocol.closedReason.check(expected)
    transport.registerProducer(producer, True)
    assert producer.told == ["stop", "stop"]


def test_a_transport_without_a_protocol_can_close() -> None:
    """`loseConnection` works on a transport that has no protocol."""
    transport = FakeTransport()
    transport.loseConnection()
    transport.turn()
    assert transport.finished


def test_a_protocol_can_be_connected_later() -> None:
    """`connect` connects a protocol to a transport that was made without one."""
    protocol, transport = AccumulatingProtocol(), FakeTransport()
    transport.connect(protocol)
    assert protocol.made
    transport.lose()
    assert protocol.closed
