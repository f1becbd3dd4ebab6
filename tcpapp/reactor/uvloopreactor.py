"""The reactor: Twisted's asyncio reactor on uvloop's loop, with TCP and UNIX connections on uvloop's transports."""

from __future__ import annotations

import asyncio
import select
import socket
from functools import partial
from typing import Any

from twisted.internet import error
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.base import ReactorBase
from twisted.internet.main import installReactor
from twisted.internet.posixbase import _NO_FILEDESC
from twisted.python import context, log
from typing_extensions import override

from tcpapp.reactor import nested
from tcpapp.reactor.children import ChildSignals
from tcpapp.reactor.connections import Connections
from tcpapp.reactor.contexts import SharedContext
from tcpapp.reactor.descriptors import Descriptors
from tcpapp.reactor.loop import Loop
from tcpapp.reactor.opening import Openings
from tcpapp.reactor.ports import Ports, WatchedPort
from tcpapp.reactor.sockets import TCPConnector, TCPPort, TCPServer, UNIXConnector, UNIXPort, UNIXServer, unix_server
from tcpapp.reactor.stream import Stream
from tcpapp.reactor.timers import TimedReactor

try:
    from tcpapp.reactor.tls import quicken
except ImportError:  # no pyOpenSSL: there is no TLS

    def quicken(protocol: Any) -> None:
        """Do nothing."""


__all__ = ["UvloopReactor", "install"]

TURNS_AT_ONCE = 3
"""The turns of the loop in ``iterate(0)``: the first reads, the second writes, the third closes a socket."""


