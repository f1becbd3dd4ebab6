"""The server: who is connected, and how many may be."""

from __future__ import annotations

import sys
from collections.abc import Set as AbstractSet
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.python.failure import Failure
from typing_extensions import Unpack

from tcpapp.addresses import server_endpoint
from tcpapp.admission import Admission, Refusal
from tcpapp.close_reason import CloseReason
from tcpapp.connection import MessageProtocol
from tcpapp.doors import Doors
from tcpapp.errors import NotConnected
from tcpapp.framing import Framing
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.networks import Networks, ip_of
from tcpapp.pace import Pace
from tcpapp.settings import Options, Settings
from tcpapp.telemetry import Refused

__all__ = ["Listening", "MessageServerFactory", "TurnedAway", "close_port", "listen"]


MOST_TOLD = 200
"""Characters of what a peer sent that are told: a line of a log, as NATS cuts it."""


class MessageServerFactory(ServerFactory):
    """
    A `ServerFactory` that serves `app` on every connection, for any endpoint or ``reactor.listenTCP``.

    See `Settings` for the arguments and their errors. A client for whom there is no room (``max_connections``,
    ``max_per_address``, ``max_per_network``) is closed at once, or as the policies say, one whose network may not come
    in (``networks``) is reset; both are counted in `refused`. Of those who come through `listen` or a `MessageService`
    faster than ``accept_rate``, the next ones wait in the backlog.
    """

    noisy = False
    protocol = MessageProtocol
    serves = True

    def __init__(self, app: Any, framing: Framing | str = "line", **options: Unpack[Options]) -> None:
        settings = self.settings = Settings(app, framing, **options)
        self.admission: Admission[Any] = Admission(settings.limits, settings.networks)
        self.doors = Doors(Pace(settings.limits.accept_rate), settings.clock, self._room)
        self._open: dict[MessageProtocol, None] = {}

    @property
    def connections(self) -> AbstractSet[MessageProtocol]:
        """The connections that are open, or closing, in the order they came; those that set up TLS are not yet."""
        return self._open.keys()

    @property
    def refused(self) -> int:
        """How many clients were turned away; ``admission.refused`` has them by rule."""
        return self.admission.refused.total()

    def buildProtocol(self, addr: IAddress | None) -> MessageProtocol | TurnedAway:
        """A new connection's protocol: `TurnedAway` for one who is not taken in. Twisted calls it."""
        settings = self.settings
        self.doors.came()
        refusal = self.admission.ask(addr)
        if refusal is None:
            return MessageProtocol(settings, self)
        self._tell_refused(addr, refusal)
        return TurnedAway(reset=self._resets(refusal))

    # What the gates call, behind which connections of proxies wait until their headers are whole.

    def proxy_came(self, gate: Any, address: Any) -> bool:
        """Whether one at this `address` may say for whom it comes. It takes a place until `proxy_went`."""
        limits = self.settings.limits
        refusal = None
        if not self.settings.proxies.admits(ip_of(address)):
            refusal = Refusal("proxy-untrusted", detail="it is none of the proxies that may say for whom they come")
        elif len(self.admission) >= limits.max_connections:
            refusal = Refusal("max-connections", len(self.admission), limits.max_connections)
        if refusal is not None:
            self._tell_refused(address, self.admission.refuse(refusal))
            return False
        self.admission.enter(gate, None)
        return True

    def proxy_went(self, gate: Any, refused: CloseReason | None) -> None:
        """Its header is whole, or it was `refused`."""
        self.admission.leave(gate)
        if refused is not None and not refused.clean:
            refusal = Refusal(refused.rule, refused.value, refused.limit, refused.detail[:MOST_TOLD])
            self._tell_refused(gate._address, self.admission.refuse(refusal))

    @property
    def proxy_timing(self) -> tuple[float, Any]:
        """How many seconds a header may take, and by which clock."""
        return self.settings.timeouts.proxy_header, self.settings.clock

    def _tell_refused(self, address: Any, refusal: Refusal) -> None:
        if self.settings.telemetry:
            self.settings.telemetry.tell(Refused(address, len(self.connections), refusal))

    def _resets(self, refusal: Refusal) -> bool:
        """Whether one who is turned away is reset, or closed as all are."""
        if refusal.limit is None:
            return True
        policies = self.settings.policies
        return (policies.full if refusal.rule == "max-connections" else policies.crowded) == "reset"

    def _room(self) -> int:
        """For how many there is room, where further ones are to wait."""
        if self.settings.policies.full != "wait":
            return sys.maxsize
        return self.admission.limits.max_connections - len(self.admission)

    def connection_made(self, connection: MessageProtocol) -> None:
        """`connection` has a transport. From now on it takes a place."""
        try:
            address: IAddress | None = connection.peer
        except NotConnected:  # a transport without addresses
            address = None
        self.admission.enter(connection, address)
        self.doors.look()

    def connection_opened(self, connection: MessageProtocol) -> None:
        """`connection` is open."""
        self._open[connection] = None

    def connection_closed(self, connection: MessageProtocol, reason: CloseReason) -> None:
        """`connection` has ended, whether it ever was open or not."""
        self.admission.leave(connection)
        self._open.pop(connection, None)
        self.doors.look()

    def change(
        self,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        policies: Policies | None = None,
        networks: Networks | None = None,
        proxies: Networks | None = None,
    ) -> None:
        """
        Put others in the place of these, while it serves.

        Who comes from now on is taken in, or not, by them, and all connections together may hold what they say. A
        connection that is open keeps the limits of its inbox, its outbox and its rates, and the waits that have begun.
        """
        settings = self.settings
        settings.change(limits=limits, timeouts=timeouts, policies=policies, networks=networks, proxies=proxies)
        self.admission.limits, self.admission.networks = settings.limits, settings.networks
        self.doors.pace.rate = settings.limits.accept_rate
        self.doors.look()

    def drain(self, deadline: float | None = None) -> Deferred[int]:
        """
        Let every connection finish what it has in hand, and close it; after `deadline` seconds the rest is cut.

        `None` stands for ``timeouts.drain``. Fires when none is left, with the number of those that were cut.
        """
        for connection in list(self.admission.inside):
            connection.drain(deadline)
        return self._when_all_closed().addCallback(lambda reasons: sum(not reason.clean for reason in reasons))

    def close(self, grace: float | None = None) -> Deferred[None]:
        """Close every connection, each within `grace` seconds (`None`: ``timeouts.grace``); fires when none is left."""
        for connection in list(self.admission.inside):
            connection.close(grace)
        return self._when_all_closed().addCallback(lambda _: None)

    def abort(self) -> None:
        """Cut every connection now."""
        for connection in list(self.admission.inside):
            connection.abort()

    def _when_all_closed(self) -> Deferred[list[CloseReason]]:
        return gatherResults([connection.when_closed() for connection in self.admission.inside], consumeErrors=True)


