"""`BufferedTransport`: Twisted's own TCP transport over a memory socket, with a clock for its turns."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport, ITLSTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import AccumulatingProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tcpapp.testing.buffered import BufferedTransport
from tcpapp.testing.pipe import Pipe
from tcpapp.testing.pipe_socket import PipeSocket
from tcpapp.testing.wire import Wire
from tests.testing.protocols import HalfCloseable

HOST, PEER = IPv4Address("TCP", "10.0.0.1", 80), IPv4Address("TCP", "10.0.0.2", 5000)


class End:
    """A transport, its protocol, and the socket of its peer."""

    def __init__(self, protocol: Protocol | None = None, *, client: bool = False, **options: object) -> None:
        self.clock = Clock()
        there, back = Pipe(self.clock, **options), Pipe(self.clock, **options)
        self.peer = PipeSocket(there, back)
        self.protocol = AccumulatingProtocol() if protocol is None else protocol
        self.transport = BufferedTransport(
            PipeSocket(back, there), self.protocol, self.clock, host=HOST, peer=PEER, client=client
        )
        self.transport.open()

    def turn(self) -> None:
        self.clock.advance(0)


class Failing(AccumulatingProtocol):
    """A protocol that raises in every call of `dataReceived`."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        raise ZeroDivisionError(data)


class FailingLast(AccumulatingProtocol):
    """A protocol that raises in `connectionLost`."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        raise ZeroDivisionError("lost")


@pytest.mark.parametrize("interface", [ITCPTransport, ITLSTransport, IConsumer, IPushProducer])
def test_the_transport_provides_the_interfaces(interface: object) -> None:
    """A `BufferedTransport` provides the interfaces of Twisted's TCP transport."""
    assert verifyObject(interface, End().transport)


def test_nothing_is_sent_inside_write() -> None:
    """Written bytes are sent in the next turn, as on a reactor, and not inside `write`."""
    end = End()
    end.transport.write(b"one ")
    end.transport.writeSequence([b"two ", b"three"])
    assert not end.peer.readable
    end.turn()
    assert end.peer.recv(100) == b"one two three"


@pytest.mark.parametrize("call", [lambda t: t.write("text"), lambda t: t.writeSequence(["text"])], ids=["one", "many"])
def test_text_cannot_be_written(call: object) -> None:
    """`write` and `writeSequence` refuse text with `TypeError`."""
    with pytest.raises(TypeError):
        call(End().transport)


def test_bytes_are_delivered_only_while_the_transport_reads() -> None:
    """
    A paused transport leaves received bytes where they are. After `resumeProducing` it delivers them in the next turn.
    """
    end = End()
    assert end.transport.wants_to_read
    end.transport.pauseProducing()
    end.peer.send(b"hello")
    end.turn()
    assert end.protocol.data == b""
    end.transport.resumeProducing()
    assert end.protocol.data == b""
    end.turn()
    assert end.protocol.data == b"hello"


def test_reading_and_writing_share_a_turn() -> None:
    """In one turn the transport reads and writes, and then no timer is left."""
    end = End()
    end.peer.send(b"in")
    end.transport.write(b"out")
    assert end.transport.wants_to_write
    end.turn()
    assert (end.protocol.data, end.peer.recv(9)) == (b"in", b"out")
    assert not end.transport.wants_to_write
    assert end.clock.getDelayedCalls() == []


def test_a_transport_waits_for_a_full_line() -> None:
    """When the line is full, the transport sends the rest once the peer has read."""
    end = End(capacity=3)
    end.transport.write(b"hello")
    end.turn()
    assert end.clock.getDelayedCalls() == []
    assert end.peer.recv(9) == b"hel"
    end.turn()
    assert end.peer.recv(9) == b"lo"


def test_lose_connection_sends_bytes_written_before_and_after_it() -> None:
    """`loseConnection` sends all bytes written in its turn, and calls `connectionLost` in the next turn."""
    end = End()
    end.transport.write(b"be")
    end.transport.loseConnection()
    end.transport.write(b"fore")
    assert not end.protocol.closed
    end.turn()
    assert end.peer.recv(9) == b"before"
    assert end.peer.recv(9) == b""
    assert end.protocol.closedReason.check(ConnectionDone)
    assert end.transport.disconnected


def test_abort_comes_later_and_with_a_reset() -> None:
    """`abortConnection` ends the connection in the next turn, and the peer gets a reset."""
    end = End()
    end.transport.write(b"never sent")
    end.transport.abortConnection()
    assert not end.protocol.closed
    end.turn()
    assert end.protocol.closedReason.check(ConnectionAborted)
    with pytest.raises(ConnectionResetError):
        end.peer.recv(9)


def test_the_peers_reset_is_a_lost_connection() -> None:
    """When the peer resets, `connectionLost` gets `ConnectionLost`."""
    end = End()
    end.peer.outgoing.reset()
    end.turn()
    assert end.protocol.closedReason.check(ConnectionLost)


def test_a_reset_is_noticed_by_a_paused_transport_that_writes() -> None:
    """A paused transport notices a reset when it writes; while it neither reads nor writes, it notices nothing."""
    end = End()
    end.transport.pauseProducing()
    end.peer.outgoing.reset()
    end.turn()
    assert not end.protocol.closed
    end.transport.write(b"x")
    end.turn()
    assert end.protocol.closedReason.check(ConnectionLost)


