"""
Twisted's ports, connectors and connections for TCP and UNIX, with open connections on uvloop.

Accepting and connecting is Twisted's own code. So a process without free descriptors, a refused connection, a timeout
or an unknown name has the same effects as under Twisted's reactors. The resulting socket is handed to uvloop.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.python import log
from typing_extensions import override

from tcpapp.reactor.ports import WatchedPort
from tcpapp.reactor.stream import Stream
from tcpapp.reactor.transfer import Transfer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

__all__ = ["TCPConnector", "TCPPort", "TCPServer", "UNIXConnector", "UNIXPort", "UNIXServer"]

IPV6 = 4
"""The number of parts of an IPv6 address: host, port, flow and scope."""


def become(client: Any, kind: type[Stream]) -> None:
    """Turn a connected `client` into a stream of this class, and read."""
    client.__class__ = kind
    client._begin()
    client.reactor.quicken(client.protocol)
    client.startReading()


# TCP -----------------------------------------------------------------------------------------------------------------


class TCPServer(Stream, tcp.Server):
    """A TCP connection that was accepted or adopted."""

    _base: Any = Stream

    def __init__(self, *given: Any, **named: Any) -> None:
        Transfer.__init__(self)
        tcp.Server.__init__(self, *given, **named)
        self._begin()
        self.reactor.quicken(self.protocol)


class TCPPort(WatchedPort, tcp.Port):
    """A listening TCP port."""

    reactor: Any
    transport = TCPServer

    @override
    def doRead(self) -> None:
        """
        Accept the waiting clients.

        This does what Twisted's method does, with fewer steps for each client. If accept(2) fails, Twisted's own method
        handles the error.
        """
        accepted, most = 0, self.numberAccepts
        try:
            while accepted < most:
                try:
                    client, address = self.socket.accept()
                except BlockingIOError:
                    break
                except OSError:
                    super().doRead()
                    return
                accepted += 1
                self._meet(client, address)
            self.numberAccepts = most + 20 if accepted == most else max(1, accepted)  # as Twisted does
        except BaseException:  # noqa: BLE001 - as in Twisted: a factory can raise anything
            log.err()

    def _meet(self, client: socket.socket, address: Any) -> None:
        """Connect a client to the protocol that the factory makes."""
        if len(address) == IPV6:
            host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)  # with its scope
            address = (host, *address[1:])
        factory: Any = self.factory
        try:
            protocol = factory.buildProtocol(self._buildAddr(address))
        except BaseException:
            client.close()
            raise
        if protocol is None:
            client.close()
            return
        number, self.sessionno = self.sessionno, self.sessionno + 1
        self.reactor.openings.after(
            lambda: protocol.makeConnection(self.transport(client, protocol, address, self, number, self.reactor))
        )


class TCPClient(Transfer, tcp.Client):
    """
    A TCP connection that is being opened. When it is open, it becomes a `TCPClientStream`.

    A connection on this machine is open by the next turn, and one within a data centre soon after. So the descriptor is
    watched only if the connection is not open in the next turn.
    """

    reactor: Any
    _next_try: Any = None
    _is_watched = False

    def __init__(self, *given: Any) -> None:
        Transfer.__init__(self)
        tcp.Client.__init__(self, *given)

    @override
    def startReading(self) -> None:
        """Read, if the connection is open. Before that it is only watched for writing, which also reports a failure."""
        if self.connected:
            become(self, TCPClientStream)

    @override
    def startWriting(self) -> None:
        """Wait for the connection to open. `doConnect` calls it while the connection is not open."""
        if self._next_try is None:
            self._next_try = self.reactor.callLater(0, log.callWithLogger, self, self._try)
        else:
            self._is_watched = True
            super().startWriting()

    @override
    def stopReading(self) -> None:
        """Do nothing: the connection is not read yet."""

    @override
    def stopWriting(self) -> None:
        """Stop waiting for the connection to open."""
        if self._is_watched:
            self._is_watched = False
            super().stopWriting()
        elif self._next_try is not None and self._next_try.active():
            self._next_try.cancel()

    @override
    def _connectDone(self) -> None:
        self.reactor.openings.after(super()._connectDone)

    def _try(self) -> None:
        """Check whether the connection is open, as a reactor does when a descriptor is ready."""
        try:
            self.doConnect()
        except BaseException as why:  # noqa: BLE001 - whatever it is, it is an error of this connection, as in Twisted's reactors
            log.err()
            self.reactor._disconnectSelectable(self, why, False)


class TCPClientStream(Stream, tcp.Client):
    """A TCP connection that was opened."""

    _base: Any = Stream


class TCPConnector(tcp.Connector):
    """Opens TCP connections: the first one, and another one whenever its factory asks for it."""

    @override
    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


# UNIX ----------------------------------------------------------------------------------------------------------------


class Plain(Transfer):
    """A UNIX connection that reads and writes with Twisted's own code again, because it passes descriptors."""

    def connection_lost(self, why: BaseException | None) -> None:
        """Do nothing: uvloop has closed its copy of the descriptor. uvloop calls it."""

    def writer_turn(self) -> None:
        """
        Do nothing: the writer was started when the connection left uvloop. The reactor calls it for an earlier request.
        """


