"""A simulated machine with one process, which can crash and be started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.testing.simulation.parts import SimulationPart
from tcpapp.testing.simulation.reactor import SimulatedReactor

__all__ = ["Host"]


class Host:
    """
    A machine of the simulation: a name, an address, and one process, which uses its `reactor`.

    ``Simulation.host`` returns it. ``boot(host)`` starts the program of the process. `restart` runs it again, with a
    new reactor and without any earlier state.
    """

    def __init__(self, simulation: SimulationPart, name: str, ip: str, boot: Callable[[Host], Any] | None) -> None:
        self.simulation = simulation
        self.name = name
        self.ip = ip
        self.boot = boot
        self.offset = 0.0
        self.powered = True
        self.reading_speed: float | None = None
        self.reactor = SimulatedReactor(self, simulation.timeline)

    @property
    def running(self) -> bool:
        """Whether the process runs."""
        return self.reactor.turns.alive

    def crash(self, silently: bool = False) -> None:
        """
        End the process now, without closing. Its timers never fire, its code is never called again, and its memory is
        lost.

        Its connections are reset, as for a process that is killed with unread bytes. New connections are refused. With
        `silently`, the machine stops, too, as by loss of power: no peer gets a packet, connecting hangs, and a peer
        notices only when it sends something after the `restart`.
        """
        self.simulation.note(self.name, "crashes", "silently" if silently else "")
        self._end(silently=silently, reset=True)

    def exit(self, reactor: SimulatedReactor) -> None:
        """End the process of this reactor, which was stopped. Its connections are closed by FIN."""
        if reactor is self.reactor and self.running:
            self.simulation.note(self.name, "exits")
            self._end(silently=False, reset=False)

    def restart(self) -> None:
        """
        Start a new process: `boot` is called, with a new reactor. If the old process still runs, it crashes first.
        """
        if self.running:
            self.crash()
        self.powered = True
        self.simulation.network.powered(self)
        self.reactor = SimulatedReactor(self, self.simulation.timeline)
        self.simulation.note(self.name, "restarts")
        self.simulation.boot(self)

    def jump(self, seconds: float) -> None:
        """Set the wall clock `seconds` forward or back, and with it the timers of the process. See `SimulatedTime`."""
        self.simulation.note(self.name, "clock jumps", f"{seconds:+g} s")
        self.offset += seconds
        self.reactor.jump(self.offset)

    def read_at(self, speed: float | None) -> None:
        """
        Let the process read `speed` bytes a second from each connection from now on; 0: none, `None`: no limit.

        A slow reader lets the writes of its peers fill the connection, and then their transports.
        """
        self.simulation.note(self.name, "reads at", "full speed" if speed is None else f"{speed:g} bytes/s")
        self.reading_speed = speed
        self.simulation.network.wake(self)

    def reset(self, other: Host | None = None) -> None:
        """
        Reset the connections of this host, or only its connections with `other`. Both ends lose them.

        In a partition the resets get lost, and each end notices only when it sends something.
        """
        self.simulation.note(self.name, "is reset", "" if other is None else f"with {other.name}")
        self.simulation.network.reset(self, other)

    def _end(self, *, silently: bool, reset: bool) -> None:
        self.reactor.turns.alive = False
        self.powered = not silently
        self.simulation.network.process_ended(self, silently=silently, reset=reset)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ip}>"
