"""The proxy: it listens and connects, and has the connections and the toxics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, quoteStringArgument
from twisted.internet.protocol import ServerFactory
from typing_extensions import Self

from tcpapp.errors import InvalidOption
from tcpapp.server.listener import close_port
from tcpapp.testing.faultproxy.connection import ProxiedConnection
from tcpapp.testing.faultproxy.plan import Counters, Plan
from tcpapp.testing.faultproxy.toxic import Toxic
from tcpapp.transport.endpoint_strings import client_endpoint, server_endpoint

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint

    from tcpapp.testing.faultproxy.side import Side

__all__ = ["BOUND", "FaultProxy", "endpoint_of"]

ANY_PORT: Final = "tcp:0:interface=127.0.0.1"

BOUND: Final = 1024 * 1024
"""
The most bytes that a stream holds before its source is no longer read. One more read of 64 KiB can be added.

100 Mbit/s over 80 ms, the width of an ocean, keep 1 MB under way. With a much smaller bound, ``latency`` would also
limit the bandwidth. A much larger bound would hide that a peer does not read.
"""

ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not bound to
"""The address to connect to, if the proxy listens on all interfaces."""


def endpoint_of(address: IAddress | None) -> str:
    """Return the client endpoint string for a listener at `address`. Raises `ValueError` if there is none."""
    if isinstance(address, UNIXAddress) and address.name:
        return f"unix:{quoteStringArgument(address.name.decode('utf-8', 'surrogateescape'))}"
    if isinstance(address, (IPv4Address, IPv6Address)):
        host = ANYWHERE.get(address.host, address.host)
        return f"tcp:{quoteStringArgument(host)}:{address.port}"
    raise ValueError(f"{address!r}: nobody listens there, or no endpoint string leads there")


class _Clients(ServerFactory):
    """The factory of the proxy's connections to clients."""

    noisy = False

    def __init__(self, accept: Callable[[IAddress], Side]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: IAddress) -> Side:  # type: ignore[override]  # Twisted's Factory has another type here
        """Return the client's side of a new connection. Twisted calls it."""
        return self._accept(addr)


