"""A transport over a memory socket: Twisted's own, turned by a clock."""

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
    """Raises in every call."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        raise ZeroDivisionError(data)


class FailingLast(AccumulatingProtocol):
    """Raises at its end."""

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost(reason)
        raise ZeroDivisionError("lost")


@pytest.mark.parametrize("interface", [ITCPTransport, ITLSTransport, IConsumer, IPushProducer])
def test_it_provides_the_interfaces(interface: object) -> None:
    assert verifyObject(interface, End().transport)


def test_nothing_is_sent_inside_write() -> None:
    """Written bytes are sent in the next turn, as in a reactor."""
    end = End()
    end.transport.write(b"one ")
    end.transport.writeSequence([b"two ", b"three"])
    assert not end.peer.readable
    end.turn()
    assert end.peer.recv(100) == b"one two three"


@pytest.mark.parametrize("call", [lambda t: t.write("text"), lambda t: t.writeSequence(["text"])], ids=["one", "many"])
def test_text_is_not_bytes(call: object) -> None:
    with pytest.raises(TypeError):
        call(End().transport)


def test_what_comes_is_delivered_while_it_reads() -> None:
    """Paused, it leaves the bytes where they are."""
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
    """It reads first."""
    end = End()
    end.peer.send(b"in")
    end.transport.write(b"out")
    assert end.transport.wants_to_write
    end.turn()
    assert (end.protocol.data, end.peer.recv(9)) == (b"in", b"out")
    assert not end.transport.wants_to_write
    assert end.clock.getDelayedCalls() == []


def test_a_full_line_makes_it_wait() -> None:
    """It goes on when the peer reads."""
    end = End(capacity=3)
    end.transport.write(b"hello")
    end.turn()
    assert end.clock.getDelayedCalls() == []
    assert end.peer.recv(9) == b"hel"
    end.turn()
    assert end.peer.recv(9) == b"lo"


def test_lose_connection_sends_what_was_written_and_after() -> None:
    """`connectionLost` comes in the turn after."""
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
    end = End()
    end.transport.write(b"never sent")
    end.transport.abortConnection()
    assert not end.protocol.closed
    end.turn()
    assert end.protocol.closedReason.check(ConnectionAborted)
    with pytest.raises(ConnectionResetError):
        end.peer.recv(9)


def test_the_peers_reset_is_a_lost_connection() -> None:
    end = End()
    end.peer.outgoing.reset()
    end.turn()
    assert end.protocol.closedReason.check(ConnectionLost)


def test_a_reset_is_noticed_by_a_paused_transport_that_writes() -> None:
    """A transport that neither reads nor writes notices nothing."""
    end = End()
    end.transport.pauseProducing()
    end.peer.outgoing.reset()
    end.turn()
    assert not end.protocol.closed
    end.transport.write(b"x")
    end.turn()
    assert end.protocol.closedReason.check(ConnectionLost)


def test_the_peers_end_closes_one_that_cannot_be_half_closed() -> None:
    end = End()
    end.peer.shut_down()
    end.turn()
    assert end.protocol.closedReason.check(ConnectionDone)


def test_half_close_by_the_peer() -> None:
    """The protocol learns of it, and can still answer."""
    end = End(HalfCloseable())
    end.peer.shut_down()
    end.turn()
    end.transport.write(b"answer")
    end.turn()
    assert end.protocol.ended == ["read"]
    assert end.peer.recv(9) == b"answer"


def test_half_close_by_us() -> None:
    """Written bytes are sent, the protocol learns of it; later bytes are dropped."""
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


def test_what_the_protocol_raises_ends_the_connection(logged_errors: object) -> None:
    """It is logged, and it is the reason."""
    end = End(Failing())
    end.peer.send(b"x")
    end.turn()
    assert end.protocol.closedReason.check(ZeroDivisionError)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_what_connection_lost_raises_is_logged(logged_errors: object) -> None:
    end = End(FailingLast())
    end.peer.shut_down()
    end.turn()
    assert end.protocol.closed
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_a_lost_connection_has_no_turn_left() -> None:
    """Nothing is left on the clock, and a second loss does nothing."""
    end = End()
    end.transport.write(b"x")
    end.transport.connectionLost(Failure(ConnectionLost()))
    end.transport.connectionLost(Failure(ConnectionDone()))
    assert end.clock.getDelayedCalls() == []
    assert end.protocol.closedReason.check(ConnectionLost)


def test_addresses_options_and_names() -> None:
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
    """Gathers its writes, for as long as a timer of 0 seconds takes, and closes at once."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def say(self) -> None:
        self.clock.callLater(0, self.transport.write, b"gathered")
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.say()


class Hearer(Protocol):
    """Keeps what it hears."""

    heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data


@pytest.mark.parametrize(("inside", "heard"), [(False, b""), (True, b"gathered")], ids=["in a timer", "in a turn"])
def test_a_turn_comes_before_the_timers_that_are_set_in_a_timer_and_after_those_that_are_set_in_a_turn(inside, heard):
    """
    As on a reactor, which runs its timers and then polls its sockets: a transport that gathers writes can lose them.
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
def test_so_it_is_on_a_reactor(global_reactor):
    """The same, over a socket; asyncio's polls its sockets first, so that there they are lost both times."""
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
