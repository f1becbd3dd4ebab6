"""
The line between two hosts, and its sockets. The line is a `Pipe`; the seed decides its delays, its cuts and its order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tcpapp.testing.pipe import CAPACITY, Pipe
from tcpapp.testing.pipe_socket import PipeSocket
from tcpapp.testing.simulation.decisions import Stream
from tcpapp.testing.simulation.parts import HostPart
from tcpapp.testing.simulation.timeline import TIES, Later, Timeline, Turns

if TYPE_CHECKING:
    from tcpapp.testing.simulation.trace import Trace

__all__ = ["Latency", "Line", "LineClock", "Link", "SimulatedSocket"]

Latency = float | tuple[float, float] | Callable[[float], float]
"""
Seconds from one host to another: a constant, a range (drawn uniformly), or a function of a fraction from 0.0 up to 1.0.

The function is the quantile function of a distribution, such as ``lambda fraction: 0.01 - 0.02 * math.log(1 -
fraction)``.
"""

SIZES = 4, 64, 1460
"""Bounds for the bytes of a cut piece: inside a header, inside a small frame, inside a TCP segment."""

READS_A_SECOND = 10
"""The reads a second of a reader of limited speed: enough to look steady, and few enough to cost nothing."""


GIVE_UP = 924.6
"""Seconds for which TCP repeats unacknowledged bytes before it gives up: Linux's minimum, by tcp_retries2."""


class Link:
    """
    The properties of the link between two hosts.

    `latency` is in seconds (see `Latency`). `bandwidth` is in bytes a second for each connection (`None`: no limit).
    `capacity` is the bytes that the kernels hold for one direction of a connection. `cuts` is the probability (0.0 to
    1.0) that a read gets fewer bytes than there are, and that a write accepts fewer bytes than there is room for.
    """

    def __init__(
        self, latency: Latency, bandwidth: float | None = None, capacity: int = CAPACITY, cuts: float = 0.1
    ) -> None:
        if not 0.0 <= cuts <= 1.0:
            raise ValueError(f"cuts is a likelihood from 0.0 to 1.0: {cuts!r}")
        self.latency = latency
        self.bandwidth = bandwidth
        self.capacity = capacity
        self.cuts = cuts
        self.parted = False

    def delay(self, chance: Stream) -> float:
        """Draw the delay in seconds for one item."""
        latency = self.latency
        if isinstance(latency, tuple):
            least, most = latency
            return least + (most - least) * chance.fraction()
        return latency(chance.fraction()) if callable(latency) else latency


class LineClock:
    """The time of the simulation, for events outside the processes. The seed orders the events of one moment."""

    __slots__ = ("_chance", "_timeline", "_world")

    def __init__(self, timeline: Timeline, world: Turns, chance: Stream) -> None:
        self._timeline = timeline
        self._world = world
        self._chance = chance

    def seconds(self) -> float:
        """Return the seconds since the simulation began."""
        return self._timeline.now

    def callLater(self, delay: float, call: Callable[..., None], *arguments: Any) -> Later:
        """Call `call` in `delay` seconds."""
        later = Later(call, arguments)
        timeline = self._timeline
        timeline.at(timeline.now + delay, self._chance.draw(TIES), self._world, Later.happen, later)
        return later


class Line(Pipe):
    """
    One direction of a simulated connection.

    During a partition, sent bytes wait, because TCP repeats them, and arrive when the partition is over. A reset is
    sent only once, and gets lost. So one end can be gone while the other end does not know it. The other end gets an
    answer to later or waiting bytes: `on_answered` is called when the answer arrives.

    Bytes that have waited for `GIVE_UP` seconds are lost, and `on_given_up` is called.
    """

    def __init__(self, clock: LineClock, chance: Stream, link: Link, reader: HostPart) -> None:
        super().__init__(clock, capacity=link.capacity, bandwidth=link.bandwidth)  # type: ignore[arg-type]  # it is used for nothing else
        self.chance = chance
        self.link = link
        self.reader = reader
        self.on_given_up: Callable[[], None] = _nobody
        self.on_answered: Callable[[], None] = _nobody
        self._sends_again = False
        self._giving_up: Later | None = None
        self.refresh()

    @property
    def arrived(self) -> int:
        """The number of bytes that can be read."""
        return len(self._arrived)

    def refresh(self) -> None:
        """Let the line carry items or wait, as the link does now."""
        parted = self.link.parted or not self.reader.powered
        if parted and not self._stalled:
            self.stall()
            self._wait()
        elif self._stalled and not parted:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None
            self.go_on()
            if self._sends_again:
                self._sends_again = False
                self.on_answered()

    def refresh_after(self, seconds: float) -> None:
        """Do as `refresh` does, but let the waiting bytes arrive only after `seconds`."""
        if self.link.parted:
            self.refresh()
        else:
            self.clock.callLater(seconds, self.refresh)

    def relink(self, link: Link) -> None:
        """Use another link from now on. A writer that waits for room is called, because there is possibly room now."""
        self.link = link
        self.bandwidth = link.bandwidth
        self.capacity = link.capacity
        self.on_room()

    def reset(self) -> None:
        """Reset the line. A reset that cannot pass now is lost."""
        if self._stalled:
            self._written = True
            self._sends_again = self._sends_again or bool(self._flight)
            while self._flight:
                self._drop(self._flight.pop()[1])
        else:
            super().reset()

    def _send(self, item: Any) -> None:
        self.latency = self.link.delay(self.chance)
        Pipe._send(self, item)
        if self._stalled:
            self._wait()

    def _wait(self) -> None:
        if self._flight and self._giving_up is None:
            self._giving_up = self.clock.callLater(GIVE_UP, self._give_up)  # type: ignore[assignment]  # a `LineClock`

    def _give_up(self) -> None:
        self.reset()
        self.on_given_up()


