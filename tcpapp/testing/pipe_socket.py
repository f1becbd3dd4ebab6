"""A socket in memory between two pipes. Two such sockets are a connection."""

from __future__ import annotations

from errno import EPIPE
from typing import TYPE_CHECKING

from tcpapp.testing.buffered_socket import MemorySocket, would_block

if TYPE_CHECKING:
    from tcpapp.testing.pipe import Pipe

__all__ = ["PipeSocket"]


class PipeSocket(MemorySocket):
    """
    A socket between two pipes.

    As in Linux, it resets the peer if it is closed abruptly, or before it has read all bytes. Later bytes are answered
    with a reset, and after such a close the end of the stream is, too. After it has received a reset, it can send
    nothing.
    """

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        super().__init__()
        self.incoming = incoming
        self.outgoing = outgoing
        incoming.on_arrival = self._ready
        outgoing.on_room = self._ready

    @property
    def readable(self) -> bool:
        """Whether `recv` would not block."""
        return self.incoming.readable

    @property
    def writable(self) -> bool:
        """Whether `send` would not block: it would accept a byte, or raise because the stream has ended."""
        return self.outgoing.held < self.outgoing.capacity or self.incoming.was_reset

    def recv(self, most: int) -> bytes:
        """Read up to `most` bytes."""
        return self.incoming.read(most)

    def send(self, data: bytes | memoryview) -> int:
        """Send as much of `data` as there is room for. After the end, even an empty write raises."""
        if self.incoming.was_reset:
            raise BrokenPipeError(EPIPE, "the peer reset it")
        if data and not self.outgoing.room:
            raise would_block()
        return self.outgoing.write(data)

    def shut_down(self) -> None:
        """End the outgoing stream."""
        self.outgoing.end()

    def hang_up(self, *, reset: bool) -> None:
        """Stop reading and writing. The peer gets an end, or a reset as in the class's description."""
        self.incoming.on_refused = self.outgoing.reset
        if self.incoming.refuse() or reset:
            self.incoming.refuses_ends = True
            self.outgoing.reset()
        else:
            self.outgoing.end()

    def _ready(self) -> None:
        self.on_ready()
