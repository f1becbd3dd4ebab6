"""A transport for unit tests: the protocol has one end, and the test drives the other end."""

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
"""The most turns at one moment before `FakeTransport.turn` gives up. Twisted's `FileSender` sends 160 MB in them."""


class FakeTransport(BufferedTransport, StringTransport):  # type: ignore[misc]  # Twisted's bases name flags as bool and int
    """
    A `StringTransport` that behaves like a TCP connection. A test that uses a `StringTransport` only changes the
    import.

    By default the peer reads at once: written bytes are in `value()` when ``write`` returns. As with a socket, they are
    sent only in a later turn. If the connection is cut in the same turn, by ``abortConnection`` or by an exception of
    the protocol, the bytes are lost. They move from `value()`, which has the delivered bytes, to `dropped`. A later
    turn begins with `turn`, with each call of a method of the peer, and when time passes on `clock`.

    A peer that does not read (``peer_reads=False``, or `stall`) lets the buffer fill. Producers are paused over
    ``bufferSize`` and resumed when all bytes are taken, and ``loseConnection`` waits for that. `take` and `go_on` let
    the peer read.

    The test decides what the protocol receives, by `receive`, `half_close`, `reset` and `lose`. Everything that a
    reactor would do in a later turn waits for `turn` (or for the given `clock`). This is the ``connectionLost`` after
    ``loseConnection`` and ``abortConnection``, the end of ``loseWriteConnection``, bytes held back by
    ``pauseProducing``, and the second and later calls of a pull producer.

    Give it the `protocol`, or call `connect`. Without a protocol, the end is not reported. `clock` is its ``reactor``;
    by default it has its own `Clock`. With ``tls=True`` it begins in the state after `startTLS`.

    Where a `StringTransport` differs from a real transport, it behaves like the real one. ``resumeProducing`` after the
    end does nothing (`lenient` is accepted, and has no effect), and neither does ``unregisterProducer`` without a
    producer. A pull producer is asked when it registers, and in later turns. A lost connection drops written bytes.
    Text is refused.

    It differs from a socket in three points. With a peer that reads at once, no push producer is ever paused (a socket
    pauses it over ``bufferSize`` bytes in one turn). ``disconnecting`` and ``disconnected`` are true from
    ``abortConnection`` on, as in a `StringTransport`. TLS is only a flag, and the bytes stay plain.
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
        """Become the transport of `protocol`, and call its ``makeConnection``."""
        self.protocol = protocol
        protocol.makeConnection(self)

    # Results for the test. `value()` returns the delivered bytes, and `dropped` has the bytes that were written and
    # lost.

    @property
    def unsent(self) -> int:
        """The number of bytes that were written and that the peer has not taken yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    @property
    def unread(self) -> int:
        """The number of bytes that the peer has sent and the protocol has not received, because it paused reading."""
        return len(self._peer_socket.incoming)

    @property
    def finished(self) -> bool:
        """Whether our stream to the peer has ended: the protocol closed, half-closed or aborted."""
        return self._peer_socket.finished

    @property
    def was_abrupt(self) -> bool:
        """Whether our stream to the peer has ended by a reset."""
        return self._peer_socket.hung_up_with_reset

    @property
    def streaming(self) -> bool | None:  # type: ignore[override] # it follows from the producer
        """Whether the producer is a push producer; `None` without a producer."""
        return None if self.producer is None else bool(self.streamingProducer)

    # Actions of the peer.

    def receive(self, data: bytes) -> None:
        """Let the peer send `data`. It is delivered now, or when the protocol resumes reading."""
        self._peer_socket.incoming += data
        self._read()

    def half_close(self) -> None:
        """Let the peer close its writing side, after the bytes that it has sent."""
        self._peer_socket.ended = True
        self._read()

    def reset(self) -> None:
        """Let the peer reset the connection. A transport that neither reads nor writes does not notice."""
        self._peer_socket.was_reset = True
        self._read()
        self.wake()

    def stall(self) -> None:
        """Let the peer read nothing from now on."""
        self._flushed()
        self._peer_socket.allowed = 0

    def go_on(self) -> None:
        """Let the peer read all waiting bytes, and from now on read at once."""
        self._peer_socket.allowed = inf
        self._flush()
        self.wake()
        self._flushed()

    def take(self, most: int | None = None) -> bytes:
        """
        Let the peer read up to `most` of the waiting bytes (`None`: all), and return them. `value()` has them, too.
        """
        before = self.io.tell()
        allowed = self._peer_socket.allowed
        self._peer_socket.allowed = self.unsent if most is None else most
        self._flush()
        self._peer_socket.allowed = allowed
        self.wake()
        self._flushed()
        return self.io.getvalue()[before:]

    def lose(self, reason: BaseException | None = None) -> None:
        """Lose the connection now, for this `reason` (`None`: `ConnectionDone`)."""
        self._flushed()
        self.connectionLost(Failure(ConnectionDone() if reason is None else reason))

    def turn(self) -> None:
        """
        Do the work of the reactor's next turns, until no work is left at this moment.

        Raises `NeverSettles` after `MOST_TURNS`: with a peer that reads at once, a pull producer without an end never
        comes to rest. With ``peer_reads=False``, such a producer is asked once for each `take`.
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

    # Methods for the protocol that differ from those of BufferedTransport.

    @override
    def getHost(self) -> Any:
        """Return the address of our side, ``hostAddr``, which can be set."""
        return StringTransport.getHost(self)

    @override
    def getPeer(self) -> Any:
        """Return the address of the peer, ``peerAddr``, which can be set."""
        return StringTransport.getPeer(self)

    @override
    def pauseProducing(self) -> None:
        """Deliver no bytes until `resumeProducing`."""
        self.producerState = "paused"
        super().pauseProducing()

    @override
    def resumeProducing(self) -> None:
        """Deliver again from the next turn on. Does nothing after ``loseConnection``."""
        self.producerState = "producing"
        super().resumeProducing()

    @override
    def stopProducing(self) -> None:
        """Close the connection, as `loseConnection` does."""
        self.producerState = "stopped"
        super().stopProducing()

    @override
    def abortConnection(self) -> None:
        """Cut the connection. Unsent bytes and the bytes written in this turn are lost: they are in `dropped`."""
        self._drop()
        super().abortConnection()
        self.aborted = True
        self.disconnecting = True
        self.disconnected = True

    @override
    def connectionLost(self, reason: Failure) -> None:
        """End the connection. Bytes that are not sent until now are in `dropped`."""
        self._drop()
        super().connectionLost(reason)

    @override
    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """Note that the protocol asked for TLS: `secure` becomes true, and `tls_context` is `ctx`."""
        self.tls_context = ctx
        self._be_secure()

    def _be_secure(self) -> None:
        self.secure = True
        self.getPeerCertificate = lambda: self.peer_certificate
        alsoProvides(self, ISSLTransport)

    def _keep(self, taken: bytes) -> None:
        """Note bytes that the peer has read. `clear` makes a new ``io``, so it is looked up each time."""
        self.io.write(taken)
        now = self.reactor.seconds()
        if now != self._fresh_since:
            self._fresh, self._fresh_since = 0, now
        self._fresh += len(taken)

    def _flushed(self) -> None:
        """Note the end of a turn: the bytes that the peer has read are sent, and can no longer be lost."""
        self._fresh = 0

    def _drop(self) -> None:
        """Take back the bytes that were written in this turn, because the connection ends. Later calls do nothing."""
        if self._ended:
            return
        self._ended = True
        value = self.io.getvalue()
        # If `clear` was called meanwhile, `value` has fewer bytes than were written in this turn.
        delivered = max(0, len(value) - self._fresh)
        self.dropped = b"".join([value[delivered:], self.dataBuffer[self.offset :], *self._tempDataBuffer])
        self.io.seek(delivered)
        self.io.truncate()

    def wake(self) -> None:
        """Give written bytes to a peer that reads at once. All other work waits for a turn."""
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
        """Return whether the peer accepts bytes. A peer that accepts none still gets an end."""
        return self._writes and (self._memory.writable or not self.unsent)

    @override
    def _isSendBufferFull(self) -> bool:
        """Return whether a push producer must be paused: never for a peer that reads at once."""
        return self._peer_socket.allowed != inf and bool(super()._isSendBufferFull())

    @override
    def _postLoseConnection(self) -> Any:
        """Close in a turn of its own when all is sent, because the protocol can be inside ``write`` here."""
        if self._flushing:
            self._writes = True
            return None
        return super()._postLoseConnection()

    @override
    def _closeWriteConnection(self) -> None:
        """Half-close in a turn of its own when all is sent, for the same reason."""
        if self._flushing:
            self._writes = True
            self._writeDisconnected = False
        else:
            super()._closeWriteConnection()

    def _flush(self) -> None:
        """Let the peer read as much as it accepts. Does nothing after the connection was cut."""
        self._flushing = True
        try:
            while self.unsent and self._can_write and not self.aborted:
                self._handle(self.doWrite, reading=False)
        finally:
            self._flushing = False

    def _read(self) -> None:
        """Deliver the received bytes, one piece in each turn."""
        self._flushed()
        while self._can_read:
            self._handle(self.doRead, reading=True)
            if self._can_read:
                self._flushed()
