"""
The other end of a connection under test, and what its own end's user sees.

`Peer` and `joined` are for one connection, over the kit's `FakeTransport`; `Hosts` is for servers and clients that
listen and connect, over its `Simulation`.
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
from tcpapp.server.factory import MessageServerFactory
from tcpapp.server.listener import Listening, listen
from tcpapp.telemetry import Closed, Event, Telemetry
from tcpapp.testing.simulation import Simulation
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.transport import FakeTransport

PEER = IPv4Address("TCP", "192.0.2.1", 4711)
"""Where the peer of a `joined` connection is (RFC 5737: nowhere)."""

NO_IPV6 = CannotListenError("::", 7007, OSError(EAFNOSUPPORT, os.strerror(EAFNOSUPPORT)))
"""What listening on an IPv6 address says where the kernel has none."""


@implementer(IStreamServerEndpoint)
class Unlistenable:
    """An endpoint that cannot be listened on, for the reason `error`."""

    def __init__(self, error: Exception = NO_IPV6) -> None:
        self.error = error

    def listen(self, factory: Any) -> Deferred[Any]:
        return fail(self.error)


class StrictClock(Clock):
    """A `Clock` that takes no delay below 0, as a reactor does not."""

    def callLater(self, when: float, *args: Any, **kwargs: Any) -> Any:
        assert when >= 0
        return super().callLater(when, *args, **kwargs)


class TurnClock(StrictClock):
    """A clock on which one turn of a reactor can be made: `Clock.advance` makes as many as there is work for."""

    def turn(self) -> None:
        """Make the calls that are due now, and none that those set."""
        for call in [each for each in self.calls if each.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def give_turn(self) -> None:
        """Make turns until one of the connections that wait for theirs has had it, or nothing is left to do."""
        while due := [each.func.__name__ for each in self.getDelayedCalls() if each.getTime() <= self.seconds()]:
            self.turn()
            if "_run_turn" in due:
                break


class NotedTransport(FakeTransport):
    """
    A `FakeTransport` that notes each `write` in `writes`, and tells `on_write` of it before ``write`` returns.

    A peer that answers then and there stands for lines in memory where each end calls the other. `connection` is the
    connection of its protocol, after the end too; a protocol of another kind itself.
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
    A transport whose connection is lost before `abortConnection` and `loseConnection` return.

    Twisted's own does that where our side was closed for writing before, and `StringTransportWithDisconnection` always.
    """

    def loseConnection(self) -> None:
        super().loseConnection()
        self.lose()

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self.lose(ConnectionAborted())


class Peer:
    """The other end of a connection, and what its own end's user sees: `connection`, `events`, `clock`."""

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
        """Send a chunk: the connection is given it when it reads."""
        self.transport.receive(data)

    def slips_in(self, data: bytes) -> None:
        """Give the connection a chunk that it did not ask for, as TLS does with bytes it has already decrypted."""
        self.protocol.dataReceived(data)

    def hears(self) -> bytes:
        """Give the bytes since the last call."""
        heard = self.transport.value()
        self.transport.clear()
        return heard

    def half_closes(self) -> None:
        """Send FIN and go on reading."""
        self.transport.half_close()

    def leaves(self) -> None:
        """See the connection closed: let its own end finish, if it does, and close both sides at once, as TLS does."""
        self.transport.turn()
        self.transport.lose()

    def resets(self) -> None:
        """Cut the connection."""
        self.transport.lose(ConnectionLost())
        self.transport.turn()

    def told(self, kind: type[Any]) -> list[Any]:
        """Give the events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reason(self) -> Any:
        """Why the connection ended, from its one `Closed` event."""
        [closed] = self.told(Closed)
        return closed.reason

    @property
    def timers(self) -> list[Any]:
        """The timers on its clock, beside the one of the connection's timeouts, and turns, which are due now."""
        calls = [each for each in self.clock.getDelayedCalls() if each.getTime() > self.clock.seconds()]
        return [each for each in calls if getattr(each.func, "__self__", None) is not self.protocol._deadlines]

    @property
    def waits(self) -> list[str]:
        """The running timeouts, except the timeouts of every client of a server."""
        return [each for each in self.protocol._deadlines.started if each != "first_message"]

    @property
    def closing(self) -> bool:
        """Whether the connection closes, or was cut."""
        return bool(self.transport.disconnecting)

    @property
    def paused(self) -> bool:
        """Whether the connection has stopped to read."""
        return self.transport.producerState == "paused"


def stalled(app: Any = None, *args: Any, **options: Any) -> Peer:
    """A peer that reads nothing."""
    return Peer(app, *args, transport=NotedTransport(peer_reads=False), **options)


def joined(factory: Any, **options: Any) -> NotedTransport:
    """A new connection of `factory`, on the factory's clock: the transport of that ``connection``."""
    transport = NotedTransport(peerAddress=PEER, clock=factory.settings.clock, **options)
    transport.connect(factory.buildProtocol(PEER))
    return transport


class Hosts:
    """A host for servers and one for clients, in a `Simulation`. The fixture ``hosts`` sees that nothing is left."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.run = sim.run
        self.server = sim.host("server")
        self.client = sim.host("client")
        self.at_end: list[Callable[[], object]] = []

    def listen(self, app: Any = None, endpoint: Any = "tcp:7007", **options: Any) -> Listening:
        """A server on ``server``, as from `tcpapp.listen`."""
        listening: Listening = self.run(listen(endpoint, app, reactor=self.server.reactor, **options))
        self.at_end.append(lambda: listening.close(0))
        return listening

    def connect(self, endpoint: Any = "tcp:server:7007", *, host: Host | None = None, **options: Any) -> Any:
        """A connection from ``client`` (or `host`), as from `tcpapp.connect`."""
        reactor = (self.client if host is None else host).reactor
        connection: Connection = self.run(connect(endpoint, reactor=reactor, **options))
        self.at_end.append(connection.abort)
        return connection

    def wait(self, seconds: float = 1.0) -> None:
        """Let this much time pass: a second is enough for everything under way to arrive, and its answer."""
        self.run(self.sim.now + seconds)

    def end(self) -> None:
        """Cut what was opened here, and do whatever else is to be done `at_end`; what is left then was left behind."""
        for each in self.at_end:
            each()
        self.run()


def never(message: Any, connection: Any) -> Deferred[Any]:
    """An app that never replies."""
    return Deferred()


class Switch:
    """An app whose replies are Deferreds that the test fires, and which knows its unanswered messages."""

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


def outcome(deferred: Deferred[Any], then: Callable[[Any], Any] = lambda result: None) -> list[Any]:
    """What `deferred` fires with, as it fires: its result, or its exception; then `then` is called with that."""
    seen: list[Any] = []

    def note(result: Any) -> None:
        seen.append(result.value if isinstance(result, Failure) else result)
        then(result)

    deferred.addBoth(note)
    return seen


def result_of(deferred: Deferred[Any]) -> Any:
    """Give what `deferred` has fired with, the exception if it failed, or `NOTHING`."""
    seen = outcome(deferred)
    return seen[0] if seen else NOTHING


NOTHING = object()
"""What a Deferred gives that has not fired."""
