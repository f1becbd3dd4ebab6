"""The carrier of the contract's checks for real transports, by any endpoints of a reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from tcpapp.testing.contract.carrier import Carrier, End

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint

__all__ = ["Sockets"]

TURN = 0.002
"""Seconds in a turn of `Sockets`: a few turns of a busy reactor."""


class Sockets(Carrier):
    """
    Connects two ends through `reactor`, by the endpoint `listen`, and the endpoint that `connect` returns for the open
    port.

    ``tls=True`` and ``unix=True`` set the flags of TLS and of UNIX sockets.
    """

    def __init__(
        self,
        reactor: Any,
        listen: IStreamServerEndpoint,
        connect: Callable[[IListeningPort], IStreamClientEndpoint],
        *,
        tls: bool = False,
        unix: bool = False,
    ) -> None:
        self._reactor = reactor
        self._listen = listen
        self._connect = connect
        self._ends: list[End] = []
        self.half_close = not tls
        self.drops_late_writes = self.waits_for_idle_producer = tls
        self.flushes_on_close = self.reports_causes = not tls
        self.resets = self.tcp_options = not unix

    async def connect(self, server: End, client: End) -> None:
        """Listen, connect, and stop listening. Over TLS, a byte in each direction finishes the handshake."""
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _address: server
        port = await self._listen.listen(factory)
        try:
            self._ends += [server, client]
            await connectProtocol(self._connect(port), client)
            await self.until(lambda: server.notes, "the server's end")
            for here, there in ((client, server), (server, client)):
                here.transport.write(b"?")
                await self.until(lambda: there.data, "the first byte")  # noqa: B023 - awaited here
            for each in (client, server):
                each.notes.remove("data")
                each.data.clear()
        finally:
            await maybeDeferred(port.stopListening)

    async def turn(self) -> None:
        """Let a few turns of the reactor pass."""
        await deferLater(self._reactor, TURN)

    async def close(self) -> None:
        """Cut all connections, and wait until they are lost."""
        for each in self._ends:
            if each.reason is None and each.notes:
                each.transport.resumeProducing()
                each.transport.abortConnection()
        await self.until(lambda: all(each.reason for each in self._ends if each.notes), "the end of all")
        self._ends.clear()
