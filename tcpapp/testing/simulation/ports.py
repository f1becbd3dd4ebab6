"""The ports, connectors and transports of a simulated reactor."""

# ruff: noqa: N802  # the names are those of Twisted's interfaces

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.base import BaseConnector
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IListeningPort
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.testing.buffered import BufferedTransport
from tcpapp.testing.simulation.line import SimulatedSocket
from tcpapp.testing.simulation.timeline import Later, Timeline

if TYPE_CHECKING:
    from tcpapp.testing.simulation.reactor import SimulatedReactor

__all__ = ["ClientTransport", "Connector", "Port", "ServerTransport"]


_log = Logger()


class ServerTransport(BufferedTransport):
    """A `BufferedTransport`. The seed orders its turns."""

    reactor: Any
    _next_turn: Any

    _ask = BufferedTransport.wake  # the seed orders the turns, whether or not one is running

    def later(self, call: Callable[[], None]) -> Any:
        """Schedule `call` for this moment, in a random place among the other events of the moment."""
        reactor: SimulatedReactor = self.reactor
        timeline: Timeline = reactor.timeline
        turn = Later(call)
        timeline.at(timeline.now, reactor.turns.io_place(), reactor.turns, Later.happen, turn)
        return turn


class ClientTransport(ServerTransport):
    """A connection that a connector made. It reports its end to the connector."""

    connector: Connector

    def connectionLost(self, reason: Failure) -> None:
        """End the connection, and report it to the connector."""
        lost = self.disconnected
        super().connectionLost(reason)
        if not lost:
            self.connector.connectionLost(reason)


class _Attempt:
    """Stands for the transport while its connector is connecting."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self.over = False

    def failIfNotConnected(self, error: Any) -> None:
        """Fail the attempt with `error`, unless it has ended."""
        if not self.over:
            self.over = True
            self._connector.connectionFailed(Failure(error))


@implementer(IConnector)
class Connector(BaseConnector):
    """Twisted's own connector. `start` begins each attempt, also for a later ``connect()``."""

    reactor: Any
    transport: Any

    def __init__(
        self,
        reactor: SimulatedReactor,
        factory: Any,
        timeout: float,
        destination: IAddress,
        start: Callable[[Connector, _Attempt], None],
    ) -> None:
        super().__init__(factory, timeout, reactor)  # type: ignore[arg-type]  # only its time is used
        self._destination = destination
        self._start = start

    def getDestination(self) -> IAddress:
        """Return the address that it was asked to connect to."""
        return self._destination

    def connected(self, attempt: _Attempt, socket: SimulatedSocket, host: IAddress, peer: IAddress) -> None:
        """Note that the attempt has a connection, on this `socket`."""
        attempt.over = True
        self.reactor.timeline.whose = (
            self.reactor.turns
        )  # the code of its host runs now, although an event of the line called
        try:
            protocol = self.buildProtocol(peer)
        except Exception:  # noqa: BLE001  # the factory can raise anything; Twisted logs it and drops the connection
            _log.failure("no protocol for the connection to {peer}", peer=peer)
            socket.close()
            self.connectionFailed(Failure())
            return
        transport = ClientTransport(socket, protocol or Protocol(), self.reactor, host=host, peer=peer, client=True)
        transport.connector = self
        self.transport = transport
        transport.open()
        if protocol is None:
            transport.loseConnection()

    def _makeTransport(self) -> Any:
        attempt = _Attempt(self)
        self._start(self, attempt)
        return attempt


@implementer(IListeningPort)
class Port:
    """
    An open port of a simulated host: the kernel's queue of connections, and accepting them as Twisted does.

    As with Twisted's own ports, ``stopReading`` suspends it; then new connections wait in the backlog.
    """

    def __init__(
        self, reactor: SimulatedReactor, factory: Any, backlog: int, address: IAddress, closed: Callable[[Port], None]
    ) -> None:
        self.reactor = reactor
        self.factory = factory
        self.backlog = backlog
        self.interface = ""
        self.waiting: deque[tuple[SimulatedSocket, IAddress, IAddress]] = deque()
        self._address = address
        self._closed = closed
        self._reads = False
        self.disconnecting = False
        self.listening = False

    def getHost(self) -> IAddress:
        """Return the address where it listens."""
        return self._address

    def startListening(self) -> None:
        """Begin to accept connections."""
        self.factory.doStart()
        self.listening = True
        self.startReading()

    def stopListening(self) -> Deferred[None] | None:
        """Stop accepting. Connections in the backlog are reset. The Deferred fires when the port is closed."""
        self.disconnecting = True
        self.stopReading()
        if not self.listening:
            return None
        return deferLater(self.reactor, 0, self._close)

    loseConnection = stopListening

    def startReading(self) -> None:
        """Accept waiting and new connections."""
        self._reads = True
        self._wake()

    def stopReading(self) -> None:
        """Leave new connections in the backlog."""
        self._reads = False

    def come(self, socket: SimulatedSocket, host: IAddress, peer: IAddress) -> None:
        """Put a new connection into the backlog."""
        self.waiting.append((socket, host, peer))
        self._wake()

    def _wake(self) -> None:
        if self._reads and self.waiting:
            timeline, turns = self.reactor.timeline, self.reactor.turns
            timeline.at(timeline.now, turns.io_place(), turns, self._accept, None)

    def _accept(self, _: object) -> None:
        while self._reads and self.waiting:
            socket, host, peer = self.waiting.popleft()
            protocol = None
            try:
                protocol = self.factory.buildProtocol(peer)
                if protocol is not None:
                    ServerTransport(socket, protocol, self.reactor, host=host, peer=peer).open()
            except Exception:  # noqa: BLE001  # factory and protocol can raise anything; Twisted logs it and continues
                _log.failure("no protocol for the connection from {peer}", peer=peer)
            if protocol is None:
                socket.close()

    def _close(self) -> None:
        if self.listening:
            self.listening = False
            self._closed(self)
            self.factory.doStop()
