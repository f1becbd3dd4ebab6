"""
Peers of a connection under test, and hosts for servers and clients.

`Peer` and `joined` open one connection, over the kit's `FakeTransport`. `Hosts` has servers and clients that listen and
connect, over its `Simulation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EAFNOSUPPORT
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.client.connect import connect
from tcpapp.connection.connection import Connection
from tcpapp.connection.shared_timer import SharedTimer
from tcpapp.server.factory import MessageServerFactory
from tcpapp.server.listener import Listening, listen
from tcpapp.telemetry import Closed, Event, Telemetry
from tcpapp.testing.simulation import Simulation
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.transport import FakeTransport

PEER = IPv4Address("TCP", "192.0.2.1", 4711)
"""The address of the peer of a `joined` connection. RFC 5737 reserves it for documentation."""

NO_IPV6 = CannotListenError("::", 7007, OSError(EAFNOSUPPORT, os.strerror(EAFNOSUPPORT)))
"""The error of listening on an IPv6 address where the kernel has no IPv6."""


@implementer(IStreamServerEndpoint)
class Unlistenable:
    """An endpoint whose `listen` fails with `error`."""

    def __init__(self, error: Exception = NO_IPV6) -> None:
        self.error = error

    def listen(self, factory: Any) -> Deferred[Any]:
        return fail(self.error)


class StrictClock(Clock):
    """A `Clock` that refuses delays below 0, as a reactor does."""

    def callLater(self, when: float, *args: Any, **kwargs: Any) -> Any:
        assert when >= 0
        return super().callLater(when, *args, **kwargs)


class TurnClock(StrictClock):
    """A clock that can make a single turn of a reactor. `Clock.advance` makes turns until no call is due."""

    def turn(self) -> None:
        """Make the calls that are due now, without the calls that they schedule."""
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def give_turn(self) -> None:
        """Make turns until a connection that waited for its turn has had it, or until no call is due."""
        while due := [each.func.__name__ for each in self.getDelayedCalls() if each.getTime() <= self.seconds()]:
            self.turn()
            if "_run_turn" in due:
                break


class NotedTransport(FakeTransport):
    """
    A `FakeTransport` that notes each `write` in `writes`, and calls `on_write` before ``write`` returns.

    A peer that replies inside `on_write` acts as a peer over an in-memory transport, where each end calls the other.
    `connection` is the connection of the protocol, also after its end. For a protocol without a connection, it is the
    protocol.
    """

    def __init__(self, *, clock: Clock | None = None, **options: Any) -> None:
        self.writes: list[bytes] = []
        self.on_write: Callable[[bytes], object] = lambda data: None
        super().__init__(clock=StrictClock() if clock is None else clock, **options)

    def connect(self, protocol: Any) -> None:
        self.connection = getattr(protocol, "connection", protocol)
        super().connect(protocol)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)
        self.on_write(data)


class AbruptTransport(NotedTransport):
    """
    A transport that loses its connection before `abortConnection` and `loseConnection` return.

    Twisted's transport does so if our side was closed for writing before. `StringTransportWithDisconnection` always
    does.
    """

    def loseConnection(self) -> None:
        super().loseConnection()
        self.lose()

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self.lose(ConnectionAborted())


class Peer:
    """The peer of a connection, with that `connection`, the `events` of the connection, and its `clock`."""

    def __init__(
        self, app: Any = None, framing: Any = "line", *, transport: NotedTransport | None = None, **options: Any
    ) -> None:
        self.transport = NotedTransport() if transport is None else transport
        self.clock: Clock = self.transport.reactor
        self.events: list[Event] = []
        self.factory = MessageServerFactory(app, framing, telemetry=Telemetry(self.events.append), **options)
        self.protocol: Any = self.factory.buildProtocol(None)
        self.connection: Any = self.protocol.connection
        self.transport.connect(self.protocol)

    def says(self, data: bytes) -> None:
        """Send a chunk. The connection gets it when it reads."""
        self.transport.receive(data)

    def slips_in(self, data: bytes) -> None:
        """Give the connection a chunk even if it does not read, as TLS does with bytes that it has decrypted before."""
        self.protocol.dataReceived(data)

    def hears(self) -> bytes:
        """Return the bytes that arrived since the last call."""
        heard = self.transport.value()
        self.transport.clear()
        return heard

    def half_closes(self) -> None:
        """Send FIN, and go on reading."""
        self.transport.half_close()

    def leaves(self) -> None:
        """Make a turn, in which the connection can close by itself, and then close both sides at once, as TLS does."""
        self.transport.turn()
        self.transport.lose()

    def resets(self) -> None:
        """Cut the connection without a clean close, as the network does."""
        self.transport.lose(ConnectionLost())
        self.transport.turn()

    def told(self, kind: type[Any]) -> list[Any]:
        """Return the events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reason(self) -> Any:
        """The reason of the connection's end, from its one `Closed` event."""
        [closed] = self.told(Closed)
        return closed.reason

    @property
    def timers(self) -> list[Any]:
        """The timers on the clock, except the timer of the connection's timeouts, and except calls that are due now."""
        calls = [each for each in self.clock.getDelayedCalls() if each.getTime() > self.clock.seconds()]
        return [each for each in calls if not isinstance(getattr(each.func, "__self__", None), SharedTimer)]

    @property
    def waits(self) -> list[str]:
        """The running timeouts of the connection, except `first_message`, which runs for every client of a server."""
        return [each for each in self.protocol._deadlines.started if each != "first_message"]

    @property
    def closing(self) -> bool:
        """Whether the connection is closing, or was cut."""
        return bool(self.transport.disconnecting)

    @property
    def paused(self) -> bool:
        """Whether the connection has paused reading."""
        return self.transport.producerState == "paused"