class TurnedAway(Protocol):
    """
    The connection of a client that is not taken in: closed as soon as it is made, or `reset`.

    Twisted also lets a factory give `None` for this, but its wrappers (TLS, HAProxy) then raise, and leave it open.
    """

    def __init__(self, *, reset: bool = False) -> None:
        self._reset = reset

    def connectionMade(self) -> None:
        """Close. Twisted calls it."""
        transport: Any = self.transport
        if self._reset and hasattr(transport, "abortConnection"):  # a pipe of stdio: has none
            transport.abortConnection()
        else:
            transport.loseConnection()


class Listening:
    """A port that is being listened on, and the connections that came in through it. `listen` makes it."""

    def __init__(self, port: IListeningPort, factory: MessageServerFactory) -> None:
        self._port = port
        self._factory = factory
        self._door = factory.doors.add(port)
        self._stopping: Deferred[None] | None = None

    @property
    def address(self) -> IAddress:
        """Where it listens; the real port number when 0 was asked for."""
        return self._port.getHost()

    @property
    def port(self) -> int | None:
        """The number of the TCP port; `None` for a UNIX socket."""
        return getattr(self.address, "port", None)

    @property
    def connections(self) -> frozenset[MessageProtocol]:
        """Those that are open, or closing."""
        return frozenset(self._factory.connections)

    @property
    def refused(self) -> int:
        """How many clients were turned away, for want of room or for their network."""
        return self._factory.refused

    def suspend(self) -> None:
        """Accept no one until `resume`: new clients wait in the backlog, open connections go on."""
        self._door.shut("suspended")

    def resume(self) -> None:
        """Undo `suspend`."""
        self._door.open("suspended")

    def drain(self, deadline: float | None = None) -> Deferred[int]:
        """
        Stop listening, let every connection finish what it has in hand, and close it.

        What is not finished after `deadline` seconds (`None`: ``timeouts.drain``) is cut. Fires when all is over, with
        the number of connections that were cut.
        """
        stopped = self._stop()
        return self._factory.drain(deadline).addCallback(lambda cut: stopped.addCallback(lambda _: cut))

    def close(self, grace: float | None = None) -> Deferred[None]:
        """Stop listening and close every connection, each within `grace` seconds. Fires when all is over."""
        stopped = self._stop()
        return self._factory.close(grace).addCallback(lambda _: stopped)

    def _stop(self) -> Deferred[None]:
        """Fires when the port is closed, however often it is asked for."""
        if self._stopping is None:
            self._factory.doors.remove(self._door)
            self._stopping = close_port(self._port)
        told: Deferred[None] = Deferred()
        self._stopping.addBoth(told.callback)
        return told


def close_port(port: Any) -> Deferred[None]:
    """
    Stop listening on `port`; fires when it is closed.

    Fails with `OSError` where a UNIX socket's file cannot be removed (the process gave up the right to, say). Twisted
    leaves the socket open then, with clients waiting in its backlog; here it is closed all the same.
    """

    def not_removed(failure: Failure) -> None:
        failure.trap(OSError)
        port.socket.close()
        if not failure.check(FileNotFoundError):
            failure.raiseException()

    if not hasattr(port, "stopListening"):  # a stdio: endpoint gives its one connection's transport
        return succeed(None)
    return maybeDeferred(port.stopListening).addCallbacks(lambda _: None, not_removed)


def listen(
    endpoint: str | IStreamServerEndpoint,
    app: Any,
    *,
    framing: Framing | str = "line",
    reactor: Any = None,
    **options: Unpack[Options],
) -> Deferred[Listening]:
    """
    Serve `app` on `endpoint`, a Twisted server endpoint string such as ``"tcp:7007"`` or an endpoint object.

    The Deferred fires with the `Listening`, or fails with Twisted's ``CannotListenError``. `InvalidAddress`,
    `InvalidFraming` and `InvalidOption` are raised at once, before anything is opened. See `Settings` for the
    `options`; `reactor` is the global one unless given.
    """
    if reactor is None:
        from twisted.internet import reactor as global_reactor  # late: a program chooses its reactor first

        reactor = global_reactor
    options.setdefault("clock", reactor)
    factory = MessageServerFactory(app, framing, **options)
    return server_endpoint(reactor, endpoint).listen(factory).addCallback(Listening, factory)
