"""
Connects to a host by its name, and tries all its addresses, of both families (Happy Eyeballs, RFC 8305).

The addresses are tried in the order of the resolver, alternating between families (section 4). An attempt begins when
the previous one has failed, or `DELAY` seconds after that one began. The first connection wins, and the other attempts
are cancelled. A connection with itself counts as refused.

Twisted's ``HostnameEndpoint`` does the same, but also waits after an attempt that failed at once. So each connection to
``localhost`` takes 0.3 s longer if the server listens only on IPv4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import (
    ConnectBindError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tcpapp.transport.hostnames import to_ascii
from tcpapp.transport.layers import ITSELF, talks_to_itself

__all__ = ["DELAY", "HostEndpoint"]

DELAY = 0.25
"""Seconds from the beginning of one attempt to the next. Source: RFC 8305, section 5, Connection Attempt Delay."""

UNINFORMATIVE = (NoRouteError, ConnectBindError)
"""Failures that this machine causes, for example because it has no IPv6. The error of another address says more."""


@implementer(IStreamClientEndpoint)
class HostEndpoint:
    """
    Connects to `port` of the first address of `host` that accepts. Each attempt fails after `timeout` seconds.

    With `origin`, an IP address of this machine, connections are made from that address, and only to addresses of its
    family. Connecting fails with ``DNSLookupError`` if the name has no address; otherwise, with the first error that
    this machine did not cause.
    """

    def __init__(self, reactor: Any, host: str, port: int, timeout: int = 30, origin: str | None = None) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._origin = origin

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect, as every Twisted endpoint does. Cancelling the Deferred stops all attempts."""
        if not IReactorPluggableNameResolver.providedBy(self._reactor):  # then its connectTCP takes names
            direct: Deferred[Any] = self._to(self._host).connect(factory)
            return direct
        name = to_ascii(self._host)
        race = _Race(self._reactor, factory, HostnameAddress(name.encode("ascii"), self._port))

        def resolved(found: list[Any]) -> None:
            addresses = list(self._wanted(found))
            if not addresses:
                why = f" of the family of {self._origin}" if self._origin and found else ""
                race.fail(Failure(DNSLookupError(f"the host {self._host!r} has no address{why}")))
            else:
                race.begin(self._to(each) for each in addresses)

        self._reactor.nameResolver.resolveHostName(_Found(resolved), name, portNumber=self._port)
        return race.result

    def _to(self, host: str) -> Any:
        origin = self._origin and (self._origin, 0)
        return TCP4ClientEndpoint(self._reactor, host, self._port, self._timeout, origin)  # takes IPv6 addresses, too

    def _wanted(self, addresses: list[Any]) -> Iterable[str]:
        """
        Return the hosts to try, without duplicates. They alternate between families, beginning with the family of the
        first.
        """
        families: dict[bool, dict[str, None]] = {}
        for each in addresses:
            is_6 = isinstance(each, IPv6Address)
            if self._origin is None or is_6 is (":" in self._origin):
                families.setdefault(is_6, {})[each.host] = None
        in_turn = chain.from_iterable(zip_longest(*families.values()))
        return (host for host in in_turn if host is not None)


@implementer(IResolutionReceiver)
class _Found:
    """Collects the addresses that the resolver finds, and calls `then` with all of them."""

    def __init__(self, then: Callable[[list[Any]], None]) -> None:
        self._then = then
        self._addresses: list[Any] = []

    def resolutionBegan(self, _: Any) -> None:
        """Do nothing: Twisted's own resolutions cannot be cancelled."""

    def addressResolved(self, address: Any) -> None:
        """Note an address. The resolver calls it."""
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Call `then` with all addresses. The resolver calls it."""
        self._then(self._addresses)


class _Race:
    """The attempts to connect. The first that succeeds fires `result`."""

    def __init__(self, clock: Any, factory: Any, to: HostnameAddress) -> None:
        self.result: Deferred[Any] = Deferred(self._cancelled)
        self._clock = clock
        self._factory = factory
        self._to = to
        self._waiting: deque[Any] = deque()
        self._pending: list[Deferred[Any]] = []
        self._failure: Failure | None = None
        self._timer: IDelayedCall | None = None
        self._over = False

    def begin(self, endpoints: Iterable[Any]) -> None:
        """Try these endpoints, one after the other, unless the race was cancelled meanwhile."""
        if not self._over:
            self._waiting.extend(endpoints)
            self._try_next()

    def fail(self, failure: Failure) -> None:
        """Fail with `failure`, because there is nothing to try."""
        if not self._over:
            self._end()
            self.result.errback(failure)

    def _try_next(self) -> None:
        self._stop_timer()
        attempt: Deferred[Any] = self._waiting.popleft().connect(self._factory)
        if self._waiting:
            self._timer = self._clock.callLater(DELAY, self._late)
        self._pending.append(attempt)
        attempt.addCallbacks(self._won, self._lost, callbackArgs=(attempt,), errbackArgs=(attempt,))

    def _late(self) -> None:
        self._timer = None
        self._try_next()

    def _won(self, connected: Any, attempt: Deferred[Any]) -> None:
        transport: Any = getattr(connected, "transport", None)
        if talks_to_itself(transport):
            transport.abortConnection()
            self._lost(Failure(ConnectionRefusedError(string=ITSELF)), attempt)
            return
        self._pending.remove(attempt)
        self._end()
        self.result.callback(connected)

    def _lost(self, failure: Failure, attempt: Deferred[Any]) -> None:
        self._pending.remove(attempt)
        if self._over:
            return
        if self._failure is None or self._failure.check(*UNINFORMATIVE):
            self._failure = failure
        if self._waiting:
            self._try_next()
        elif not self._pending:
            self._end()
            self.result.errback(self._failure)

    def _cancelled(self, result: Deferred[Any]) -> None:
        self._end()
        result.errback(ConnectingCancelledError(self._to))

    def _end(self) -> None:
        """Cancel all other attempts."""
        self._over = True
        self._waiting.clear()
        self._stop_timer()
        for each in list(self._pending):
            each.cancel()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
