"""
Twisted's ports, connectors and connections for TCP and UNIX, whose open connections are uvloop's.

Accepting and connecting are Twisted's own. So a process without free descriptors, a refused connection, a timeout or an
unknown name has the same effects as under Twisted's reactors. The resulting socket goes to uvloop.
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

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

__all__ = ["TCPConnector", "TCPPort", "TCPServer", "UNIXConnector", "UNIXPort", "UNIXServer"]

IPV6 = 4
"""Parts of an address of IPv6: host, port, flow and scope."""


def become(client: Any, kind: type[Stream]) -> None:
    """Turn a connected client into a stream, and read."""
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


class TCPPort(WatchedPort, tcp.Port):
    """A listening TCP port."""

    reactor: Any
    transport = TCPServer

    @override
    def doRead(self) -> None:
        """
        Accept the waiting clients.

        It does what Twisted's method does, with fewer steps for a client. If accept(2) fails, Twisted's own method
        handles it.
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
            self.numberAccepts = most + 20 if accepted == most else max(1, accepted)  # as in Twisted
        except BaseException:  # noqa: BLE001 - as in Twisted: whatever a factory raises
            log.err()

    def _meet(self, client: socket.socket, address: Any) -> None:
        """Connect a client to the protocol that the factory makes for it."""
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


class TCPClient(tcp.Client):
    """
    A TCP connection that is being opened; once it is open, a `TCPClientStream`.

    A connection on this machine is open by the next turn, and one within a data centre soon after. So the descriptor is
    not watched until the next turn has found it not open yet.
    """

    reactor: Any
    _next_try: Any = None
    _is_watched = False

    @override
    def startReading(self) -> None:
        """Read, when it is open. Until then it is only watched for writing, which also reports a failure."""
        if self.connected:
            become(self, TCPClientStream)

    @override
    def startWriting(self) -> None:
        """Called by `doConnect`, while it is not open."""
        if self._next_try is None:
            self._next_try = self.reactor.callLater(0, log.callWithLogger, self, self._try)
        else:
            self._is_watched = True
            super().startWriting()

    @override
    def stopReading(self) -> None:
        """Does nothing: there is nothing to stop."""

    @override
    def stopWriting(self) -> None:
        if self._is_watched:
            self._is_watched = False
            super().stopWriting()
        elif self._next_try is not None and self._next_try.active():
            self._next_try.cancel()

    @override
    def _connectDone(self) -> None:
        self.reactor.openings.after(super()._connectDone)

    def _try(self) -> None:
        """Check whether it is open, as a reactor does when a descriptor is ready."""
        try:
            self.doConnect()
        except BaseException as why:  # noqa: BLE001 - whatever it is, it is an error of this connection, as in Twisted's reactors
            log.err()
            self.reactor._disconnectSelectable(self, why, False)


class TCPClientStream(Stream, tcp.Client):
    """A TCP connection that was opened."""

    _base = Stream


class TCPConnector(tcp.Connector):
    """Opens TCP connections, again whenever its factory asks for it."""

    @override
    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


# UNIX ----------------------------------------------------------------------------------------------------------------


class Plain:
    """A UNIX connection that went back to Twisted's way of reading and writing, because it passes descriptors."""

    def connection_lost(self, why: BaseException | None) -> None:
        """Called by uvloop: it has closed its copy of the descriptor."""

    def writer_turn(self) -> None:
        """Called by the reactor if a call was due while this was uvloop's: the writer has been started since."""


class PlainUNIXServer(Plain, unix.Server):
    """See `Plain`."""


class PlainUNIXClient(Plain, unix.Client):
    """See `Plain`."""


class UNIXStream(Stream):
    """
    A UNIX connection on uvloop's transport, until descriptors must be sent over it.

    uvloop reads by ``read`` and writes by ``write``. Descriptors come and go by ``recvmsg`` and ``sendmsg``, which are
    Twisted's. A connection whose protocol receives descriptors is never handed to uvloop. A connection that sends one
    goes back to Twisted: its socket is copied, and uvloop's copy closed.
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
    def _ends_as_it_begins(self) -> bool:
        return not self._sendmsgQueue and super()._ends_as_it_begins()

    @override
    def doWrite(self) -> Any:
        if not self._sendmsgQueue:
            return super().doWrite()
        if self._stream is not None:  # or in a turn of an `iterate` before it is uvloop's
            self._leave()
        return None

    def _leave(self) -> None:
        """Go back to Twisted's way, with everything that is still to be read or written."""
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
    """Make the transport of a UNIX connection: uvloop's, or Twisted's if the protocol receives descriptors."""
    takes = IFileDescriptorReceiver.providedBy(protocol)
    return (unix.Server if takes else UNIXServer)(skt, protocol, *more)


class UNIXPort(WatchedPort, unix.Port):
    """A listening UNIX socket."""

    reactor: Any
    transport: Any = staticmethod(unix_server)

    @override
    def doRead(self) -> None:
        super().doRead()
        self.reactor.openings.now()


class UNIXClient(unix.Client):
    """A UNIX connection that is being opened; then, if its protocol receives no descriptors, a `UNIXClientStream`."""

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
    """Opens UNIX connections."""

    @override
    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor, self.checkPID)
