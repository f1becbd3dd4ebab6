"""The server's factory: it makes the connections, counts them, and applies the limits of the server."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from time import monotonic
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Protocol, ServerFactory
from typing_extensions import Unpack

from tcpapp.close_reason import CloseReason
from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import MessageProtocol, protocol_of
from tcpapp.connection.settings import Options, Settings
from tcpapp.errors import NotConnected
from tcpapp.framing import Framing
from tcpapp.limits import Limits, Policies, Timeouts
from tcpapp.limits.admission import Admission, Refusal
from tcpapp.limits.networks import Networks, ip_of
from tcpapp.limits.thresholds import Thresholds
from tcpapp.limits.token_bucket import TokenBucket
from tcpapp.server.accept_control import AcceptControl
from tcpapp.telemetry import Refused
from tcpapp.telemetry.statistics import ConnectionCounts, Info, ages
from tcpapp.transport.addresses import describe
from tcpapp.transport.inherited_options import set_for_clients

__all__ = ["MessageServerFactory", "RefusedProtocol"]


LONGEST_DETAIL = 200
"""The most characters of a peer's text in a log line. NATS cuts at the same number."""


WORTH_SPREADING = 0.1
"""Closes are not spread over less than these seconds. Our choice: a hundred clients at an accept rate of 1,000."""


