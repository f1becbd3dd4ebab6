"""A server on a loopback port, one healthy client of it, and strangers that harm it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, quoteStringArgument
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater

from tcpapp import Telemetry, Timeouts, connect, listen
from tcpapp.telemetry import Closed, NeverOpened, Refused
from tests.patience import PATIENCE


class Stranger(Protocol):
    """A client of plain bytes. `lost` fires when its connection has ended."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[Any] = Deferred()
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        waiting, self._waiting = self._waiting, []
        for size, waiter in waiting:
            self._tell(size, waiter)

    def has(self, size: int) -> Deferred[None]:
        """Return a Deferred that fires when the stranger has received this many bytes."""
        waiter: Deferred[None] = Deferred()
        self._tell(size, waiter)
        return waiter

    def _tell(self, size: int, waiter: Deferred[None]) -> None:
        if len(self.data) >= size:
            waiter.callback(None)
        else:
            self._waiting.append((size, waiter))

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.lost.callback(reason.type)


class Served:
    """One server, and the rules by which its connections ended (`ends`) and were refused (`refusals`), in order."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.details: list[str] = []
        self.events: list[Any] = []
        self.strangers: list[Stranger] = []
        self.server: Any = None
        self.healthy: Any = None
        self._waiting: list[tuple[list[str], str, Deferred[None]]] = []

    async def start(
        self,
        app: Any,
        endpoint: Any = "tcp:0:interface=127.0.0.1",
        *,
        message: Any = b"are you there?",
        then: Timeouts | None = None,
        **options: Any,
    ) -> Any:
        """
        Serve `app`, and connect the healthy client, if possible; `message` is its request.

        With `then`, these timeouts apply to each stranger, and not to the healthy client: on a busy machine the healthy
        client can be as slow as a stranger.
        """
        self._message = message
        self.server = await listen(endpoint, app, telemetry=Telemetry(self._told), reactor=self.reactor, **options)
        if (endpoint if isinstance(endpoint, str) else endpoint[0]).startswith("tcp:"):
            self.healthy = await connect(
                f"tcp:127.0.0.1:{self.server.port}", framing=options.get("framing", "line"), codec=options.get("codec")
            )
            await self.is_served()
        self.server.change(timeouts=then)
        return self.server

    async def is_served(self) -> None:
        """Send the healthy client's request, and wait for the reply. Each app sends this message back."""
        assert await self.healthy.request(self._message, PATIENCE) == self._message

    async def stranger(self, data: bytes = b"", *, reads: bool = True, to: int | None = None) -> Any:
        """Connect one more client, to the first port or to another, and send `data`."""
        factory = Factory.forProtocol(Stranger)
        factory.noisy = False
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", to or self.server.port)
        stranger: Any = await endpoint.connect(factory)
        self.strangers.append(stranger)
        if not reads:
            stranger.transport.pauseProducing()
        if data:
            stranger.transport.write(data)
        return stranger

    async def heard(self, stranger: Stranger, data: bytes) -> None:
        """Wait until a stranger has received `data`, and no more. The healthy client is served meanwhile."""
        if self.healthy is not None:
            await self.is_served()
        await stranger.has(len(data)).addTimeout(PATIENCE, self.reactor)
        assert stranger.data == data

    async def turn(self) -> None:
        """Run one turn of the reactor without waiting, while the healthy client is served."""
        await (deferLater(self.reactor, 0) if self.healthy is None else self.is_served())

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of this kind."""
        return [each for each in self.events if isinstance(each, kind)]

    def ended(self, rule: str) -> Deferred[None]:
        """Return a Deferred that fires when a connection has ended by this rule."""
        return self._when(self.ends, rule)

    def refused(self, rule: str) -> Deferred[None]:
        """Return a Deferred that fires when a client was refused by this rule."""
        return self._when(self.refusals, rule)

    def _when(self, told: list[str], rule: str) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        if rule in told:
            waiter.callback(None)
        else:
            self._waiting.append((told, rule, waiter))
        return waiter.addTimeout(PATIENCE, self.reactor)

    def _told(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, (Closed, NeverOpened)):
            self.ends.append(event.reason.rule)
            self.details.append(event.reason.detail)
        elif isinstance(event, Refused):
            self.refusals.append(event.refusal.rule)
        for told, rule, waiter in list(self._waiting):
            if rule in told and not waiter.called:
                waiter.callback(None)

    async def end(self) -> None:
        """
        Serve the healthy client once more, close everything, and check that no connection, no place and no byte is
        left.
        """
        factory = self.server._factory
        if self.healthy is not None:
            await self.is_served()
            await self.healthy.close()
        for stranger in self.strangers:
            stranger.transport.abortConnection()
            await stranger.lost
        await self.server.close(0)
        while factory.admission:  # also places of proxies, whose ends are not reported: a turn of the reactor for each
            await deferLater(self.reactor, 0)
        assert (len(factory.connections), factory.settings.memory_budget.total, len(factory.settings.fair_share)) == (
            0,
            0,
            0,
        )


@pytest.fixture
def certificate(tmp_path: Path) -> str:
    """Give the path of a certificate with its key, for this machine, quoted for an endpoint string."""
    path = str(tmp_path / "cert.pem")
    trustme.CA().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return quoteStringArgument(path)  # type: ignore[no-any-return]


@pytest.fixture
def served(global_reactor: Any) -> Iterator[Served]:
    """Give `Served`, which is stopped and checked after the test."""
    made = Served(global_reactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.end()).addTimeout(PATIENCE, global_reactor))