def test_the_peers_end_closes_a_protocol_without_half_close() -> None:
    """When the peer half-closes, a protocol without half-close is lost with `ConnectionDone`."""
    end = End()
    end.peer.shut_down()
    end.turn()
    assert end.protocol.closedReason.check(ConnectionDone)


def test_a_half_close_by_the_peer_is_reported() -> None:
    """When the peer half-closes, `readConnectionLost` is called, and the protocol can still answer."""
    end = End(HalfCloseable())
    end.peer.shut_down()
    end.turn()
    end.transport.write(b"answer")
    end.turn()
    assert end.protocol.ended == ["read"]
    assert end.peer.recv(9) == b"answer"


def test_a_half_close_by_this_side_is_reported() -> None:
    """
    `loseWriteConnection` sends the written bytes and calls `writeConnectionLost`. Later writes are dropped; bytes still
    come in.
    """
    end = End(HalfCloseable())
    end.transport.write(b"question")
    end.transport.loseWriteConnection()
    end.turn()
    end.transport.write(b"dropped")
    end.peer.send(b"answer")
    end.turn()
    assert end.protocol.ended == ["write"]
    assert end.peer.recv(100) == b"question"
    assert end.peer.recv(100) == b""
    assert end.protocol.data == b"answer"


def test_an_exception_of_the_protocol_ends_the_connection(logged_errors: object) -> None:
    """An exception in `dataReceived` is logged, and is the reason that `connectionLost` gets."""
    end = End(Failing())
    end.peer.send(b"x")
    end.turn()
    assert end.protocol.closedReason.check(ZeroDivisionError)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_an_exception_of_connection_lost_is_logged(logged_errors: object) -> None:
    """An exception in `connectionLost` is logged once."""
    end = End(FailingLast())
    end.peer.shut_down()
    end.turn()
    assert end.protocol.closed
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_a_lost_connection_has_no_turn_left() -> None:
    """After `connectionLost` the clock has no timer, and a second `connectionLost` does nothing."""
    end = End()
    end.transport.write(b"x")
    end.transport.connectionLost(Failure(ConnectionLost()))
    end.transport.connectionLost(Failure(ConnectionDone()))
    assert end.clock.getDelayedCalls() == []
    assert end.protocol.closedReason.check(ConnectionLost)


def test_a_transport_has_addresses_options_and_a_name() -> None:
    """The transport gives its addresses, keeps socket options, and names its protocol and peer in the log."""
    end = End()
    transport = end.transport
    assert (transport.getHost(), transport.getPeer()) == (HOST, PEER)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (False, False)
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, True)
    assert repr(transport) == f"<BufferedTransport {HOST} to {PEER}>"
    assert transport.logPrefix() == f"AccumulatingProtocol,{PEER}"
    assert End(client=True).transport.logPrefix() == "AccumulatingProtocol,client"


# Timers and turns ----------------------------------------------------------------------------------------------------


class Gatherer(Protocol):
    """A protocol that gathers its writes for a timer of 0 seconds, and closes at once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def say(self) -> None:
        self.clock.callLater(0, self.transport.write, b"gathered")
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.say()


class Hearer(Protocol):
    """A protocol that keeps all bytes it receives."""

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


@pytest.mark.parametrize(("inside", "heard"), [(False, b""), (True, b"gathered")], ids=["in a timer", "in a turn"])
def test_a_turn_runs_before_timers_set_in_a_timer_and_after_timers_set_in_a_turn(inside, heard):
    """
    A timer of 0 seconds that is set in a turn runs before the next turn; one that is set in a timer runs after it.

    A reactor runs its timers and then polls its sockets, too. So a transport that gathers writes can lose them.
    """
    clock = Clock()
    gatherer, hearer = Gatherer(clock), Hearer()
    wire = Wire(gatherer, hearer, clock=clock)
    wire.flush()
    if inside:
        hearer.transport.write(b"?")
    else:
        clock.callLater(0, gatherer.say)
    wire.flush()
    assert hearer.heard == heard


@pytest_twisted.inlineCallbacks
def test_turns_and_timers_have_the_same_order_on_a_reactor(global_reactor):
    """
    A reactor runs timers and sockets in the same order as the clock. asyncio polls its sockets first, and loses both
    writes.
    """
    asyncios = type(global_reactor).__name__ == "AsyncioSelectorReactor"
    for inside, heard in ((False, b""), (True, b"" if asyncios else b"gathered")):
        gatherer, hearer = Gatherer(global_reactor), Hearer()
        hearer.ended = Deferred()
        hearer.connectionLost = lambda _, ended=hearer.ended: ended.callback(None)
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _, gatherer=gatherer: gatherer
        port = yield TCP4ServerEndpoint(global_reactor, 0, interface="127.0.0.1").listen(factory)
        gatherer.made = Deferred()
        gatherer.connectionMade = lambda made=gatherer.made: made.callback(None)
        endpoint = TCP4ClientEndpoint(global_reactor, "127.0.0.1", port.getHost().port)
        yield connectProtocol(endpoint, hearer)
        yield gatherer.made
        if inside:
            hearer.transport.write(b"?")
        else:
            global_reactor.callLater(0, gatherer.say)
        yield hearer.ended
        yield port.stopListening()
        assert hearer.heard == heard
