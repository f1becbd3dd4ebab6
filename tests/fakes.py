"""The other end of a connection, in memory: a transport with a write mark, and the peer's hand on it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tcpapp.connection import MessageProtocol
from tcpapp.server import MessageServerFactory
from tcpapp.telemetry import Closed, Event, Telemetry


class StrictClock(Clock):
    """A `Clock` that takes no delay below 0, as a reactor does not."""

    def callLater(self, when: float, *args: Any, **kwargs: Any) -> Any:
        assert when >= 0
        return super().callLater(when, *args, **kwargs)


class Transport(StringTransport):
    """
    A `StringTransport` that does what real ones do.

    What the peer does not take (`reading` is false) waits; over `bufferSize` the producer is paused, and it is resumed
    when all is taken. What is written after `loseConnection` is dropped, as TLS has it. `writes` holds each write.
    """

    bufferSize = 65536

    def __init__(self, reactor: Clock | None = None) -> None:
        super().__init__()
        if reactor is not None:
            self.reactor = reactor
        self.reading = True
        self.aborted = False
        self.writes: list[bytes] = []
        self.unsent = b""
        self._paused = False

    def write(self, data: bytes) -> None:
        if self.disconnecting:
            return
        self.writes.append(data)
        self.unsent += data
        if self.reading:
            self.take()
        elif len(self.unsent) > self.bufferSize and self.producer is not None and not self._paused:
            self._paused = True
            self.producer.pauseProducing()

    def take(self, count: int | None = None) -> None:
        """Let the peer take `count` bytes, or all."""
        taken, self.unsent = (self.unsent, b"") if count is None else (self.unsent[:count], self.unsent[count:])
        self.io.write(taken)
        if not self.unsent and self._paused and self.producer is not None:
            self._paused = False
            self.producer.resumeProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class AbruptTransport(Transport):
    """A transport whose connection is lost before `abortConnection` and `loseConnection` return."""

    protocol: MessageProtocol

    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionAborted() if self.aborted else ConnectionDone()))


class Loop(Transport):
    """One end of a line in memory: what is written has been handled at the other end before `write` returns."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Any = None

    def write(self, data: bytes) -> None:
        super().write(data)
        self.other.dataReceived(data)


class Answering:
    """The other end of a `Loop`: says what `answer` makes of each piece."""

    def __init__(self, peer: Peer, answer: Any) -> None:
        self.peer = peer
        self.answer = answer

    def dataReceived(self, data: bytes) -> None:
        said = self.answer(data)
        if said:
            self.peer.says(said)


class Peer:
    """The other end of a connection, and what its own end's user sees: `connection`, `events`, `clock`."""

    def __init__(
        self, app: Any = None, framing: Any = "line", *, transport: Transport | None = None, **options: Any
    ) -> None:
        self.clock = StrictClock()
        self.events: list[Event] = []
        options.setdefault("clock", self.clock)
        self.factory = MessageServerFactory(app, framing, telemetry=Telemetry(self.events.append), **options)
        self.connection: Any = self.factory.buildProtocol(None)
        self.transport = Transport() if transport is None else transport
        self.transport.protocol = self.connection
        self.connection.makeConnection(self.transport)

    def says(self, data: bytes) -> None:
        """Send a chunk, if the connection reads."""
        self.connection.dataReceived(data)

    def hears(self) -> bytes:
        """Give what has come since it was last asked for."""
        heard = self.transport.value()
        self.transport.clear()
        return heard

    def half_closes(self) -> None:
        """Send FIN and go on reading."""
        self.connection.readConnectionLost()

    def leaves(self) -> None:
        """Close both sides."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    def resets(self) -> None:
        """Cut the connection."""
        self.connection.connectionLost(Failure(ConnectionLost()))

    def told(self, kind: type[Any]) -> list[Any]:
        """Give the events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reason(self) -> Any:
        """Why the connection ended, as its one `Closed` event has it."""
        [closed] = self.told(Closed)
        return closed.reason

    @property
    def closing(self) -> bool:
        """Whether the connection sent FIN, or cut."""
        return self.transport.disconnecting

    @property
    def paused(self) -> bool:
        """Whether the connection has stopped to read."""
        return self.transport.producerState == "paused"


class Switch:
    """An app whose replies are Deferreds that the test fires, and which knows what it has in hand."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.pending: list[Deferred[Any]] = []

    def received(self, message: bytes, connection: Any) -> Deferred[Any]:
        self.seen.append(message)
        self.pending.append(Deferred())
        return self.pending[-1]


class Outcomes:
    """How Deferreds ended: each one's results, in the order in which they came."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []

    def of(self, name: str, deferred: Deferred[Any]) -> Deferred[Any]:
        """Note how `deferred` ends, and take its failure."""
        return deferred.addBoth(lambda result: self.all.append((name, result)))

    def __getitem__(self, name: str) -> list[Any]:
        return [result.value if isinstance(result, Failure) else result for each, result in self.all if each == name]


def result_of(deferred: Deferred[Any]) -> Any:
    """Give what `deferred` has fired with, the exception if it failed, or `NOTHING`."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if not results:
        return NOTHING
    [result] = results
    return result.value if isinstance(result, Failure) else result


NOTHING = object()
"""What a Deferred gives that has not fired."""
