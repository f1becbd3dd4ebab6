"""A transport for unit tests: the protocol has one end, and the test drives the other."""

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

from tcpapp.testing.buffered import BufferedTransport, NeverSettles
from tcpapp.testing.transport_peer import PeerSocket

__all__ = ["MOST_TURNS", "FakeTransport", "NeverSettles"]

MOST_TURNS: Final = 10_000
"""Turns at one moment before `FakeTransport.turn` gives up: Twisted's `FileSender` sends 160 MB in them."""


class FakeTransport(BufferedTransport, StringTransport):  # type: ignore[misc]  # Twisted's bases name flags as bool and int
    """
    A `StringTransport` that behaves as a TCP connection. Tests with a `StringTransport` only change the import.

    By default the peer reads at once: written bytes are in `value()` when ``write`` returns. As over a socket, they
    leave only in a later turn. If the connection is cut in the same turn, by ``abortConnection`` or by an exception out
    of the protocol, the bytes are lost. They move from `value()`, which has the delivered bytes, to `dropped`. A later
    turn begins with `turn`, with each call of a method of the peer, and when time passes on `clock`.

    A peer that does not read (``peer_reads=False``, or `stall`) lets the buffer fill. Producers are paused over
    ``bufferSize`` and resumed when all bytes are taken, and ``loseConnection`` waits for that. `take` and `go_on` let
    that peer read.

    The test decides what the protocol receives: `receive`, `half_close`, `reset`, `lose`. Everything that a reactor
    would do in a later turn waits for `turn` (or for the given `clock`). This is the ``connectionLost`` after
    ``loseConnection`` and ``abortConnection``, the end of ``loseWriteConnection``, bytes held back by
    ``pauseProducing``, and the second and later calls of a pull producer.

    Give it the `protocol`, or `connect` one; without one, the end is not reported. `clock` is its ``reactor``; by
    default it has its own `Clock`. With ``tls=True`` it begins in the state after `startTLS`.

    It differs from a `StringTransport`, and behaves as the real transport. ``resumeProducing`` after the end does
    nothing (`lenient` is accepted, and has no effect), nor does ``unregisterProducer`` without a producer. A pull
    producer is asked when it registers, and in later turns. A lost connection drops written bytes. Text is refused.

    It differs from a socket. With a peer that reads at once, no push producer is ever paused (a socket pauses it over
    ``bufferSize`` bytes in one turn). ``disconnecting`` and ``disconnected`` are true from ``abortConnection`` on, as
    in a `StringTransport`. TLS is a flag, and the bytes stay plain.
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
        self._peer_socket = PeerSocket(self._keep, inf if peer_reads else 0)
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
            self._peer_socket,
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
        """Become the transport of `protocol`, and tell it that the connection is made."""
        self.protocol = protocol
        protocol.makeConnection(self)

    # Results for the test. `value()` has the delivered bytes, and `dropped` the bytes that were written and lost.

    @property
    def unsent(self) -> int:
        """How many bytes were written and not taken by the peer yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unread(self) -> int:
        """How many bytes the peer has sent and the protocol has not been given yet, because it paused reading."""
        return len(self._peer_socket.incoming)

    @property
    def finished(self) -> bool:
        """Whether the peer has been told that nothing more will come: we closed, or half-closed."""
        return self._peer_socket.finished

    @property
    def was_abrupt(self) -> bool:
        """Whether the peer has been told so by a reset."""
        return self._peer_socket.hung_up_with_reset

    @property
    def streaming(self) -> bool | None:  # type: ignore[override] # it follows from the producer
        """Whether the producer, if there is one, is a push producer."""
        return None if self.producer is None else bool(self.streamingProducer)

    # The peer's actions.

    def receive(self, data: bytes) -> None:
        """The peer sends `data`: it is delivered now, or, while reading is paused, once it is resumed."""
        self._peer_socket.incoming += data
        self._read()

    def half_close(self) -> None:
        """The peer closes its writing side, after what it has sent."""
        self._peer_socket.ended = True
        self._read()

    def reset(self) -> None:
        """The peer resets the connection. A transport that neither reads nor writes does not notice."""
        self._peer_socket.was_reset = True
        self._read()
        self.wake()

    def stall(self) -> None:
        """From now on the peer reads nothing."""
        self._flushed()
        self._peer_socket.allowed = 0

    def go_on(self) -> None:
        """The peer reads all waiting bytes, and from now on at once."""
        self._peer_socket.allowed = inf
        self._flush()
        self.wake()
        self._flushed()

    def take(self, most: int | None = None) -> bytes:
        """The peer reads up to `most` of the waiting bytes (`None`: all), and returns them. `value` has them too."""
        before = self.io.tell()
        allowed = self._peer_socket.allowed
        self._peer_socket.allowed = self.unsent if most is None else most
        self._flush()
        self._peer_socket.allowed = allowed
        self.wake()
        self._flushed()
        return self.io.getvalue()[before:]

    def lose(self, reason: BaseException | None = None) -> None:
        """The connection is lost, now, for this reason (`None`: `ConnectionDone`)."""
        self._flushed()
        self.connectionLost(Failure(ConnectionDone() if reason is None else reason))

    def turn(self) -> None:
        """
        Do the work of a reactor's next turns, until there is nothing left to do at this moment.

        Raises `NeverSettles` after `MOST_TURNS`: with a peer that reads at once, a pull producer without an end never
        comes to rest. With a peer that does not (``peer_reads=False``), it is asked once for each `take`.
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
            raise NeverSettles(
                f"after {MOST_TURNS} turns {self.producer or self.protocol!r} still has something to send"
            )
        super()._turn()

    # Calls of the protocol that differ from those of BufferedTransport.

    @override
    def getHost(self) -> Any:
        """Our address; ``hostAddr`` can be set."""
        return StringTransport.getHost(self)

    @override
    def getPeer(self) -> Any:
        """The peer's address; ``peerAddr`` can be set."""
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
        """Close the connection, like `loseConnection`."""
        self.producerState = "stopped"
        super().stopProducing()

    @override
    def abortConnection(self) -> None:
        """Cut the connection; unsent bytes, and those written in this turn, are lost: they are in `dropped`."""
        self._drop()
        super().abortConnection()
        self.aborted = True
        self.disconnecting = True
        self.disconnected = True

    @override
    def connectionLost(self, reason: Failure) -> None:
        """The single end; bytes that have not left until now are in `dropped`."""
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
        """A turn is over: the bytes that the peer has read have left for good."""
        self._fresh = 0

    def _drop(self) -> None:
        """The connection ends: take back the bytes written in this turn. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        value = self.io.getvalue()
        # If `clear` was called between, fewer bytes were written than are fresh.
        delivered = max(0, len(value) - self._fresh)
        self.dropped = b"".join([value[delivered:], self.dataBuffer[self.offset :], *self._tempDataBuffer])
        self.io.seek(delivered)
        self.io.truncate()

    def wake(self) -> None:
        """Written bytes go to a peer that reads at once; everything else waits for a turn."""
        if self._flushing:
            return
        if self._peer_socket.allowed == inf and self.unsent and not self._peer_socket.was_reset:
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
        """A peer that accepts nothing gets nothing, except for an end."""
        return self._writes and (self._memory.writable or not self.unsent)

    @override
    def _isSendBufferFull(self) -> bool:
        """A peer that reads at once fills no buffer."""
        return self._peer_socket.allowed != inf and bool(super()._isSendBufferFull())

    @override
    def _postLoseConnection(self) -> Any:
        """All is sent; the end comes in a turn of its own, because the protocol can be inside ``write`` here."""
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
        """Let the peer read as much as it allows; nothing once the connection is cut."""
        self._flushing = True
        try:
            while self.unsent and self._can_write and not self.aborted:
                self._handle(self.doWrite, reading=False)
        finally:
            self._flushing = False

    def _read(self) -> None:
        """Deliver the received bytes, a turn for each piece."""
        self._flushed()
        while self._can_read:
            self._handle(self.doRead, reading=True)
            if self._can_read:
                self._flushed()
