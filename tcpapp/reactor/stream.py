"""
Connections of Twisted that read and write through a transport of uvloop: beginning, reading and end.

Twisted's own class keeps its flags, its buffer of unwritten bytes, its producers, and its way of closing. Only the
transfer of bytes is replaced. `Twisted's reactors
<https://docs.twisted.org/en/stable/core/howto/internet-overview.html>`_ wait until the socket is readable and call
``doRead``, which calls ``recv``. For each write they wait until it is writable. Here uvloop reads, in C, and calls
`Stream.data_received`. Bytes written during this call are sent when it returns, by one call of uvloop's ``write``,
which writes to the socket at once.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.python import log
from typing_extensions import override

from tcpapp.reactor.finishing import disconnect, reset_at_close, shut_down
from tcpapp.reactor.pieces import NotReading
from tcpapp.reactor.small_reads import SmallReads
from tcpapp.reactor.transfer import call_writer, receive
from tcpapp.reactor.writing import Writing

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Callable

__all__ = ["Stream"]


class Stream(Writing):
    """
    A mixin for the connections of `twisted.internet.tcp` and ``unix``: it reads and writes through uvloop's transport.

    It provides `twisted.internet.interfaces.ITCPTransport`, ``ITLSTransport`` and ``IConsumer``, and keeps the order of
    calls of Twisted's own reactors. Producers are paused inside ``write`` and resumed from the loop. ``connectionLost``
    is never called from inside a call of the protocol. An exception of the protocol is logged, and is the reason of the
    loss.

    For uvloop it is also the asyncio protocol: uvloop calls ``connection_made``, ``data_received`` and the like.
    """

    # The beginning -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """
        Let the reactor hand the socket to uvloop after the protocol has the connection.

        Raises `OSError` if the system cannot watch it.
        """
        reactor = self.reactor
        reactor.has_begun(self)
        reactor.openings.soon(self)

    def hand_over(self) -> None:
        """
        Hand the socket to uvloop, unless the connection has ended or was taken off the reactor. The reactor calls it.
        """
        if self._is_lent:
            return
        if not self._ends_as_it_begins():
            try:
                self._opening = self.reactor.openings.open(self)
                self._is_handed_over = True
            except BaseException:  # noqa: BLE001 - whatever it is, it is an error of this connection
                self._failed()
        elif self._writing and not self._queued:
            self._queued = True
            self.reactor._call_writer_of(self)

    def _ends_as_it_begins(self) -> bool:
        """Whether it can end before uvloop has it: it was closed with nothing to write, or aborted, or is lost."""
        if self._aborting or not hasattr(self, "socket") or self.socket.fileno() < 0:  # the program closed it
            return True
        return not (not self.disconnecting or self._tempDataLen or self._reading or self.producer)

    def connection_made(self, stream: Transport) -> None:
        """Begin to read and write through uvloop. uvloop calls it in the turn after `hand_over`."""
        self.reactor.openings.opened(self, self._opening)
        self._opening = None
        if not hasattr(self, "socket"):  # the connection was lost meanwhile
            stream.abort()
            return
        self._stream = stream
        try:
            self.reactor.openings.check_new(self.socket.fileno())
        except OSError:  # the program has closed its descriptor
            self._reading = False
        stream.set_write_buffer_limits(0)  # so that uvloop reports every byte that the kernel does not accept
        if self._size < FileDescriptor.bufferSize:
            stream.set_protocol(SmallReads(self))  # type: ignore[arg-type]  # it is like one
        self._settle()
        if self._writing:
            call_writer(self)
        if not self._reading:
            raise NotReading

    # Reading -----------------------------------------------------------------------------------------------------

    @override
    def startReading(self) -> None:
        """
        Read from now on, unless the program has a reader of its own for the descriptor.

        Raises `OSError` if the program has closed the descriptor.
        """
        if self._stream is not None:
            if self.reactor.is_read(self.fileno()):
                return
            self.reactor.openings.check(self.fileno())
            self._stream.resume_reading()
        self._reading = True
        if self._is_lent:
            self._come_back()

    @override
    def stopReading(self) -> None:
        """Stop reading until `startReading`."""
        self._reading = False
        if self._stream is not None:
            self._stream.pause_reading()

    @property
    def bufferSize(self) -> int:  # noqa: N802
        """
        The most bytes that are read at once, and the unwritten bytes over which a push producer is paused: 64 KiB by
        default.
        """
        return self._size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:  # noqa: N802
        self._size = size
        reads = None if self._stream is None else self._stream.get_protocol()
        if isinstance(reads, SmallReads):
            reads.resize()
        elif reads is not None and size < FileDescriptor.bufferSize:
            self._stream.set_protocol(SmallReads(self))

    @property
    def data_received(self) -> Callable[[bytes], None]:
        """The function that uvloop calls with the bytes that it read."""
        return partial(self.reactor.shared.run, self._read)

    def _failed(self) -> None:
        """Log the error that the protocol raised, and end the connection."""
        log.err()
        self._receiving = False
        try:
            self._lose(sys.exc_info()[1], True)
        except BaseException:  # noqa: BLE001 - as above
            log.err()

    def eof_received(self) -> bool:
        """Handle the end of the peer's side. uvloop calls it. Returns `True`: uvloop must leave our side open."""
        self.reactor.something_came()
        self.reactor.shared.enter(log.callWithLogger, self, self._lose, main.CONNECTION_DONE, True)
        return True

    # The end -----------------------------------------------------------------------------------------------------

    def connection_lost(self, why: BaseException | None) -> None:
        """End the connection, whose socket uvloop has closed: by our request, or after an error. uvloop calls it."""
        self._stream = None
        self._is_plain = False
        self.reactor.something_came()
        if hasattr(self, "socket"):
            self.reactor.shared.enter(log.callWithLogger, self, self._break, why)
        if self._shut is not None:
            shut_down(self._shut)
            self._shut = None
        self.reactor.openings.ended(self)

    def _break(self, why: BaseException | None) -> None:
        """
        End the connection after a failed read or write.

        Twisted reads a socket before it writes. So with Twisted, a peer that sent, closed, and accepts no reply has
        ended cleanly. uvloop has written first, so the bytes that had arrived before are read here.
        """
        data = None
        if self._reading and isinstance(why, BrokenPipeError):
            with suppress(OSError):
                data = self.socket.recv(self._size)
        if data:
            receive(self, data)
        elif data is not None:
            self._lose(main.CONNECTION_DONE, True)
        if hasattr(self, "socket"):
            self._lose(main.CONNECTION_LOST, False)

    def _lose(self, why: Any, by_reading: bool) -> None:
        """Do as Twisted's reactors do when a read or a write reports the end of the connection."""
        self._reading = False
        disconnect(self, why, by_reading)
        if not (self._reading or self._stream is None or self._stream.is_closing()):
            self._stream.pause_reading()

    def _closeSocket(self, orderly: bool) -> None:  # noqa: N802
        """
        Let the socket be closed in the next turn: by FIN, or by a reset.

        It is shut down only then, in case another copy of it exists. After an earlier shutdown, the peer could miss the
        reset that closing causes if some bytes are unread.
        """
        self.reactor.has_ended(self)
        if not self._is_handed_over:
            super()._closeSocket(orderly)
            return
        if orderly:
            self._shut = self.socket
            if self.reactor.inside:
                shut_down(self.socket)
        else:
            reset_at_close(self.socket)
        if self._stream is not None:
            self._stream.abort()
