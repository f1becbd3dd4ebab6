"""
One direction of a TCP connection in memory, with the effects that kernels and the line between them have on a stream.

::

    write ─▶ [ on its way: latency, bandwidth ] ─▶ [ arrived: cut into pieces ] ─▶ read
              └───────────── at most `capacity` bytes held, together ─────────────┘

Two pipes and two `PipeSocket` are a connection.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from errno import ECONNRESET, EPIPE
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Final

from tcpapp.testing.buffered_socket import would_block

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["CAPACITY", "SEGMENT", "Pipe", "cut_at", "each_byte", "seeded_cuts"]

CAPACITY: Final = 256 * 1024
"""
The bytes that kernels hold between two sockets: about as many as Linux allows a new pair on the loopback interface.
"""

SEGMENT: Final = 1460
"""The bytes that a line of limited bandwidth carries at a time: Ethernet's 1,500 minus the headers of TCP over IPv4."""


def each_byte() -> Iterator[int]:
    """Return sizes of pieces that cut after every byte."""
    return repeat(1)


def cut_at(*offsets: int) -> list[int]:
    """Return sizes of pieces that cut at these rising offsets of the stream. Raises `ValueError` for other offsets."""
    sizes = [b - a for a, b in pairwise((0, *offsets))]
    if any(size < 1 for size in sizes):
        raise ValueError(f"offsets are above 0 and rise: {offsets!r}")
    return sizes


def seeded_cuts(seed: int | random.Random, most: int = 64) -> Iterator[int]:
    """
    Return random sizes of pieces from 1 to `most` bytes, small ones more often. The same `seed` gives the same sizes.
    """
    chosen = seed if isinstance(seed, random.Random) else random.Random(seed)  # noqa: S311 - repeatable, not secret
    while True:
        yield chosen.randint(1, chosen.randint(1, most))


def _nothing() -> None:
    """Do nothing."""


class _Mark:
    """An item after the bytes: the end of the stream, or a reset."""


_END = _Mark()
_RESET = _Mark()