def stalled(app: Any = None, *args: Any, **options: Any) -> Peer:
    """Return a peer that reads nothing."""
    return Peer(app, *args, transport=NotedTransport(peer_reads=False), **options)


def joined(factory: Any, **options: Any) -> NotedTransport:
    """Connect a new connection of `factory`, on the factory's clock, and return its transport."""
    transport = NotedTransport(peerAddress=PEER, clock=factory.settings.clock, **options)
    transport.connect(factory.buildProtocol(PEER))
    return transport


class Hosts:
    """
    A host for servers and a host for clients, in a `Simulation`.

    The fixture ``hosts`` checks that nothing is left.
    """

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.run = sim.run
        self.server = sim.host("server")
        self.client = sim.host("client")
        self.at_end: list[Callable[[], object]] = []

    def listen(self, app: Any = None, endpoint: Any = "tcp:7007", **options: Any) -> Listening:
        """Start a server on ``server``, as `tcpapp.listen` does, and return its `Listening`."""
        listening: Listening = self.run(listen(endpoint, app, reactor=self.server.reactor, **options))
        self.at_end.append(lambda: listening.close(0))
        return listening

    def connect(self, endpoint: Any = "tcp:server:7007", *, host: Host | None = None, **options: Any) -> Any:
        """Connect from ``client`` or from `host`, as `tcpapp.connect` does, and return the connection."""
        reactor = (self.client if host is None else host).reactor
        connection: Connection = self.run(connect(endpoint, reactor=reactor, **options))
        self.at_end.append(connection.abort)
        return connection

    def wait(self, seconds: float = 1.0) -> None:
        """Let this much time pass. A second is enough for all data under way to arrive, and for the replies."""
        self.run(self.sim.now + seconds)

    def end(self) -> None:
        """Close all servers and connections that were opened here, and run the simulation until nothing happens."""
        for each in self.at_end:
            each()
        self.run()


def never(message: Any, connection: Any) -> Deferred[Any]:
    """Return a Deferred that nothing fires: an app that never replies."""
    return Deferred()


class Switch:
    """An app that notes each message in `seen`, and returns a Deferred from `pending`, which the test fires."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.pending: list[Deferred[Any]] = []

    def received(self, message: bytes, connection: Any) -> Deferred[Any]:
        self.seen.append(message)
        self.pending.append(Deferred())
        return self.pending[-1]


class Outcomes:
    """The results of named Deferreds, in the order in which they fired."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Any]] = []

    def of(self, name: str, deferred: Deferred[Any]) -> Deferred[Any]:
        """Note the result of `deferred` under `name`, and handle its failure."""
        return deferred.addBoth(lambda result: self.all.append((name, result)))

    def __getitem__(self, name: str) -> list[Any]:
        return [result.value if isinstance(result, Failure) else result for each, result in self.all if each == name]


def outcome(deferred: Deferred[Any], then: Callable[[Any], Any] = lambda result: None) -> list[Any]:
    """
    Return a list to which `deferred` adds its result or its exception when it fires.

    Then `then` is called with it.
    """
    seen: list[Any] = []

    def note(result: Any) -> None:
        seen.append(result.value if isinstance(result, Failure) else result)
        then(result)

    deferred.addBoth(note)
    return seen


def result_of(deferred: Deferred[Any]) -> Any:
    """Return what `deferred` has fired with, its exception if it failed, or `NOTHING`."""
    seen = outcome(deferred)
    return seen[0] if seen else NOTHING


NOTHING = object()
"""The result of a Deferred that has not fired."""