class PlainUNIXServer(Plain, unix.Server):
    """An accepted UNIX connection that passes descriptors: see `Plain`."""


class PlainUNIXClient(Plain, unix.Client):
    """An opened UNIX connection that passes descriptors: see `Plain`."""


class UNIXStream(Stream):
    """
    A UNIX connection on uvloop's transport, until descriptors must be sent over it.

    uvloop uses ``read`` and ``write``. Passing descriptors needs ``recvmsg`` and ``sendmsg``, which Twisted's code
    uses. A connection whose protocol receives descriptors is never handed to uvloop. A connection that sends a
    descriptor goes back to Twisted's code: its socket is copied, and uvloop's copy is closed.
    """

    socket: Any
    fileno: Any
    _sendmsgQueue: list[int]  # noqa: N815 - these are Twisted's names
    _fileDescriptorBufferSize: int  # noqa: N815
    _plain: type

    def sendFileDescriptor(self, fileno: int) -> None:  # noqa: N802
        """
        Send a descriptor with the next bytes. See `twisted.internet.interfaces.IUNIXTransport.sendFileDescriptor`.
        """
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
    def _ends_as_it_begins(self) -> bool:
        return not self._sendmsgQueue and super()._ends_as_it_begins()

    @override
    def doWrite(self) -> Any:
        """Write the unwritten bytes, or go back to Twisted's code if descriptors must be sent."""
        if not self._sendmsgQueue:
            return super().doWrite()
        if self._stream is not None:  # `None` in a turn of `iterate` before the hand-over to uvloop
            self._leave()
        return None

    def _leave(self) -> None:
        """Go back to Twisted's code, with all bytes that are still to be read or written."""
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
    """A UNIX connection that was accepted or adopted."""

    _base: Any = UNIXStream
    _plain = PlainUNIXServer

    def __init__(self, *given: Any, **named: Any) -> None:
        Transfer.__init__(self)
        unix.Server.__init__(self, *given, **named)
        self._begin()
        self.reactor.quicken(self.protocol)


def unix_server(skt: socket.socket, protocol: IProtocol, *more: Any) -> unix.Server:
    """Make the transport of a UNIX connection: on uvloop, or Twisted's if the protocol receives descriptors."""
    takes = IFileDescriptorReceiver.providedBy(protocol)
    return (unix.Server if takes else UNIXServer)(skt, protocol, *more)


class UNIXPort(WatchedPort, unix.Port):
    """A listening UNIX socket."""

    reactor: Any
    transport: Any = staticmethod(unix_server)

    @override
    def doRead(self) -> None:
        """Accept the waiting clients, as Twisted does, and hand their connections to uvloop."""
        super().doRead()
        self.reactor.openings.now()


class UNIXClient(Transfer, unix.Client):
    """
    A UNIX connection that is being opened. If its protocol receives no descriptors, it becomes a `UNIXClientStream`.
    """

    def __init__(self, *given: Any) -> None:
        Transfer.__init__(self)
        unix.Client.__init__(self, *given)

    @override
    def startReading(self) -> None:
        """Read. When the connection is open, hand it to uvloop, unless its protocol receives descriptors."""
        if not self.connected or IFileDescriptorReceiver.providedBy(self.protocol):
            super().startReading()
        else:
            become(self, UNIXClientStream)


class UNIXClientStream(UNIXStream, unix.Client):
    """A UNIX connection that was opened."""

    _base: Any = UNIXStream
    _plain = PlainUNIXClient


class UNIXConnector(unix.Connector):
    """Opens UNIX connections."""

    @override
    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