class FaultProxy:
    """
    Listens on `listen`, and connects each client to `upstream`: endpoint strings, or endpoint objects.

    - `seed`: decides all random values (jitter, sizes of slices, toxicity), together with the numbers of connection and
      toxic.
    - `bound`: the most bytes that each direction of a connection holds (see `BOUND`).
    - `clock`: the clock of the toxics, such as a `Clock` for a test that does not wait; `None`: `reactor`.

    ``async with`` starts and stops it. `counters` are the `Counters` of all connections. Raises `InvalidAddress` and
    `InvalidOption`, the caller's fault.
    """

    def __init__(
        self,
        reactor: Any,
        upstream: str | IStreamClientEndpoint,
        listen: str | IStreamServerEndpoint = ANY_PORT,
        seed: int = 0,
        *,
        bound: int = BOUND,
        clock: Any = None,
    ) -> None:
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 0:
            raise InvalidOption(f"bound={bound!r}: takes a whole number of bytes, 0 or more")
        self.counters = Counters()
        self.address: IAddress | None = None
        self._reactor = reactor
        self._listen = server_endpoint(reactor, listen)
        self._port: IListeningPort | None = None
        self._toxics: list[Toxic] = []
        self._connections: dict[int, ProxiedConnection] = {}
        self._added = 0
        self._plan = Plan(
            upstream=client_endpoint(reactor, upstream),
            clock=reactor if clock is None else clock,
            seed=seed,
            bound=bound,
            counters=self.counters,
            toxics=self._toxics,
            over=self._forget,
        )

    # The address.

    @property
    def port(self) -> int | None:
        """The port on which it listens; `None` for a UNIX socket, and before it is started."""
        return getattr(self.address, "port", None)

    @property
    def endpoint(self) -> str:
        """
        The endpoint string to connect to instead of the server's. Raises `ValueError` if the proxy was not started.
        """
        return endpoint_of(self.address)

    @property
    def enabled(self) -> bool:
        """Whether clients can connect."""
        return self._port is not None

    # Starting and stopping.

    def start(self) -> Deferred[Self]:
        """Begin to listen. Fires with this proxy. Fails with the errors of listening."""
        return self._open(self._listen).addCallback(lambda _: self)

    def stop(self) -> Deferred[None]:
        """
        Stop listening, and cut all connections with a reset. Fires when every socket is closed and no timer is left.

        The toxics stay for another start. Does nothing if the proxy does not run. Fails with `OSError` if the file of a
        UNIX socket cannot be removed.
        """
        gone = [each.cut() for each in self.connections]
        closed = self._close()
        self.address = None
        return closed.addCallback(lambda _: gatherResults(gone)).addCallback(lambda _: None)

    def disable(self) -> Deferred[None]:
        """
        Take the server down (Toxiproxy's ``down``): close all connections, and stop listening, so that the system
        refuses further ones.

        Fires when the proxy no longer listens. Does nothing if it is disabled already.
        """
        for each in self.connections:
            each.close()
        return self._close()

    def enable(self) -> Deferred[None]:
        """Bring the server up again, at the same address. Fails with the errors of listening."""
        if self.enabled:
            return succeed(None)
        return self._open(self._where_it_was())

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Take the server down in the block of ``async with``."""
        await self.disable()
        try:
            yield
        finally:
            await self.enable()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _open(self, endpoint: IStreamServerEndpoint) -> Deferred[None]:
        if self.enabled:
            raise RuntimeError("the proxy is started already")

        def listens(port: IListeningPort) -> None:
            self._port = port
            self.address = port.getHost()

        listening: Deferred[IListeningPort] = endpoint.listen(_Clients(self._accept))
        return listening.addCallback(listens)

    def _close(self) -> Deferred[None]:
        port, self._port = self._port, None
        return succeed(None) if port is None else close_port(port)

    def _where_it_was(self) -> IStreamServerEndpoint:
        """Return the endpoint to listen on again. If any free port was asked for, it has the same port as before."""
        if self.address is None:
            raise RuntimeError("the proxy is not started")
        if isinstance(self._listen, (TCP4ServerEndpoint, TCP6ServerEndpoint)):
            assert isinstance(self.address, (IPv4Address, IPv6Address))
            return type(self._listen)(self._reactor, self.address.port, interface=self.address.host)
        return self._listen

    # The connections.

    @property
    def connections(self) -> tuple[ProxiedConnection, ...]:
        """The connections that are open now, including connections that wait for the server."""
        return tuple(self._connections.values())

    def _accept(self, client: IAddress) -> Side:
        self.counters.accepted += 1
        connection = ProxiedConnection(self._plan, self.counters.accepted, client)
        self._connections[connection.number] = connection
        return connection.client_side

    def _forget(self, number: int) -> None:
        self._connections.pop(number, None)

    # The toxics.

    @property
    def toxics(self) -> tuple[Toxic, ...]:
        """The active toxics, in the order in which bytes pass them."""
        return tuple(self._toxics)

    def add(self, type: str, *, stream: str = "downstream", toxicity: float = 1.0, **attributes: Any) -> Toxic:  # noqa: A002  # Toxiproxy's name
        """
        Add a toxic of this `type` with its `attributes`, after the present toxics. It is active at once, also on open
        connections.

        `stream` is ``downstream`` (from the server to the client), ``upstream`` or ``both``. `toxicity` is the
        probability, from 0.0 to 1.0, that the toxic affects a connection. Raises `InvalidOption`, the caller's fault.
        """
        toxic = Toxic(
            type,
            stream,
            toxicity,
            attributes,
            number=self._added + 1,
            on_changed=self._changed,
            on_removed=self._removed,
        )
        self._added = toxic.number
        self._toxics.append(toxic)
        self._changed(toxic)
        return toxic

    def _changed(self, toxic: Toxic) -> None:
        for each in self.connections:
            each.apply(toxic)

    def _removed(self, toxic: Toxic) -> None:
        self._toxics.remove(toxic)
        for each in self.connections:
            each.withdraw(toxic)
