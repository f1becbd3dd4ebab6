"""Carriers without a network, for the contract's checks of `Wire` and `FakeTransport`."""

from __future__ import annotations

from typing import Any

from tcpapp.testing.contract.carrier import Carrier, End
from tcpapp.testing.transport import FakeTransport
from tcpapp.testing.wire import Wire

__all__ = ["FakeTransports", "Wires"]


class Wires(Carrier):
    """Connects two ends by a `Wire` with these `options`. `turn` lets 10 ms pass."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._wires: list[Wire] = []
        if options.get("tls") is not None:
            self.half_close = False
            self.drops_late_writes = True
            self.waits_for_idle_producer = True
            self.pulls = False
            self.flushes_on_close = False
            self.reports_causes = False

    async def connect(self, server: End, client: End) -> None:
        """Connect the ends. Over TLS, finish the handshake."""
        wire = Wire(server, client, **self._options)
        self._wires.append(wire)
        wire.flush()

    async def turn(self) -> None:
        """Let 10 ms pass on each wire."""
        for wire in self._wires:
            wire.advance(0.01)

    async def close(self) -> None:
        """Close all wires."""
        for wire in self._wires:
            wire.close()
        self._wires.clear()


class FakeTransports(Carrier):
    """
    Gives each end a `FakeTransport`, and is the peer of both: it sends the bytes from one to the other.

    Each peer reads 64 KiB in a turn, and at most 256 KiB ahead of the protocol at the other end.
    """

    piece = 65536
    ahead = 4 * piece

    def __init__(self) -> None:
        self._pairs: list[tuple[FakeTransport, FakeTransport]] = []

    async def connect(self, server: End, client: End) -> None:
        """Give each end a transport, whose peer is the address of the other end."""
        one = FakeTransport(peer_reads=False)
        host, peer = one.getHost(), one.getPeer()
        server_transport = FakeTransport(host, peer, peer_reads=False)
        client_transport = FakeTransport(peer, host, peer_reads=False)
        self._pairs += [(server_transport, client_transport), (client_transport, server_transport)]
        server_transport.connect(server)
        client_transport.connect(client)

    async def turn(self) -> None:
        """Carry a piece in each direction, and then the end of the stream, if there is no more to carry."""
        for sender, receiver in self._pairs:
            sender.turn()
            if not receiver.connected and sender.take(self.ahead):
                sender.reset()  # as a kernel answers bytes for a closed socket
            elif receiver.unread < self.ahead:
                receiver.receive(sender.take(self.piece))
            if sender.finished and not sender.aborted:
                receiver.half_close()
            if sender.was_abrupt:
                receiver.reset()
            receiver.turn()

    async def close(self) -> None:
        """Lose all connections that are still open."""
        for transport, _ in self._pairs:
            transport.lose()
        self._pairs.clear()