class SimulatedSocket(PipeSocket):
    """An end of a connection on a host. It reads at the host's speed, and notes received bytes in the trace."""

    incoming: Line
    outgoing: Line
    other: SimulatedSocket

    def __init__(self, name: str, host: HostPart, peer: HostPart, incoming: Line, outgoing: Line) -> None:
        super().__init__(incoming, outgoing)
        self.name = name
        self.host = host
        self.peer = peer
        self.on_closed: Callable[[SimulatedSocket], None] = _ignore
        outgoing.on_given_up = self._time_out
        outgoing.on_answered = self._broken_off
        self._trace: Trace = host.simulation.trace
        self._timeline = host.simulation.timeline
        self._rests = False

    @property
    def readable(self) -> bool:
        """Whether there is something to read, and the host reads now."""
        line = self.incoming
        if line._arrived or line.ended or line.was_reset:
            return not self._rests and self.host.reading_speed != 0
        return False

    def recv(self, most: int) -> bytes:
        """Return received bytes, or a part of them."""
        incoming = self.incoming
        speed = self.host.reading_speed
        if speed is not None:
            most = min(most, max(1, int(speed / READS_A_SECOND)))
        if incoming.arrived > 1 and incoming.chance.chance(incoming.link.cuts):
            most = min(most, 1 + incoming.chance.draw(incoming.chance.pick(SIZES)))
        now = self._timeline.now
        try:
            data = incoming.read(most)
        except ConnectionResetError:
            self._trace.add(now, self.name, "is reset")
            raise
        self._trace.add(now, self.name, "reads", data or "the end")
        if speed:
            self._rest(len(data) / speed)
        elif incoming.arrived and len(data) == most:
            self._rest(incoming.link.delay(incoming.chance))
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Accept as many bytes as there is room for, or fewer."""
        chance = self.outgoing.chance
        if len(data) > 1 and chance.chance(self.outgoing.link.cuts):
            data = data[: 1 + chance.draw(len(data) - 1)]
        return super().send(data)

    def hang_up(self, *, reset: bool) -> None:
        """Stop reading and writing, and note it in the trace."""
        self._trace.add(self.incoming.clock.seconds(), self.name, "is closed", "with a reset" if reset else "")
        super().hang_up(reset=reset)
        self.on_closed(self)

    def drop(self, *, reset: bool) -> None:
        """Close the socket from the kernel, without the program of the host."""
        self.closed = True
        self.hang_up(reset=reset)

    def vanish(self) -> None:
        """Lose the socket with its host. A host that runs there later answers bytes and an end with a reset."""
        self.closed = True
        self.incoming.refuse()
        self.incoming.refuses_ends = True
        self.incoming.on_refused = self.outgoing.reset

    def _time_out(self) -> None:
        if not self.closed:
            self._trace.add(self.incoming.clock.seconds(), self.name, "times out")
            self._broken_off()  # for Twisted, this is the same

    def _broken_off(self) -> None:
        self.incoming.was_reset = True
        self.on_ready()

    def _rest(self, seconds: float) -> None:
        self._rests = True
        self.incoming.clock.callLater(seconds, self._rested)

    def _rested(self) -> None:
        self._rests = False
        self.on_ready()


def _nobody() -> None:
    """Do nothing."""


def _ignore(socket: SimulatedSocket) -> None:
    """Do nothing."""