class MessageServerFactory(ServerFactory):
    """
    A Twisted `ServerFactory` that serves `app` on every connection, for any endpoint or ``reactor.listenTCP``.

    See `Settings` for the arguments and their errors. A client over ``max_connections``, ``max_per_address`` or
    ``max_per_network`` is closed at once, unless a policy says otherwise. A client whose network is not allowed
    (``networks``) is reset. `refused` counts both.

    With `listen` or a `MessageService`, clients over ``accept_rate`` wait in the backlog. With other ports,
    ``accept_rate`` has no effect.
    """

    noisy = False
    protocol = MessageProtocol
    serves = True

    def __init__(self, app: Any, framing: Framing | str = "line", **options: Unpack[Options]) -> None:
        settings = self.settings = Settings(app, framing, **options)
        self.admission: Admission[Any] = Admission(settings.limits, settings.networks, Thresholds(settings.limit_near))
        token_bucket = TokenBucket(settings.limits.accept_rate)
        self.accept_control = AcceptControl(
            token_bucket,
            settings.clock,
            self._room,
            self._accept_failed,
            settings.step_scheduler,
            self._set_options,
        )
        self.connection_counts = ConnectionCounts(self._now())
        self.draining = False
        """Whether connections are being drained. It is false again when no connection is left."""
        self._open: dict[Connection, float] = {}
        self._waiters: list[tuple[int, Deferred[None]]] = []
        self._later: list[IDelayedCall] = []

    @property
    def connections(self) -> AbstractSet[Connection]:
        """
        The open and closing connections, in the order in which they opened. Connections in a TLS handshake are not
        included.
        """
        return self._open.keys()

    @property
    def refused(self) -> int:
        """The number of rejected clients; ``admission.refused`` counts them by rule."""
        return self.admission.refused.total()

    def buildProtocol(self, addr: IAddress | None) -> MessageProtocol | RefusedProtocol:
        """Return a new connection's protocol: `RefusedProtocol` for a rejected client. Twisted calls it."""
        settings = self.settings
        self.accept_control.client_accepted()
        refusal = self.admission.check(addr)
        if refusal is None:
            return MessageProtocol(settings, self)
        self._emit_refused(addr, refusal)
        return RefusedProtocol(reset=self._resets(refusal))

    # called by `ProxyHeaderProtocol`, where the connections of proxies wait until their headers are whole

    def proxy_connected(self, waiting: Any, address: Any) -> bool:
        """Return whether a proxy at this `address` is accepted. If so, it counts as a connection until `proxy_done`."""
        limits = self.settings.limits
        refusal = None
        if not self.settings.proxies.admits(ip_of(address)):
            refusal = Refusal("proxy-untrusted", detail="it is not one of the allowed proxies")
        elif len(self.admission) >= limits.max_connections:
            refusal = Refusal("max-connections", len(self.admission), limits.max_connections)
        if refusal is not None:
            self._emit_refused(address, self.admission.refuse(refusal))
            return False
        self.admission.admit(waiting, None)
        return True

    def proxy_done(self, waiting: Any, refused: CloseReason | None) -> None:
        """Count the proxy no longer: its header is whole, or it was `refused` for this reason."""
        self.admission.release(waiting)
        if refused is not None and not refused.clean:
            refusal = Refusal(refused.rule, refused.value, refused.limit, refused.detail[:LONGEST_DETAIL])
            self._emit_refused(waiting._address, self.admission.refuse(refusal))

    @property
    def proxy_timing(self) -> tuple[float, Any]:
        """The seconds to wait for a whole header (0: no limit), and the clock for them."""
        return self.settings.timeouts.proxy_header, self.settings.clock

    def _emit_refused(self, address: Any, refusal: Refusal) -> None:
        if self.settings.telemetry:
            self.settings.telemetry.emit(Refused(address, len(self.connections), refusal))

    def _accept_failed(self, address: Any, error_name: str) -> None:
        """Count a client that the system could not accept. The client is closed, or continues to wait."""
        text = f"the system could not accept it ({error_name})"
        if error_name == "EMFILE":
            text += ": this process has no descriptor left for it; check what besides connections uses them"
        self._emit_refused(address, self.admission.refuse(Refusal("not-accepted", detail=text)))

    def _resets(self, refusal: Refusal) -> bool:
        """Return whether a rejected client is reset instead of closed."""
        if refusal.limit is None:
            return True
        policies = self.settings.policies
        return (
            policies.over_max_connections if refusal.rule == "max-connections" else policies.over_per_address
        ) == "reset"

    def _room(self) -> int:
        """Return how many clients can still be accepted, if further clients must wait."""
        if self.settings.policies.over_max_connections != "wait":
            return sys.maxsize
        return self.admission.limits.max_connections - len(self.admission)

    def connection_made(self, connection: Connection) -> None:
        """Count `connection`, which has just got its transport, against the limits."""
        try:
            address: IAddress | None = connection.peer
        except NotConnected:  # a transport without addresses
            address = None
        self.admission.admit(connection, address)
        self.accept_control.check_room()

    def connection_opened(self, connection: Connection) -> None:
        """Add an open `connection` to `connections`."""
        now = self._now()
        self._open[connection] = now
        self.connection_counts.opened(now, len(self._open))

    def connection_moved_here(self, connection: Connection, age: float) -> None:
        """Add `connection`, which another process opened `age` seconds ago, and counts as accepted."""
        self._open[connection] = self._now() - age
        self.connection_counts.moved_here(len(self._open))

    def connection_closed(self, connection: Connection, reason: CloseReason) -> None:
        """Remove `connection`, which has ended, from all counts. It can end before it was ever open."""
        self.admission.release(connection)
        self.connection_counts.closed[reason.rule] += 1
        self._open.pop(connection, None)
        self.accept_control.check_room()
        if self._waiters:
            self._fire_waiters()

    def change(
        self,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        policies: Policies | None = None,
        networks: Networks | None = None,
        proxies: Networks | None = None,
        **values: float | str,
    ) -> None:
        """
        Change settings of the running server. Single values are given by name: ``change(max_connections=50,
        idle=300)``.

        The names are the fields of `Limits`, `Timeouts` and `Policies`; all other values stay as they are. A whole set
        (`limits`, `timeouts`, `policies`, `networks`, `proxies`) replaces the present set. If a call gives a whole set
        and single values, the single values are changed in the new set.

        All changes take effect, or none. Raises `InvalidOption` for an invalid value, and `TypeError` for an unknown
        name. Both are the caller's fault, and then nothing has changed.

        The new values hold at once for new clients, and for the memory of all connections together. Open connections
        keep the limits of their inbox, their outbox and their rates, and their running timeouts.
        """
        settings = self.settings
        wholes = {"limits": limits, "timeouts": timeouts, "policies": policies, "networks": networks}
        settings.change(**wholes, proxies=proxies, **values)
        self.admission.limits, self.admission.networks = settings.limits, settings.networks
        self.accept_control.token_bucket.rate = settings.limits.accept_rate
        self.accept_control.check_room()
        self.accept_control.set_options()

    def _set_options(self, port: Any) -> bool:
        """Set the options of connections on a listening `port`. Returns whether its connections inherit them."""
        settings = self.settings
        return set_for_clients(port, settings.limits, settings.timeouts, no_delay=settings.policies.no_delay)

    def drain(self, deadline: float | None = None, jitter: float | None = None) -> Deferred[int]:
        """
        Let every connection finish its work and close it. After `deadline` seconds, cut the remaining connections.

        The connections begin to drain at random times within `jitter` seconds, so that their clients do not all
        reconnect at once. For few connections the time is shorter: as long as their clients need to reconnect at
        ``accept_rate``. `None` stands for ``timeouts.drain`` and ``timeouts.drain_jitter``. The Deferred fires with the
        number of cut connections when no connection is left.
        """
        timeouts = self.settings.timeouts
        seconds = timeouts.drain if deadline is None else deadline
        spread = self._spread(min(seconds, timeouts.drain_jitter if jitter is None else jitter))
        self.draining = True
        ended = self._when_all_closed()
        for connection in list(self.admission.admitted):
            wait = self.settings.random.uniform(0, spread) if spread else 0
            if wait and self.settings.clock is not None:
                self._later.append(self.settings.clock.callLater(wait, connection.drain, seconds - wait))
            else:
                connection.drain(seconds)
        return ended.addCallback(self._drained)

    def _spread(self, jitter: float) -> float:
        """Return the seconds over which the open connections begin to drain; 0.0 for few connections."""
        rate = self.settings.limits.accept_rate
        spread = min(jitter, len(self.admission) / rate) if rate else 0.0
        return spread if spread >= WORTH_SPREADING else 0.0

    def _drained(self, reasons: list[CloseReason]) -> int:
        self._cancel_spread()
        self.draining = False
        return sum(not reason.clean for reason in reasons)

    def _cancel_spread(self) -> None:
        """Cancel the calls for connections that have not begun to drain."""
        later, self._later = self._later, []
        for each in later:
            if each.active():
                each.cancel()

    def wait_for(self, at_most: int) -> Deferred[None]:
        """Return a Deferred that fires when at most `at_most` connections are open or closing. It can be cancelled."""
        if len(self._open) <= at_most:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._forget_waiter)
        self._waiters.append((at_most, waiter))
        return waiter

    def info(self, addresses: Iterable[IAddress] | None = None, suspended: bool = False) -> Info:
        """
        Return the statistics of the server now.

        A `Listening` and a `MessageService` pass their own `addresses`, and whether they are `suspended`. By default,
        the addresses are the addresses of all ports that these opened. The factory does not know the addresses of ports
        that ``reactor.listenTCP`` or an endpoint opened.
        """
        now, settings, counters = self._now(), self.settings, self.settings.counters
        listens = addresses is None and self.numPorts > 0
        if addresses is None:
            addresses, suspended = self.accept_control.addresses, self.accept_control.suspended
        where = tuple(describe(each) for each in addresses)
        oldest, median_age = ages(self._open.values(), now)
        return Info(
            addresses=where,
            state=self._state(listens=listens or bool(where), suspended=suspended),
            uptime=now - self.connection_counts.since,
            connections=len(self._open),
            most_connections=self.connection_counts.most,
            accepted=self.connection_counts.accepted,
            accept_rate=self.connection_counts.rate(now),
            refused=dict(self.admission.refused),
            closed=dict(self.connection_counts.closed),
            oldest=oldest,
            median_age=median_age,
            **self._throughput(now),
            late_replies=counters.late_replies,
            failed_sends=counters.failed_sends,
            buffered=settings.memory_budget.total,
            shed=settings.memory_budget.shed,
            limits=settings.limits,
            timeouts=settings.timeouts,
            policies=settings.policies,
        )

    def _throughput(self, now: float) -> dict[str, Any]:
        """Return what all connections received and sent, in total and per second, by the names of `Info`."""
        connections = [protocol_of(each).counters for each in self._open]
        received, sent = self.settings.counters.received, self.settings.counters.sent
        messages, size, rate, byte_rate = received.totals([each for each, _ in connections], now)
        sent_messages, sent_size, sent_rate, sent_byte_rate = sent.totals([each for _, each in connections], now)
        return {
            "messages": messages,
            "message_rate": rate,
            "bytes": size,
            "byte_rate": byte_rate,
            "sent_messages": sent_messages,
            "sent_message_rate": sent_rate,
            "sent_bytes": sent_size,
            "sent_byte_rate": sent_byte_rate,
        }

    def _state(self, *, listens: bool, suspended: bool) -> str:
        if self.draining:
            return "draining"
        if not listens:
            return "stopped"
        return "suspended" if suspended else "serving"

    def close(self, grace: float | None = None) -> Deferred[None]:
        """
        Close every connection within `grace` seconds (`None`: ``timeouts.grace``). Fires when no connection is left.
        """
        for connection in list(self.admission.admitted):
            connection.close(grace)
        return self._when_all_closed().addCallback(lambda _: None)

    def abort(self) -> None:
        """Cut every connection now, without flushing."""
        self._cancel_spread()
        for connection in list(self.admission.admitted):
            connection.abort()

    def _when_all_closed(self) -> Deferred[list[CloseReason]]:
        return gatherResults([connection.when_closed() for connection in self.admission.admitted], consumeErrors=True)

    def _now(self) -> float:
        clock = self.settings.clock
        return monotonic() if clock is None else clock.seconds()

    def _forget_waiter(self, waiter: Deferred[None]) -> None:
        self._waiters = [each for each in self._waiters if each[1] is not waiter]

    def _fire_waiters(self) -> None:
        told = [waiter for at_most, waiter in self._waiters if len(self._open) <= at_most]
        self._waiters = [each for each in self._waiters if each[1] not in told]
        for waiter in told:
            waiter.callback(None)


class RefusedProtocol(Protocol):
    """
    The protocol of a rejected client. It closes the connection as soon as it is made, or resets it (`reset`).

    Twisted also lets a factory return `None` for a rejected client. But then Twisted's wrappers (TLS, HAProxy) raise,
    and leave the connection open.
    """

    def __init__(self, *, reset: bool = False) -> None:
        self._reset = reset

    def connectionMade(self) -> None:
        """Close or reset the connection. Twisted calls it."""
        transport: Any = self.transport
        if self._reset and hasattr(transport, "abortConnection"):  # a pipe of stdio: has none
            transport.abortConnection()
        else:
            transport.loseConnection()
