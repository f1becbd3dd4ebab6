"""
Two protocols that are connected in memory, with the faults of a line between them.

::

    wire = Wire(Server(), Client(), latency=0.05, cuts=each_byte)
    wire.client.transport.write(b"hello\\r\\n")
    wire.flush()

Time is a `Clock`. Nothing happens until `Wire.flush` or `Wire.advance`, and then events have the same order in each
run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.testing.buffered import BufferedTransport, NeverSettles
from tcpapp.testing.pipe import CAPACITY, Pipe
from tcpapp.testing.pipe_socket import PipeSocket

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator

    Cuts = Iterable[int] | Callable[[], Iterable[int]] | None
    TLS = tuple[IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator]

__all__ = ["MOST_TURNS", "NeverSettles", "Wire"]

MOST_TURNS: Final = 100_000
"""The most turns of both ends together before `Wire.flush` gives up. With 128 KiB in each turn they carry 12 GiB."""

CHUNKS: Final = 200
"""The last chunks of each direction that are kept for the output of a failed test: a few screens."""

SHOWN: Final = 40
"""The most bytes of a chunk that are shown: enough for the header of a frame."""

SERVER: Final = IPv4Address("TCP", "10.0.0.1", 7007)
CLIENT: Final = IPv4Address("TCP", "10.0.0.2", 50000)


class _End(BufferedTransport):
    """A transport whose turns are counted."""

    tick: Callable[[], None]

    @override
    def later(self, call: Callable[[], None]) -> IDelayedCall:
        """Schedule `call` for a later turn, and count the turn."""

        def turn() -> None:
            __tracebackhide__ = True
            self.tick()
            call()

        return super().later(turn)


class WirePipe(Pipe):
    """One direction of a wire. It remembers the last `chunks` that were read, and the number of all chunks."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        super().__init__(clock, **options)
        self.chunks: deque[bytes] = deque(maxlen=CHUNKS)
        self.chunks_read = 0

    @override
    def read(self, most: int) -> bytes:
        """Like `Pipe.read`."""
        chunk = super().read(most)
        if chunk:
            self.chunks.append(chunk)
            self.chunks_read += 1
        return chunk

    def told(self) -> str:
        """Return a text with the number of chunks that were read, and the last of them."""
        left_out = "… " if self.chunks_read > len(self.chunks) else ""
        chunks = [repr(each[:SHOWN]) + ("…" if len(each) > SHOWN else "") for each in self.chunks]
        return f"{self.chunks_read} chunk{'s' * (self.chunks_read != 1)}: {left_out}{' '.join(chunks)}".rstrip(": ")


