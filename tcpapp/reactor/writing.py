"""Writing through uvloop: the unwritten bytes of a connection, its producers, and Twisted's way of closing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.python import log
from typing_extensions import override

from tcpapp.reactor import nested
from tcpapp.reactor.pieces import Pieces
from tcpapp.reactor.transfer import call_writer, send

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Writing"]


class Writing(Pieces):
    """The writing half of a `tcpapp.reactor.stream.Stream`, with the state of what is not done for each chunk."""

    protocol: Any
    producerPaused: bool  # noqa: N815 - names in this form are Twisted's
    _writeDisconnected: bool  # noqa: N815
    hand_over: Callable[[], None]
    _ends_as_it_begins: Callable[[], bool]

    _reading = False
    """Whether the connection is read."""
    _blocked = False
    """Whether uvloop holds bytes that the kernel did not accept."""
    _is_handed_over = False
    """Whether the socket was handed to uvloop, which closes it then."""
    _opening: Coroutine[Any, Any, Any] | None = None
    _shut: Any = None
    """The socket, from the end of the connection until uvloop closes it; it is shut down before that."""

    def startTLS(self, ctx: object, normal: bool = True) -> None:
        """Begin TLS on the connection. See `twisted.internet.interfaces.ITLSTransport.startTLS`."""
        from twisted.internet._newtls import startTLS  # there only with pyOpenSSL

        self.write = self._write_by_tls  # type: ignore[method-assign]  # for this connection, from now on
        startTLS(self, ctx, normal, Pieces)
        self.reactor.quicken(self.protocol)

    def _write_by_tls(self, data: bytes) -> None:
        if self.connected:
            self.protocol.write(data)

    @override
    def startWriting(self) -> None:
        """Call the writer when ``dataReceived`` returns, or in the next turn of the loop."""
        self._is_plain = False  # the writer sets it again
        self._writing = True
        if not (self._receiving or self._blocked):
            call_writer(self)

    @override
    def stopWriting(self) -> None:
        """Do not call the writer until `startWriting`."""
        self._is_plain = self._writing = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Register a producer. See `twisted.internet.interfaces.IConsumer.registerProducer`.

        A pull producer is asked again in the next turn, in case all bytes that were written before it are sent already.
        """
        super().registerProducer(producer, streaming)
        if not streaming and self.producer is producer and not self._writeDisconnected:
            self.startWriting()

    def _isSendBufferFull(self) -> bool:  # noqa: N802
        """
        Return whether a push producer must be paused: more than ``bufferSize`` bytes are unwritten, here and in uvloop.
        """
        held = self._stream.get_write_buffer_size() if self._blocked and self._stream is not None else 0
        return held + self._tempDataLen > self._size

    @override
    def _maybePauseProducer(self) -> None:
        super()._maybePauseProducer()
        if self.producerPaused:
            self._is_plain = False

    def _come_back(self) -> None:
        """Put the connection back on the reactor. If uvloop never had it, hand it over now."""
        self.reactor.connections.take_back(self)
        if not self._is_handed_over:
            self.reactor.openings.soon(self)

    def _only_writes(self) -> bool:
        """Return whether the writer only needs to write."""
        return not (
            self.disconnecting
            or self._writeDisconnecting
            or self._aborting
            or (self.producer is not None and (self.producerPaused or not self.streamingProducer))
        )

    def _settle(self) -> None:
        """Check whether only writing is needed again."""
        can = self._stream is not None and not self._blocked and not self.reactor.inside
        self._is_plain = can and bool(self.connected) and self._only_writes()

    def leave_nested(self) -> None:
        """Write through uvloop again after an `iterate` inside a callback."""
        self._settle()
        if self._writing and not (self._receiving or self._blocked):
            call_writer(self)

    def _writer_turn(self) -> None:
        """Do the writer's work, if it is more than to write, or cannot be done at once."""
        if not self._writing or self._blocked or self._aborting or (self._stream is None and self._is_handed_over):
            return
        if self._stream is None and not self._ends_as_it_begins():
            self.hand_over()  # more bytes were written meanwhile
            return
        if self._only_writes():
            self._has_read = False
            send(self)
            self._settle()
        elif (
            self._reading and not self._has_read
        ):  # Twisted reads a socket before it writes: received bytes are delivered first
            self._has_read = True
            call_writer(self)
        else:
            self._has_read = False
            log.callWithLogger(self, self._write)

    def _write(self) -> None:
        try:
            why = self.doWrite()
        except BaseException:  # noqa: BLE001 - an error of this connection, as in Twisted's reactors
            log.err()
            why = sys.exc_info()[1]
        if why:
            self._lose(why, False)

    @override
    def doWrite(self) -> Any:
        """Write the unwritten bytes. When all are written, resume the producer, or close if that was requested."""
        if self.reactor.inside:
            return nested.write(self)
        if self._tempDataLen:
            send(self)
            if self._blocked or self._stream.is_closing():
                return None  # resume_writing continues, or connection_lost has the reason
        elif self._is_broken():
            return main.CONNECTION_LOST
        return self._has_written()

    def _has_written(self) -> Any:
        self._writing = False
        if self.producer is not None and (not self.streamingProducer or self.producerPaused):
            self.producerPaused = False
            self._settle()
            self.producer.resumeProducing()
        elif self.disconnecting:
            return self._postLoseConnection()
        elif self._writeDisconnecting:
            self._writeDisconnected = True
            return self._closeWriteConnection()
        return None

    def _is_broken(self) -> bool:
        """
        Return whether nothing can be sent any more, after a reset or a half-close. Twisted finds this out by sending no
        bytes.
        """
        try:
            self.socket.send(b"")
        except OSError as why:
            return not isinstance(why, BlockingIOError)
        return False

    def pause_writing(self) -> None:
        """Pause the producer, because the kernel did not accept all bytes. uvloop calls it inside its ``write``."""
        self._is_plain = False
        self._blocked = self._writing = True

    def resume_writing(self) -> None:
        """Continue to write, because the kernel has accepted all bytes. uvloop calls it."""
        self._blocked = False
        if self._writing:
            self.reactor.shared.enter(self.writer_turn)
