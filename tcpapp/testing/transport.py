"""A transport for unit tests: the protocol has the one end, and the test, with its own hand, the other."""

from __future__ import annotations

from math import inf
from typing import Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import alsoProvides

from tcpapp.testing.buffered import BufferedTransport, NeverRests
from tcpapp.testing.transport_peer import Hand

__all__ = ["MOST_TURNS", "FakeTransport", "NeverRests"]

MOST_TURNS: Final = 10_000
"""Turns at one moment before `FakeTransport.turn` gives up: Twisted's `FileSender` sends 160 MB in them."""


class FakeTransport(BufferedTransport, StringTransport):  # type: ignore[misc] # Twisted's bases name flags as bool and int
    """
    A `StringTransport` that does what a TCP connection does. Tests of a `StringTransport` change the import.

    By default the peer reads at once: what is written is in `value()` when ``write`` returns. As over a socket, it
    leaves in a later turn only. Where the connection is cut in the same turn, by ``abortConnection`` or by an exception
    out of the protocol, it is lost: it is taken out of `value()`, which has what was delivered, and put into `dropped`.
    A later turn begins with `turn`, with each call of the peer's hand, and when time passes on `clock`.

    A peer that does not read (``peer_reads=False``, or `stall`) lets the buffer fill: producers are paused over
    ``bufferSize`` and resumed when all is taken, ``loseConnection`` waits for it; `take` and `go_on` are that peer's
    hand.

    What comes to the protocol comes when the test says so: `receive`, `half_close`, `reset`, `lose`. What a reactor
    would do in a later turn waits for `turn` (or for the `clock` given, to be advanced): the ``connectionLost`` after
    ``loseConnection`` and ``abortConnection``, the end of ``loseWriteConnection``, bytes held back by
    ``pauseProducing`` and let go by ``resumeProducing``, and the second and later questions to a pull producer.

    Give it the `protocol`, or `connect` one; without, nobody is told of the end. `clock` is its ``reactor``; a `Clock`
    of its own if none is given. With ``tls=True`` it is, from the start, as `startTLS` makes it.

    It differs from a `StringTransport`, in favour of the real one: ``resumeProducing`` after the end does nothing
    (`lenient` is taken, and has no effect), nor does ``unregisterProducer`` without a producer; a pull producer is
    asked when it registers, and in later turns; a lost connection drops what is written; text is refused.

    It differs from a socket: with a peer that reads at once no push producer is ever paused (a socket's is, over
    ``bufferSize`` bytes in one turn); ``disconnecting`` and ``disconnected`` are true from ``abortConnection`` on, as
    in a `StringTransport`; TLS is a flag, and the bytes stay plain.
    """

    reactor: Any

    def __init__(
        self,
        hostAddress: IAddress | None = None,  # noqa: N803 - StringTransport's names
        peerAddress: IAddress | None = None,  # noqa: N803 - as above
        lenient: bool = False,
        *,
        protocol: IProtocol | None = None,
        clock: IReactorTime | None = None,
        peer_reads: bool = True,
        tls: bool = False,
    ) -> None:
        StringTransport.__init__(self, hostAddress, peerAddress, lenient)
        self._peer_hand = Hand(self._keep, inf if peer_reads else 0)
        self._flushing = False
        self._turns = 0
        self._moment = 0.0
        self._fresh = 0
        self._fresh_since = 0.0
        self._ended = False
        self.dropped = b""
        self.aborted = False
        self.secure = False
        self.tls_context: Any = None
        self.peer_certificate: Any = None
        self.negotiatedProtocol: bytes | None = None
        chosen = cast("IProtocol", Protocol()) if protocol is None else protocol
        super().__init__(
            self._peer_hand,
            chosen,
            Clock() if clock is None else clock,
            host=StringTransport.getHost(self),
            peer=StringTransport.getPeer(self),
        )
        self.connected = 1
        self.startReading()
        if tls:
            self._be_secure()
        if protocol is not None:
            protocol.makeConnection(self)

    def connect(self, protocol: IProtocol) -> None:
        """Be the transport of `protocol`, and tell it that the connection is made."""
        self.protocol = protocol
        protocol.makeConnection(self)

    # What the test sees. `value()` has the bytes that were delivered, and `dropped` those that were written and lost.

    @property
    def unsent(self) -> int:
        """How many bytes were written and not taken by the peer yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unread(self) -> int:
        """How many bytes the peer has sent and the protocol has not been given yet, because it paused reading."""
        return len(self._peer_hand.incoming)

    @property
    def finished(self) -> bool:
        """Whether the peer has been told that nothing more will come: we closed, or half-closed."""
        return self._peer_hand.finished

    @property
    def was_abrupt(self) -> bool:
        """Whether the peer has been told so with a reset."""
        return self._peer_hand.hung_up_with_reset

    @property
    def streaming(self) -> bool | None:  # type: ignore[override] # it follows from the producer
        """Whether the producer, if there is one, is a push producer."""
        return None if self.producer is None else bool(self.streamingProducer)

    # The peer's hand.

    def receive(self, data: bytes) -> None:
        """The peer sends `data`: it is delivered now, or, while reading is paused, once it is resumed."""
        self._peer_hand.incoming += data
        self._read()

    def half_close(self) -> None:
        """The peer closes its writing side, after what it has sent."""
        self._peer_hand.ended = True
        self._read()

    def reset(self) -> None:
        """The peer resets the connection. A transport that neither reads nor writes does not notice."""
        self._peer_hand.was_reset = True
        self._read()
        self.wake()

    def stall(self) -> None:
        """From now on the peer reads nothing."""
        self._flushed()
        self._peer_hand.allowed = 0

    def go_on(self) -> None:
        """The peer reads all that waits, and from now on at once."""
        self._peer_hand.allowed = inf
        self._flush()
        self.wake()
        self._flushed()

    def take(self, most: int | None = None) -> bytes:
        """The peer reads up to `most` bytes of what waits (`None`: all), and returns them. `value` has them too."""
        before = self.io.tell()
        allowed = self._peer_hand.allowed
        self._peer_hand.allowed = self.unsent if most is None else most
        self._flush()
        self._peer_hand.allowed = allowed
        self.wake()
        self._flushed()
        return self.io.getvalue()[before:]

    def lose(self, reason: BaseException | None = None) -> None:
        """The connection is lost, now, for this reason (`None`: `ConnectionDone`)."""
        self._flushed()
        self.connectionLost(Failure(ConnectionDone() if reason is None else reason))

    def turn(self) -> None:
        """
        Do what a reactor would do in its next turns, until there is nothing left to do at this moment.

        Raises `NeverRests` after `MOST_TURNS`: before a peer that reads at once, a pull producer that has no end never
        comes to one. Before a peer that does not (``peer_reads=False``), it is asked once for each `take`.
        """
        __tracebackhide__ = True
        self._turns = 0
        self._flushed()
        self.reactor.advance(0)

    @override
    def _turn(self) -> None:
        __tracebackhide__ = True
        now = self.reactor.seconds()
        self._turns = self._turns + 1 if now == self._moment else 1
        self._moment = now
        self._flushed()
        if self._turns > MOST_TURNS:
            self._next_turn = None
            raise NeverRests(f"after {MOST_TURNS} turns {self.producer or self.protocol!r} still has something to send")
        super()._turn()

    # What the protocol calls, where it is not as in BufferedTransport.

    @override
    def getHost(self) -> Any:
        """Our address; ``hostAddr`` may be set."""
        return StringTransport.getHost(self)

    @override
    def getPeer(self) -> Any:
        """The peer's address; ``peerAddr`` may be set."""
        return StringTransport.getPeer(self)

    @override
    def pauseProducing(self) -> None:
        """Deliver nothing until `resumeProducing`."""
        self.producerState = "paused"
        super().pauseProducing()

    @override
    def resumeProducing(self) -> None:
        """Deliver again, from the next turn on; after ``loseConnection`` it does nothing."""
        self.producerState = "producing"
        super().resumeProducing()

    @override
    def stopProducing(self) -> None:
        """Close the connection, as `loseConnection`."""
        self.producerState = "stopped"
        super().stopProducing()

    @override
    def abortConnection(self) -> None:
        """Cut the connection; what is unsent, and what was written in this turn, is lost: it is `dropped`."""
        self._drop()
        super().abortConnection()
        self.aborted = True
        self.disconnecting = True
        self.disconnected = True

    @override
    def connectionLost(self, reason: Failure) -> None:
        """The single end; what has not left until now never does: it is `dropped`."""
        self._drop()
        super().connectionLost(reason)

    @override
    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """Note that the protocol asked for TLS: `secure` is true, `tls_context` is `ctx`."""
        self.tls_context = ctx
        self._be_secure()

    def _be_secure(self) -> None:
        self.secure = True
        self.getPeerCertificate = lambda: self.peer_certificate
        alsoProvides(self, ISSLTransport)

    def _keep(self, taken: bytes) -> None:
        """The peer has read these; `clear` makes a new ``io``, so it is looked up each time."""
        self.io.write(taken)
        now = self.reactor.seconds()
        if now != self._fresh_since:
            self._fresh, self._fresh_since = 0, now
        self._fresh += len(taken)

    def _flushed(self) -> None:
        """A turn is over: what the peer has read has left for good."""
        self._fresh = 0

    def _drop(self) -> None:
        """The connection ends: take back what was written in this turn. Once; later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        value = self.io.getvalue()
        delivered = max(0, len(value) - self._fresh)  # less was written than is fresh where `clear` came between
        self.dropped = b"".join([value[delivered:], self.dataBuffer[self.offset :], *self._tempDataBuffer])
        self.io.seek(delivered)
        self.io.truncate()

    def wake(self) -> None:
        """What is written goes to a peer that reads at once; all else waits for a turn."""
        if self._flushing:
            return
        if self._peer_hand.allowed == inf and self.unsent and not self._peer_hand.was_reset:
            asked_later = None if self.streamingProducer else self.producer
            if asked_later is not None:  # the protocol is inside write, so a pull producer is asked in the next turn
                self.producer = None
            self._flush()
            if asked_later is not None:
                self.producer = asked_later
                self._writes = True
        super().wake()

    @property
    @override
    def _can_write(self) -> bool:
        """Nothing is sent to whoever takes nothing: an end."""
        return self._writes and (self._memory.writable or not self.unsent)

    @override
    def _isSendBufferFull(self) -> bool:
        """A peer that reads at once fills no buffer."""
        return self._peer_hand.allowed != inf and bool(super()._isSendBufferFull())

    @override
    def _postLoseConnection(self) -> Any:
        """All is sent; the end comes in a turn of its own, for here the protocol may be inside ``write``."""
        if self._flushing:
            self._writes = True
            return None
        return super()._postLoseConnection()

    @override
    def _closeWriteConnection(self) -> None:
        """As above, for half of it."""
        if self._flushing:
            self._writes = True
            self._writeDisconnected = False
        else:
            super()._closeWriteConnection()

    def _flush(self) -> None:
        """Let the peer have what it allows itself; nothing once the connection is cut."""
        self._flushing = True
        try:
            while self.unsent and self._can_write and not self.aborted:
                self._handle(self.doWrite, reading=False)
        finally:
            self._flushing = False

    def _read(self) -> None:
        """Deliver what has come, a turn for each piece."""
        self._flushed()
        while self._can_read:
            self._handle(self.doRead, reading=True)
            if self._can_read:
                self._flushed()