class Wire:
    """
    Connects `server` and `client`, two Twisted protocols of any kind, by a line in memory.

    The constructor calls ``makeConnection`` of both, the server first.

    - `tls`: the TLS contexts of server and client, for real TLS by `twisted.protocols.tls`. Both begin the handshake.
    - `latency` (seconds), `bandwidth` (bytes a second; `None`: no limit), `capacity` (bytes in the kernels' buffers):
      for each direction.
    - `cuts`: the sizes of the pieces for ``dataReceived`` in each direction (see `tcpapp.testing.pipe`). If it is a
      function, it is called for each direction, and returns the sizes. Under TLS the encrypted stream is cut.

    `to_server` and `to_client` are the two directions. Each is a `Pipe`, for settings that differ, and its `chunks` are
    the last chunks that were read. `told` returns a text that says how the streams were cut. With the pytest plugin, a
    failed test shows this text for each wire among the variables of its calls.

    `server_transport` and `client_transport` are the transports. With TLS, they are the transports below TLS.

    It differs from sockets as `BufferedTransport` and `Pipe` do. Also, connecting cannot fail. It is a TCP connection,
    whatever the addresses (over a UNIX socket, an abort looks like a clean end, and a write to a closed peer fails at
    once). Over TLS, Twisted's cooperator drives a *pull* producer, on the global reactor and not on `clock`.
    """

    def __init__(
        self,
        server: IProtocol,
        client: IProtocol,
        *,
        clock: Clock | None = None,
        cuts: Cuts = None,
        latency: float = 0.0,
        bandwidth: float | None = None,
        capacity: int = CAPACITY,
        tls: TLS | None = None,
        server_address: IAddress = SERVER,
        client_address: IAddress = CLIENT,
    ) -> None:
        self.server = server
        self.client = client
        self.clock = Clock() if clock is None else clock

        def pipe() -> WirePipe:
            pieces = cuts() if callable(cuts) else cuts
            return WirePipe(self.clock, cuts=pieces, latency=latency, bandwidth=bandwidth, capacity=capacity)

        self.to_server = pipe()
        self.to_client = pipe()
        server_end, client_end = (server, client) if tls is None else self._over_tls(tls)
        self._turns = 0
        here, there = PipeSocket(self.to_server, self.to_client), PipeSocket(self.to_client, self.to_server)
        self.server_transport = _End(here, server_end, self.clock, host=server_address, peer=client_address)
        self.client_transport = _End(
            there, client_end, self.clock, host=client_address, peer=server_address, client=True
        )
        self.server_transport.tick = self.client_transport.tick = self._tick
        self.server_transport.open()
        self.client_transport.open()

    def _over_tls(self, contexts: TLS) -> tuple[IProtocol, IProtocol]:
        """Return the two protocols, each under TLS."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        def wrapped(context: Any, protocol: IProtocol, *, client: bool) -> Any:
            # The wrapper only asks its factory for the protocol, and Factory is typed as making Protocols.
            factory: Any = Factory()
            factory.noisy = False
            factory.buildProtocol = lambda _address: protocol
            clock: Any = self.clock
            return TLSMemoryBIOFactory(context, client, factory, clock=clock).buildProtocol(None)

        return wrapped(contexts[0], self.server, client=False), wrapped(contexts[1], self.client, client=True)

    def told(self) -> str:
        """Return how the streams were cut: the chunks that each end received."""
        ends = (("server", self.server, self.to_server), ("client", self.client, self.to_client))
        return "\n".join([f"to the {who}, {type(end).__name__}: {pipe.told()}" for who, end, pipe in ends])

    # Time.

    def flush(self) -> None:
        """
        Let all bytes under way arrive, with all their effects.

        The clock advances as far as `latency` and `bandwidth` need, and no further. Timers that are due by then run.
        Raises `NeverSettles` if the two ends never come to rest.
        """
        __tracebackhide__ = True
        self._turns = 0
        self.clock.advance(0)
        while arrivals := [at for at in (self.to_server.next_arrival, self.to_client.next_arrival) if at is not None]:
            self.clock.advance(max(0.0, min(arrivals) - self.clock.seconds()))

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Bytes arrive and are answered, and the answers arrive, each at its time."""
        __tracebackhide__ = True
        end = self.clock.seconds() + seconds
        self._turns = 0
        self.clock.advance(0)
        while (calls := self.clock.getDelayedCalls()) and (first := min(each.getTime() for each in calls)) <= end:
            self.clock.advance(max(0.0, first - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def _tick(self) -> None:
        __tracebackhide__ = True
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise NeverSettles(f"after {MOST_TURNS} turns {self.server!r} and {self.client!r} still talk")

    # Faults of the line. For one direction alone, use `to_server` or `to_client`.

    def stall(self) -> None:
        """Let nothing arrive at either end until `go_on`."""
        self.to_server.stall()
        self.to_client.stall()

    def go_on(self) -> None:
        """End a stall. Items that were due meanwhile arrive now."""
        self.to_server.go_on()
        self.to_client.go_on()

    def cut(self) -> None:
        """Cut the line: nothing arrives any more, and neither end notices."""
        self.to_server.cut()
        self.to_client.cut()

    def reset(self) -> None:
        """Reset the connection from the network. Both ends get the reset after the bytes that were sent to them."""
        self.to_server.reset()
        self.to_client.reset()

    def half_close(self, who: Literal["server", "client"]) -> None:
        """
        Close the writing side of one end after its written bytes. It cannot be used over TLS, which has no half-close.
        """
        (self.server_transport if who == "server" else self.client_transport).loseWriteConnection()

    def close(self) -> None:
        """End the connection at both ends now, with `ConnectionLost`. No timer is left on the clock."""
        self.cut()
        for end in (self.server_transport, self.client_transport):
            end.connectionLost(Failure(ConnectionLost()))
