"""The reactor: Twisted's asyncio reactor on uvloop's loop, whose TCP and UNIX connections are uvloop's own."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.main import installReactor
from twisted.python import context, log
from twisted.python.log import ILogContext
from typing_extensions import override

from tcpapp.reactor.children import ChildSignals
from tcpapp.reactor.loop import Loop
from tcpapp.reactor.sockets import TCPConnector, TCPPort, TCPServer, UNIXConnector, UNIXPort, UNIXServer, unix_server

try:
    from tcpapp.reactor.tls import quicken
except ImportError:  # no pyOpenSSL: there is no TLS

    def quicken(protocol: Any) -> None:
        """Do nothing."""


if TYPE_CHECKING:
    from tcpapp.reactor.stream import Stream

__all__ = ["UvloopReactor", "install"]

TURNS_AT_ONCE = 3
"""Turns of the loop in ``iterate(0)``: in the first is read, in the second written, in the third a socket closed."""


class Watches:
    """
    Reserves for a new connection the watch that libuv will need for it.

    libuv ends the process where ``epoll_ctl`` fails: for memory, or as /proc/sys/fs/epoll/max_user_watches is reached.
    So a descriptor is watched here from when it is accepted until libuv's own watch takes the place of this one.
    """

    def __init__(self) -> None:
        """Reserve nothing yet; where there is no epoll, never."""
        self._epoll = select.epoll() if hasattr(select, "epoll") else None

    def reserve(self, descriptor: int) -> None:
        """Reserve one. Raises `OSError` where the system has none left."""
        if self._epoll is not None:
            self._epoll.register(descriptor, 0)

    def release(self, descriptor: int) -> None:
        """Give it back: libuv watches the descriptor before this turn of the loop is over."""
        if self._epoll is not None:
            self._epoll.unregister(descriptor)


class UvloopReactor(AsyncioSelectorReactor):
    """
    A reactor for any Twisted program, on uvloop.

    TCP and UNIX stream connections, opened and accepted, read and write through uvloop's transports (see
    `tcpapp.reactor.stream`). Ports, datagrams, processes, threads, signals and timers are Twisted's, watched by
    uvloop's loop, as by any loop of asyncio's.
    """

    _asyncioEventloop: Loop  # noqa: N815 - Twisted's name

    def __init__(self, loop: Loop | None = None) -> None:
        """Make one on a loop, or on a new one."""
        self._streams: set[Stream] = set()
        self._writers_due: list[Stream] = []
        self._room = memoryview(b"")
        self.watches = Watches()
        self._system = dict(context.defaultContextDict.get(ILogContext, {}))
        self._context = {ILogContext: self._system}
        self._contexts = context.theContextTracker.currentContext().contexts
        super().__init__(loop or Loop())

    @override
    def startRunning(self, *given: Any, **named: Any) -> None:
        """Begin to run, in this thread."""
        self._contexts = context.theContextTracker.currentContext().contexts
        super().startRunning(*given, **named)

    @override
    def _signalsFactory(self) -> Any:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), ChildSignals(self.callFromThread)))

    @override
    def run(self, installSignalHandlers: bool = True) -> None:
        """Run until `stop` or ``crash``. That the loop was stopped before, while `iterate` ran it, ends nothing."""
        self.startRunning(installSignalHandlers=installSignalHandlers)
        while self._started:
            self._asyncioEventloop.run_forever()
        self._justStopped = False

    @override
    def iterate(self, delay: float = 0) -> None:
        """Go round for so many seconds; for none, as often as it takes to read, to answer, and to close."""
        loop = self._asyncioEventloop
        if delay > 0:
            loop.call_later(delay, loop.stop)
            loop.run_forever()
        else:
            for _ in range(TURNS_AT_ONCE):
                loop.call_soon(loop.stop)
                loop.run_forever()

    # Connections -------------------------------------------------------------------------------------------------

    @override
    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See `twisted.internet.interfaces.IReactorTCP.listenTCP`."""
        listening = TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    @override
    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30.0, bindAddress: Any = None) -> Any:
        """See `twisted.internet.interfaces.IReactorTCP.connectTCP`."""
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    @override
    def listenUNIX(self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: Any = 0) -> Any:
        """See `twisted.internet.interfaces.IReactorUNIX.listenUNIX`."""
        listening = UNIXPort(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    @override
    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: Any = 0) -> Any:
        """See `twisted.internet.interfaces.IReactorUNIX.connectUNIX`."""
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    @override
    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See `twisted.internet.interfaces.IReactorSocket.adoptStreamPort`."""
        self._check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            listening = UNIXPort._fromListeningDescriptor(self, fileDescriptor, factory)
        else:
            listening = TCPPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        listening.startListening()
        return listening

    @override
    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: int, factory: Any) -> Any:
        """See `twisted.internet.interfaces.IReactorSocket.adoptStreamConnection`."""
        self._check_family(addressFamily)
        if addressFamily == socket.AF_UNIX:
            return UNIXServer._fromConnectedSocket(fileDescriptor, factory, self)
        return TCPServer._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    def _check_family(self, family: int) -> None:
        if family not in self._supportedAddressFamilies:
            raise error.UnsupportedAddressFamily(family)

    # What the connections need -----------------------------------------------------------------------------------

    def room(self, size: int) -> memoryview:
        """Return where a connection that reads so many bytes at once is read to; all have the same, one at a time."""
        if size > len(self._room):
            self._room = memoryview(bytearray(size))
        return self._room[:size]

    unix_server = staticmethod(unix_server)
    """What makes the transport of a UNIX connection that a port of another kind accepted."""

    quicken = staticmethod(quicken)
    """Called with the protocol of each new connection, before it is connected."""

    def _call_writer_of(self, stream: Stream) -> None:
        """Call a connection's `Stream.writer_turn` in the next turn of the loop."""
        if not self._writers_due:
            self._asyncioEventloop.call_soon(self._call_writers)
        self._writers_due.append(stream)

    def _call_writers(self) -> None:
        due, self._writers_due = self._writers_due, []
        for stream in due:
            try:
                stream.writer_turn()
            except BaseException:  # noqa: BLE001 - one connection's fault is no other's
                log.err()

    # Who is read and written -------------------------------------------------------------------------------------

    @override
    def removeAll(self) -> list[Any]:
        """Stop all reading and writing; return who did."""
        active = [stream for stream in self._streams if stream._reading or stream._writing]
        for stream in active:
            stream.stopReading()
            stream.stopWriting()
        return [*super().removeAll(), *active]

    @override
    def getReaders(self) -> list[Any]:
        """Return who is read from."""
        return [*super().getReaders(), *(stream for stream in self._streams if stream._reading)]

    @override
    def getWriters(self) -> list[Any]:
        """Return who has something to write."""
        return [*super().getWriters(), *(stream for stream in self._streams if stream._writing)]


def install() -> None:
    """Make such a reactor, on a new loop that is asyncio's too, the one of this process."""
    reactor = UvloopReactor()
    asyncio.set_event_loop(reactor._asyncioEventloop)
    installReactor(reactor)