class Pipe:
    """
    Carries bytes from a writer to a reader, in order, and then an end.

    `clock` is a `Clock` or a reactor. `latency` is in seconds, `bandwidth` in bytes a second (`None`: no limit),
    `capacity` in bytes. `cuts` are the sizes of the pieces that the reader gets, one after the other: a read never
    crosses a cut, and can stop before it. With `None`, and after the last size, a read gets all available bytes. See
    `each_byte`, `cut_at` and `seeded_cuts`.

    `on_arrival` is called when there are possibly bytes to read, and `on_room` when there is possibly room to write.
    `on_refused` is called when bytes come to a reader that is gone; with `refuses_ends`, also for the end of the
    stream.

    It differs from a kernel. There is one capacity instead of a sending and a receiving buffer. It is writable if there
    is room for one byte. Small writes are not delayed (Nagle's algorithm is off). No packet is lost and sent again, so
    a line that loses packets is simulated as a slow line.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        capacity: int = CAPACITY,
        latency: float = 0.0,
        bandwidth: float | None = None,
        cuts: Iterable[int] | None = None,
    ) -> None:
        if capacity < 1 or latency < 0 or (bandwidth is not None and bandwidth <= 0):
            raise ValueError("capacity and bandwidth are above 0, latency is 0 or more")
        self.clock = clock
        self.capacity = capacity
        self.latency = latency
        self.bandwidth = bandwidth
        self.on_arrival: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.on_refused: Callable[[], None] = _nothing
        self.refuses_ends = False
        self._cuts = iter(() if cuts is None else cuts)
        self._piece = 0
        self._flight: deque[tuple[float, bytes | _Mark]] = deque()
        self._arrived = bytearray()
        self.held = 0
        """The number of bytes that were written and not read yet."""
        self._free_at = 0.0
        self._timer: IDelayedCall | None = None
        self._stalled = False
        self._cut = False
        self._refused = False
        self._written = False
        self.ended = False
        self.was_reset = False

    # The writer's end.

    @property
    def room(self) -> int:
        """The number of bytes that can be written now; 0 if the capacity was made smaller than the held bytes."""
        return max(0, self.capacity - self.held)

    def write(self, data: bytes | memoryview) -> int:
        """
        Accept as much of `data` as there is room for, and return its number of bytes. Raises `BrokenPipeError` after an
        end.
        """
        if self._written:
            raise BrokenPipeError(EPIPE, "the stream has been ended")
        taken = bytes(data[: self.room])
        if self.bandwidth is not None:
            for start in range(0, len(taken), SEGMENT):
                self._send(taken[start : start + SEGMENT])
        elif taken:
            self._send(taken)
        self.held += len(taken)
        self._move()
        return len(taken)

    def end(self) -> None:
        """End the stream after the written bytes. Later calls do nothing."""
        if not self._written:
            self._written = True
            self._send(_END)
            self._move()

    def reset(self) -> None:
        """
        Reset the stream. Bytes that are not yet on the line are lost; bytes on the line arrive, and then the reset.
        """
        self._written = True
        arrival = self.clock.seconds() + self.latency
        self._free_at = 0.0
        while self._flight and self._flight[-1][0] > arrival:
            self._drop(self._flight.pop()[1])
        self._send(_RESET)
        self._move()

    # The reader's end.

    @property
    def readable(self) -> bool:
        """Whether there are bytes, the end or a reset to read."""
        return bool(self._arrived) or self.ended or self.was_reset

    def read(self, most: int) -> bytes:
        """
        Return up to `most` of the bytes that have arrived; ``b""`` at the end.

        Raises `BlockingIOError` if no bytes have arrived, and `ConnectionResetError` after a reset.
        """
        if not self._arrived:
            if self.ended:
                return b""
            raise ConnectionResetError(ECONNRESET, "the peer reset it") if self.was_reset else would_block()
        if not self._piece:
            self._piece = next(self._cuts, 0)
        size = min(most, self._piece or most)
        if size >= len(self._arrived):
            data = bytes(self._arrived)
            self._arrived.clear()
        else:
            data = bytes(self._arrived[:size])
            del self._arrived[:size]
        self._piece = max(0, self._piece - len(data))
        self._release(len(data))
        return data

    def refuse(self) -> bool:
        """Stop reading: later bytes are dropped. Returns whether some bytes were not read."""
        unread = bool(self._arrived)
        self._refused = True
        self.held -= len(self._arrived)
        self._arrived.clear()
        return unread

    # The line between them.

    @property
    def next_arrival(self) -> float | None:
        """The time on the clock at which the next item arrives; `None` if there is no item, or it will never arrive."""
        return None if self._timer is None or self._stalled else self._flight[0][0]

    def cut_into(self, cuts: Iterable[int] | None) -> None:
        """Cut the rest of the stream into pieces of these sizes; `None`: do not cut it."""
        self._cuts = iter(() if cuts is None else cuts)
        self._piece = 0

    def stall(self) -> None:
        """Let nothing arrive until `go_on`. The writer does not notice: it can write until the capacity is used up."""
        self._stalled = True

    def go_on(self) -> None:
        """End a stall. Items that were due meanwhile arrive now."""
        self._stalled = False
        self._move()

    def cut(self) -> None:
        """Cut the line: no byte, no end and no reset arrives any more. Neither end notices."""
        self._cut = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, item: bytes | _Mark) -> None:
        """Put one item on the line."""
        now = self.clock.seconds()
        self._free_at = max(now, self._free_at)
        if self.bandwidth is not None and isinstance(item, bytes):
            self._free_at += len(item) / self.bandwidth
        self._flight.append((self._free_at + self.latency, item))

    def _move(self, due: float = 0.0) -> None:
        """Let due items arrive, and wait for the next item."""
        flight = self._flight
        if self._stalled or self._cut or not flight:
            return
        now = self.clock.seconds()
        due = max(due, now)
        arrived = False
        while flight and flight[0][0] <= due:
            self._arrive(flight.popleft()[1])
            arrived = True
        if flight and self._timer is None:
            at = flight[0][0]
            self._timer = self.clock.callLater(max(0.0, at - now), self._is_due, at)
        if arrived:
            self.on_arrival()

    def _is_due(self, at: float) -> None:
        """Return whether the time `at` has come. The clock can be slightly before it, because its sums are rounded."""
        self._timer = None
        self._move(at)

    def _arrive(self, item: bytes | _Mark) -> None:
        """Let one item arrive."""
        if type(item) is bytes and not self._refused:
            self._arrived += item
        elif isinstance(item, _Mark):
            self.ended = self.ended or item is _END
            self.was_reset = self.was_reset or item is _RESET
            if item is _END and self.refuses_ends:
                self.on_refused()
        else:
            self._drop(item)
            self.on_refused()

    def _drop(self, item: bytes | _Mark) -> None:
        """Drop an item that is no longer read, which makes room for another."""
        if isinstance(item, bytes):
            self._release(len(item))

    def _release(self, size: int) -> None:
        """Make room for `size` bytes. Only a writer that had no room can wait for it."""
        was_full = self.held >= self.capacity
        self.held -= size
        if was_full:
            self.on_room()