class UvloopReactor(TimedReactor):
    """
    A reactor for any Twisted program, on uvloop.

    Connections over TCP and UNIX sockets read and write through uvloop's transports (see `tcpapp.reactor.stream`).
    Timers and calls from threads run in turns (see `tcpapp.reactor.timers`). Ports, datagrams, processes and threads
    are Twisted's. Their descriptors are watched as on Twisted's epoll reactor (see `tcpapp.reactor.descriptors`).
    """

    _asyncioEventloop: Loop  # noqa: N815 - Twisted's name

    def __init__(self, loop: Loop | None = None) -> None:
        """Run on `loop`, or on a new loop."""
        loop = loop or Loop()
        self._writers_due: list[Stream] = []
        self._room = memoryview(b"")
        self._contexts: Any = context.theContextTracker.currentContext().contexts
        self._waits = False
        self.inside = 0
        """The number of calls of `iterate` that are running inside callbacks."""
        self.openings = Openings(loop)
        self.shared = SharedContext()
        self.connections = Connections(partial(loop.call_soon, self.shared.run))
        self.ports = Ports(loop, self.openings, self._look_at_port)
        self.descriptors: Any = None
        if hasattr(select, "epoll"):
            self.descriptors = Descriptors(loop, self._look_at_descriptors, self._disconnectSelectable)
        self._children = ChildSignals(self, loop)
        super().__init__(loop, self.shared.context)

    @override
    def startRunning(self, *given: Any, **named: Any) -> None:
        """Begin to run, in this thread."""
        self._contexts = context.theContextTracker.currentContext().contexts
        self.shared.enter(partial(super().startRunning, *given, **named))

    @override
    def _signalsFactory(self) -> Any:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), self._children))

    @override
    def spawnProcess(self, *given: Any, **named: Any) -> Any:
        """Start a process. See `twisted.internet.interfaces.IReactorProcess.spawnProcess`."""
        process = super().spawnProcess(*given, **named)
        self._children.follow()
        return process

    @override
    def run(self, installSignalHandlers: bool = True) -> None:
        """Run until `stop` or ``crash``. A stop of the loop by `iterate` does not end it."""
        with self.shared.all_of_it():
            self.startRunning(installSignalHandlers=installSignalHandlers)
            while self._started:
                self._asyncioEventloop.run_forever()
        self._justStopped = False

    @override
    def iterate(self, delay: float = 0) -> None:
        """
        Run all calls that are due, wait at most `delay` seconds for an event, and handle the event.

        For 0 seconds, it takes as many turns as are needed to read, to reply, and to close. For a call inside a
        callback, see `tcpapp.reactor.nested`.
        """
        if self._asyncioEventloop.is_running():
            self.shared.enter(nested.go_round, self, delay)
            return
        self._contexts = context.theContextTracker.currentContext().contexts
        with self.shared.all_of_it():
            if delay > 0:
                self._wait(delay)
            for _ in range(TURNS_AT_ONCE):
                self._asyncioEventloop.call_soon(self._asyncioEventloop.stop)
                self._asyncioEventloop.run_forever()

    def _wait(self, delay: float) -> None:
        loop, before = self._asyncioEventloop, self._contexts
        self._contexts, self._waits = (), True  # so that each chunk calls `something_came`
        end = loop.call_later(delay, loop.stop)
        try:
            loop.run_forever()
        finally:
            end.cancel()
            self._contexts, self._waits = before, False

    def something_came(self) -> None:
        """End the wait of `iterate`, because bytes were read or a connection has ended."""
        if self._waits:
            self._asyncioEventloop.stop()

    # Timers and threads ------------------------------------------------------------------------------------------

    @override
    def wakeUp(self) -> None:
        """Run the calls from threads in the next turn. Any thread and any handler of a signal can call it."""
        super().wakeUp()
        if self.inside:
            ReactorBase.wakeUp(self)

    @override
    def _woken_turn(self) -> None:
        self.something_came()
        super()._woken_turn()

    # Connections -------------------------------------------------------------------------------------------------

    @override
    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a TCP port. See `twisted.internet.interfaces.IReactorTCP.listenTCP`."""
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    @override
    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None) -> Any:
        """Open a TCP connection. See `twisted.internet.interfaces.IReactorTCP.connectTCP`."""
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    @override
    def listenUNIX(self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0) -> Any:
        """Listen on a UNIX socket. See `twisted.internet.interfaces.IReactorUNIX.listenUNIX`."""
        listening = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    @override
    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: Any = 0) -> Any:
        """Connect to a UNIX socket. See `twisted.internet.interfaces.IReactorUNIX.connectUNIX`."""
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    @override
    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """
        Listen with a socket that listens already. See `twisted.internet.interfaces.IReactorSocket.adoptStreamPort`.
        """
        self._check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            listening = UNIXPort._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            listening = TCPPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    @override
    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """Use a connected socket. See `twisted.internet.interfaces.IReactorSocket.adoptStreamConnection`."""
        self._check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return UNIXServer._fromConnectedSocket(fileDescriptor, factory, self)
        return TCPServer._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    def _check_family(self, family: int) -> None:
        if family not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(family)

    # For the connections ----------------------------------------------------------------------------------------------

    def room(self, size: int) -> memoryview:
        """
        Return the buffer for a connection that reads at most `size` bytes at once. All connections share it, one at a
        time.
        """
        if size > len(self._room):
            self._room = memoryview(bytearray(size))
        return self._room[:size]

    unix_server = staticmethod(unix_server)
    """The function that makes the transport of a UNIX connection that a port of another class accepted."""

    quicken = staticmethod(quicken)
    """The function that is called with the protocol of each new connection before it is connected."""

    def _call_writer_of(self, stream: Stream) -> None:
        """Call a connection's `Stream.writer_turn` in the next turn of the loop."""
        if not self._writers_due:
            self._asyncioEventloop.call_soon(self.shared.run, self._call_writers)
        self._writers_due.append(stream)

    def _call_writers(self) -> None:
        due, self._writers_due = self._writers_due, []
        for stream in due:
            try:
                stream.writer_turn()
            except BaseException:  # noqa: BLE001 - an error of one connection must not concern others
                log.err()

    def has_begun(self, stream: Stream) -> None:
        """Add a connection before it is handed to uvloop. Raises `OSError` if the system cannot watch it."""
        if self.descriptors is not None:
            self.descriptors.forget(stream.fileno())  # an older connection with this descriptor has closed it
        self.connections.add(stream)
        try:
            self.openings.watch(stream.fileno())
        except OSError:
            self.connections.discard(stream)
            raise

    def has_ended(self, stream: Stream) -> None:
        """Remove a connection that has ended. Its descriptor is closed in the next turn."""
        if self.descriptors is not None:
            self.descriptors.forget(stream.fileno())
        self.connections.discard(stream)

    # Readers and writers
    # -------------------------------------------------------------------------------------------------

    def _look_at_descriptors(self) -> None:
        self.something_came()
        self.shared.run(self.descriptors.dispatch)

    def _look_at_port(self, port: Any) -> None:
        self.something_came()
        self.shared.run(self.accept, port)

    def accept(self, port: Any) -> None:
        """Let a port accept the waiting clients. The port is lost if the program has closed its descriptor."""
        if port.was_closed:
            self._disconnectSelectable(port, _NO_FILEDESC, False)
        else:
            log.callWithLogger(port, port.doRead)

    def is_read(self, descriptor: int) -> bool:
        """Return whether this descriptor has a reader that is no connection on uvloop."""
        return self.descriptors is not None and self.descriptors.is_read(descriptor)

    @override
    def addReader(self, reader: Any) -> None:
        """
        Call ``doRead`` of `reader` whenever its descriptor is readable.

        As on Twisted's epoll reactor, a second reader of a descriptor is ignored. See
        `twisted.internet.interfaces.IReactorFDSet.addReader`.
        """
        if isinstance(reader, Stream):
            reader.startReading()
        elif self.descriptors is None:
            super().addReader(reader)
        elif isinstance(reader, WatchedPort):
            self.ports.add(reader)
        elif not ((stream := self.connections.get(reader.fileno())) and stream._reading):
            try:
                self.descriptors.add_reader(reader)
            except PermissionError:  # a file
                self._continuousPolling.addReader(reader)

    @override
    def addWriter(self, writer: Any) -> None:
        """Call ``doWrite`` of `writer` whenever its descriptor is writable. See `addReader`."""
        if isinstance(writer, Stream):
            writer.startWriting()
        elif self.descriptors is None:
            super().addWriter(writer)
        elif not ((stream := self.connections.get(writer.fileno())) and stream._writing):
            try:
                self.descriptors.add_writer(writer)
            except PermissionError:  # a file
                self._continuousPolling.addWriter(writer)

    @override
    def removeReader(self, reader: Any) -> None:
        """Stop calling ``doRead`` of `reader`. See `twisted.internet.interfaces.IReactorFDSet.removeReader`."""
        if isinstance(reader, Stream):
            reader.stopReading()
            self._is_taken_off(reader)
        elif isinstance(reader, WatchedPort) and self.descriptors is not None:
            self.ports.remove(reader)
        elif self.descriptors is None or self._continuousPolling.isReading(reader):
            super().removeReader(reader)
        else:
            self.descriptors.remove_reader(reader)

    @override
    def removeWriter(self, writer: Any) -> None:
        """Stop calling ``doWrite`` of `writer`. See `twisted.internet.interfaces.IReactorFDSet.removeWriter`."""
        if isinstance(writer, Stream):
            writer.stopWriting()
            self._is_taken_off(writer)
        elif self.descriptors is None or self._continuousPolling.isWriting(writer):
            super().removeWriter(writer)
        else:
            self.descriptors.remove_writer(writer)

    def _is_taken_off(self, stream: Stream) -> None:
        if not (stream._reading or stream._writing):
            self.connections.lend(stream)
            self.openings.ended(stream)  # they would hold it

    @override
    def removeAll(self) -> list[Any]:
        """Stop all reading and writing, and return all readers and writers."""
        return list(self._removeAll(self.getReaders(), self.getWriters()))

    @override
    def getReaders(self) -> list[Any]:
        """Return all readers."""
        plain = [] if self.descriptors is None else self.descriptors.readers
        return [*super().getReaders(), *plain, *self.ports, *(stream for stream in self.connections if stream._reading)]

    @override
    def getWriters(self) -> list[Any]:
        """Return all writers."""
        plain = [] if self.descriptors is None else self.descriptors.writers
        return [*super().getWriters(), *plain, *(stream for stream in self.connections if stream._writing)]


def install() -> None:
    """Install a `UvloopReactor` on a new loop, which is also the process's loop of asyncio."""
    reactor = UvloopReactor()
    asyncio.set_event_loop(reactor._asyncioEventloop)
    installReactor(reactor)
