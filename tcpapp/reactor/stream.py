"""
What makes a connection of Twisted's read and write through a transport of uvloop's.

Twisted's own class stays what it is: its flags, its buffer of unwritten pieces, its producers, its way of closing.
Taken from it is how bytes come and go. `Twisted's reactors <https://docs.twisted.org/en/stable/core/howto/internet-overview.html>`_
wait until the socket is readable, call ``doRead``, which calls ``recv``; and for each write until it is writable. Here
uvloop reads, in C, and calls `Stream.data_received`; and what was written while that lasted goes out as it returns, by
one call of uvloop's ``write``, which tries the socket at once.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet import main
from twisted.internet.abstract import FileDescriptor
from twisted.python import log
from typing_extensions import override

from tcpapp.reactor.sips import Sips

if TYPE_CHECKING:
    from asyncio import Transport
    from collections.abc import Coroutine
    from typing import Any as Descriptor  # what these are mixed into comes before it, in the order of bases
else:
    Descriptor = FileDescriptor

__all__ = ["NotReading", "Stream"]

RESET = struct.pack("ii", 1, 0)
"""``SO_LINGER`` on, of no seconds: closing resets the connection (RFC 9293, ABORT)."""


class NotReading(Exception):
    """Raised from ``connection_made``, so that uvloop does not begin to read: nothing else keeps it from that."""


class Pieces(Descriptor):  # type: ignore[misc]  # any, to the checker
    """
    What a transport does with bytes, with no look at TLS: the layer below TLS, once it was started on the connection.

    The methods are called with a `Stream` for ``self``, as Twisted's ``startTLS`` calls those of the class it is given.
    """

    _writing: bool

    @override
    def write(self, data: bytes) -> None:
        """Write these bytes: at once when the call of ``dataReceived`` that this is in returns, or in the next turn."""
        if not self._is_plain or type(data) is not bytes:
            FileDescriptor.write(self, data)
        elif data:
            self._tempDataBuffer.append(data)
            self._tempDataLen += len(data)
            if not self._writing:
                self._writing = True
                if not self._receiving:
                    self._call_writer()
            if self._tempDataLen > self._size:
                self._maybePauseProducer()


class Stream(Pieces):
    """
    A connection on uvloop's transport; mixed into the connections of `twisted.internet.tcp` and ``unix``.

    Promised is what `twisted.internet.interfaces.ITCPTransport`, ``ITLSTransport`` and ``IConsumer`` ask for, and
    beyond it the order in which Twisted's own reactors call things: producers are paused inside ``write`` and resumed
    from the loop, ``connectionLost`` is never called from inside a call of the protocol's, an exception of the
    protocol's is logged and is the reason of the loss.

    To uvloop this is the asyncio protocol, too: ``connection_made``, ``data_received`` and the like are called by it.
    """

    reactor: Any  # a UvloopReactor
    protocol: Any
    producerPaused: bool  # noqa: N815 - this and what else has such a name is Twisted's
    _writeDisconnected: bool  # noqa: N815

    _stream: Any = None
    """uvloop's transport; none until the turn after the connection came, nor when it is gone."""
    _reading = False
    """Whether bytes are wanted."""
    _is_plain: bool = False
    """Whether it is connected, and the writer would have nothing to do but to write, and could at once."""
    _writing: bool = False
    """Whether the writer has work: pieces, a producer to resume, an end to come to."""
    _queued = False
    """Whether the writer is called in the next turn."""
    _has_read = False
    """Whether the loop has read since the writer had work that is more than to write."""
    _receiving = False
    """Whether this is inside a call of ``dataReceived``."""
    _blocked = False
    """Whether uvloop holds bytes the kernel did not take."""
    _opening: Coroutine[Any, Any, Any] | None = None
    _shut: Any = None
    """The socket, from the end of the connection until uvloop closes it: to be shut down before."""
    _size = FileDescriptor.bufferSize

    # The beginning -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """
        Hand the socket to uvloop, whose ``connection_made`` comes in the next turn.

        Raises `OSError` where the system cannot watch it.
        """
        self.reactor.watches.reserve(self.socket.fileno())
        nodelay = self.getTcpNoDelay()
        opening = self.reactor._asyncioEventloop.connect_accepted_socket(lambda: self, self.socket)
        opening.send(None)  # as far as it goes without waiting
        if not nodelay:
            self.setTcpNoDelay(False)  # uvloop turned it on
        self._opening = opening
        self.reactor._streams.add(self)

    def connection_made(self, stream: Transport) -> None:
        """Called by uvloop, in the turn after `_begin`: by now the protocol may have written, paused, or closed."""
        opening, self._opening = self._opening, None
        self.reactor._asyncioEventloop.call_soon(finish, opening)
        if not hasattr(self, "socket"):  # lost meanwhile
            stream.abort()
            return
        self._stream = stream
        self.reactor.watches.release(self.socket.fileno())
        stream.set_write_buffer_limits(0)  # tell of every byte the kernel does not take
        if self._size < FileDescriptor.bufferSize:
            stream.set_protocol(Sips(self))  # type: ignore[arg-type]  # it is like one
        self._settle()
        if self._writing:
            self._call_writer()
        if not self._reading:
            raise NotReading

    # Reading -----------------------------------------------------------------------------------------------------

    @override
    def startReading(self) -> None:
        """Read from now on."""
        self._reading = True
        if self._stream is not None:
            self._stream.resume_reading()

    @override
    def stopReading(self) -> None:
        """Read no more, until `startReading`."""
        self._reading = False
        if self._stream is not None:
            self._stream.pause_reading()

    @property
    def bufferSize(self) -> int:  # noqa: N802
        """The bytes read at once, and those unwritten over which a push producer is paused: 64 KiB, as in Twisted."""
        return self._size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:  # noqa: N802
        self._size = size
        reads = None if self._stream is None else self._stream.get_protocol()
        if isinstance(reads, Sips):
            reads.resize()
        elif reads is not None and size < FileDescriptor.bufferSize:
            self._stream.set_protocol(Sips(self))

    def data_received(self, data: bytes) -> None:
        """Called by uvloop with what was read."""
        reactor = self.reactor
        contexts = reactor._contexts
        if len(contexts) != 1:  # the loop runs inside somebody's logging context
            log.callWithLogger(self, self._receive, data)
        else:  # most chunks by far, so this is `_receive` written out: a call less for each
            reactor._system["system"] = self.logstr
            contexts.append(reactor._context)
            self._receiving = True
            try:
                self.protocol.dataReceived(data)
                self._receiving = False
                if self._writing:
                    if self._is_plain:
                        self._send()
                    else:
                        self._call_writer()
            except BaseException:  # noqa: BLE001 - whatever it is, it is this connection's, as to Twisted's reactors
                self._failed()
            finally:
                del contexts[1:]
        if len(data) > self._size:  # more than is to be read at once
            self._stream.set_protocol(Sips(self))

    def _receive(self, data: bytes) -> None:
        """Hand bytes to the protocol, and send what it wrote meanwhile."""
        self._receiving = True
        try:
            self.protocol.dataReceived(data)
            self._receiving = False
            if self._writing:
                if self._is_plain:
                    self._send()
                else:
                    self._call_writer()
        except BaseException:  # noqa: BLE001 - as above
            self._failed()

    def _failed(self) -> None:
        """The protocol raised: the connection is lost for that."""
        log.err()
        self._receiving = False
        try:
            self._lose(sys.exc_info()[1], True)
        except BaseException:  # noqa: BLE001 - as above
            log.err()

    def eof_received(self) -> bool:
        """Called by uvloop when the peer has closed its writing side. True: it stays open, for we close it."""
        log.callWithLogger(self, self._lose, main.CONNECTION_DONE, True)
        return True

    # Writing -----------------------------------------------------------------------------------------------------

    def startTLS(self, ctx: object, normal: bool = True) -> None:
        """See `twisted.internet.interfaces.ITLSTransport.startTLS`."""
        from twisted.internet._newtls import startTLS  # there only where pyOpenSSL is

        self.write = self._write_by_tls  # type: ignore[method-assign]  # of this connection, from now on
        startTLS(self, ctx, normal, Pieces)
        self.reactor.quicken(self.protocol)

    def _write_by_tls(self, data: bytes) -> None:
        if self.connected:
            self.protocol.write(data)

    @override
    def startWriting(self) -> None:
        """See that the writer is called: as ``dataReceived`` returns, or in the next turn of the loop."""
        self._is_plain = False  # the writer finds out
        self._writing = True
        if not (self._receiving or self._blocked):
            self._call_writer()

    @override
    def stopWriting(self) -> None:
        """Have the writer rest until `startWriting`."""
        self._is_plain = self._writing = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See `twisted.internet.interfaces.IConsumer.registerProducer`.

        A pull producer is asked again in the next turn, in case what was written before it came has gone already.
        """
        super().registerProducer(producer, streaming)
        if not streaming and self.producer is producer and not self._writeDisconnected:
            self.startWriting()

    def _isSendBufferFull(self) -> bool:  # noqa: N802
        """Whether a push producer is to be paused: over `bufferSize`, what uvloop holds for the kernel with it."""
        held = self._stream.get_write_buffer_size() if self._blocked and self._stream is not None else 0
        return held + self._tempDataLen > self._size

    @override
    def _maybePauseProducer(self) -> None:
        super()._maybePauseProducer()
        if self.producerPaused:
            self._is_plain = False

    def _call_writer(self) -> None:
        if not self._queued and self._stream is not None:
            self._queued = True
            self.reactor._call_writer_of(self)

    def _only_writes(self) -> bool:
        """Whether the writer has nothing to do but to write."""
        return not (
            self.disconnecting
            or self._writeDisconnecting
            or self._aborting
            or (self.producer is not None and (self.producerPaused or not self.streamingProducer))
        )

    def _settle(self) -> None:
        """Find out whether writing is plain again."""
        self._is_plain = bool(self.connected) and self._stream is not None and not self._blocked and self._only_writes()

    def _send(self) -> None:
        """Give all that is unwritten to uvloop, which tries the socket at once."""
        pieces = self._tempDataBuffer
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._tempDataLen = 0
        self._writing = False
        self._stream.write(data)

    def writer_turn(self) -> None:
        """Called by the reactor, once in the turn after there was work for the writer."""
        self._queued = False
        if not self._writing or self._blocked or self._stream is None or self._aborting:
            return
        if self._only_writes():
            self._has_read = False
            self._send()
            self._settle()
        elif not self._has_read:  # Twisted reads a socket before it writes: an end that has come is told first
            self._has_read = True
            self._call_writer()
        else:
            self._has_read = False
            log.callWithLogger(self, self._write)

    def _write(self) -> None:
        try:
            why = self.doWrite()
        except BaseException:  # noqa: BLE001 - as above
            log.err()
            why = sys.exc_info()[1]
        if why:
            self._lose(why, False)

    @override
    def doWrite(self) -> Any:
        """Write what there is; when all of it has gone, resume the producer, or come to the end that was asked for."""
        if self._tempDataLen:
            self._send()
            if self._blocked or self._stream.is_closing():
                return None  # resume_writing goes on, or connection_lost tells why not
        elif self._is_broken():
            return main.CONNECTION_LOST
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
        """Whether nothing can be sent any more, as Twisted finds by sending nothing: after a reset, or a half-close."""
        try:
            self.socket.send(b"")
        except OSError as why:
            return not isinstance(why, BlockingIOError)
        return False

    def pause_writing(self) -> None:
        """Called by uvloop inside its ``write``: the kernel did not take all."""
        self._is_plain = False
        self._blocked = self._writing = True

    def resume_writing(self) -> None:
        """Called by uvloop: the kernel has taken all."""
        self._blocked = False
        if self._writing:
            self.writer_turn()

    # The end -----------------------------------------------------------------------------------------------------

    def connection_lost(self, why: BaseException | None) -> None:
        """Called by uvloop, when it has closed the socket: after a failed read or write, or since we asked for it."""
        self._stream = None
        self._is_plain = False
        if hasattr(self, "socket"):
            log.callWithLogger(self, self._break, why)
        if self._shut is not None:
            shut_down(self._shut)
            self._shut = None
        self.reactor._streams.discard(self)

    def _break(self, why: BaseException | None) -> None:
        """
        Come to the end after a read or a write that failed.

        Twisted reads a socket before it writes, so a peer that sent, closed, and takes no reply has closed in good
        order there. uvloop has written first: what had come by then is read here.
        """
        data = None
        if self._reading and isinstance(why, BrokenPipeError):
            with suppress(OSError):
                data = self.socket.recv(self._size)
        if data:
            self._receive(data)
        elif data is not None:
            self._lose(main.CONNECTION_DONE, True)
        if hasattr(self, "socket"):
            self._lose(main.CONNECTION_LOST, False)

    def _lose(self, why: Any, by_reading: bool) -> None:
        """Do what Twisted's reactors do when a read or a write says that the connection is over."""
        self.stopReading()
        self.reactor._disconnectSelectable(self, why, by_reading)

    def _closeSocket(self, orderly: bool) -> None:  # noqa: N802
        """
        Have the socket closed, in the next turn: by FIN, or by a reset.

        It is shut down only then, in case a copy of it is left somewhere: a peer that was told of the end by that alone
        would miss the reset that closing is, where something is unread.
        """
        if orderly:
            self._shut = self.socket
        else:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self._stream is not None:
            self._stream.abort()


def shut_down(skt: socket.socket) -> None:
    """Tell the peer that this is the end, whoever else holds the socket."""
    with suppress(OSError):
        skt.shutdown(socket.SHUT_RDWR)


def finish(opening: Coroutine[Any, Any, Any]) -> None:
    """Let uvloop's coroutine that opened a transport come to its end: what it waited for has come."""
    try:
        opening.send(None)
    except StopIteration:
        return
