"""
Twisted's ports, connectors and connections for TCP and UNIX, whose connections are uvloop's once they are there.

Twisted's own accept and connect: so a process out of descriptors, a refused connection, a timeout or a name that does
not resolve are what they are under its reactors. The socket that comes of it goes to uvloop.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IFileDescriptorReceiver
from typing_extensions import override

from tcpapp.reactor.stream import Stream

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

__all__ = ["TCPConnector", "TCPPort", "TCPServer", "UNIXConnector", "UNIXPort", "UNIXServer"]


def become(client: Any, kind: type[Stream]) -> None:
    """Have a client that is connected go on as a stream, and read."""
    client.__class__ = kind
    client._begin()
    client.reactor.quicken(client.protocol)
    client.startReading()


# TCP -----------------------------------------------------------------------------------------------------------------


class TCPServer(Stream, tcp.Server):
    """A TCP connection that was accepted, or adopted."""

    _base = Stream

    def __init__(self, *given: Any, **named: Any) -> None:
        tcp.Server.__init__(self, *given, **named)
        self._begin()
        self.reactor.quicken(self.protocol)


class TCPPort(tcp.Port):
    """A listening TCP port."""

    transport = TCPServer


class TCPClient(tcp.Client):
    """A TCP connection that is being opened; from when it is open, a `TCPClientStream`."""

    @override
    def startReading(self) -> None:
        if not self.connected:
            super().startReading()
        else:
            become(self, TCPClientStream)


class TCPClientStream(Stream, tcp.Client):
    """A TCP connection that was opened."""

    _base = Stream


class TCPConnector(tcp.Connector):
    """What opens TCP connections, again whenever its factory says so."""

    @override
    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


# UNIX ----------------------------------------------------------------------------------------------------------------


class Plain:
    """A UNIX connection that went back to Twisted's way of reading and writing, since descriptors go over it."""

    def connection_lost(self, why: BaseException | None) -> None:
        """Called by uvloop: it has closed its copy of the descriptor."""

    def writer_turn(self) -> None:
        """Called by the reactor, if it was to be when this was uvloop's: the writer has been started since."""


class PlainUNIXServer(Plain, unix.Server):
    """See `Plain`."""


class PlainUNIXClient(Plain, unix.Client):
    """See `Plain`."""


class UNIXStream(Stream):
    """
    A UNIX connection on uvloop's transport, until descriptors are to be sent over it.

    uvloop reads by ``read`` and writes by ``write``; descriptors come and go by ``recvmsg`` and ``sendmsg``, which are
    Twisted's. A connection whose protocol takes descriptors is never handed to uvloop, and one that sends one comes
    back from there: its socket is copied, and uvloop's copy closed.
    """

    socket: Any
    fileno: Any
    _sendmsgQueue: list[int]  # noqa: N815 - these are Twisted's names
    _fileDescriptorBufferSize: int  # noqa: N815
    _plain: type

    def sendFileDescriptor(self, fileno: int) -> None:  # noqa: N802
        """See `twisted.internet.interfaces.IUNIXTransport.sendFileDescriptor`."""
        self._sendmsgQueue.append(fileno)
        self._maybePauseProducer()
        self.startWriting()

    @override
    def _isSendBufferFull(self) -> bool:
        return len(self._sendmsgQueue) > self._fileDescriptorBufferSize or super()._isSendBufferFull()

    @override
    def _only_writes(self) -> bool:
        return not self._sendmsgQueue and super()._only_writes()

    @override
    def doWrite(self) -> Any:
        if not self._sendmsgQueue:
            return super().doWrite()
        if self._stream is not None:  # or else in a turn of an `iterate` before it is uvloop's
            self._leave()
        return None

    def _leave(self) -> None:
        """Go back to Twisted's way, with all that is to be read or written."""
        reading, stream = self._reading, self._stream
        self.stopReading()
        self._stream = None
        self.reactor.connections.discard(self)
        copy = socket.socket(fileno=os.dup(self.socket.fileno()))
        copy.setblocking(False)
        stream.abort()
        self.socket, self.fileno = copy, copy.fileno
        self.__class__ = self._plain
        if reading:
            self.startReading()
        self.startWriting()


class UNIXServer(UNIXStream, unix.Server):
    """A UNIX connection that was accepted, or adopted."""

    _base = UNIXStream
    _plain = PlainUNIXServer

    def __init__(self, *given: Any, **named: Any) -> None:
        unix.Server.__init__(self, *given, **named)
        self._begin()
        self.reactor.quicken(self.protocol)


def unix_server(skt: socket.socket, protocol: IProtocol, *more: Any) -> unix.Server:
    """Make the transport of a UNIX connection: uvloop's, or where the protocol takes descriptors, Twisted's."""
    takes = IFileDescriptorReceiver.providedBy(protocol)
    return (unix.Server if takes else UNIXServer)(skt, protocol, *more)


class UNIXPort(unix.Port):
    """A listening UNIX socket."""

    transport: Any = staticmethod(unix_server)


class UNIXClient(unix.Client):
    """A UNIX connection that is being opened; then, if its protocol takes no descriptors, a `UNIXClientStream`."""

    @override
    def startReading(self) -> None:
        if not self.connected or IFileDescriptorReceiver.providedBy(self.protocol):
            super().startReading()
        else:
            become(self, UNIXClientStream)


class UNIXClientStream(UNIXStream, unix.Client):
    """A UNIX connection that was opened."""

    _base = UNIXStream
    _plain = PlainUNIXClient


class UNIXConnector(unix.Connector):
    """What opens UNIX connections."""

    @override
    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
