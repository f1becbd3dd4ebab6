"""A simulated machine with one process on it, which can crash and be started again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tcpapp.testing.simulation.parts import SimulationPart
from tcpapp.testing.simulation.reactor import SimulatedReactor

__all__ = ["Host"]


class Host:
    """
    A machine of the simulation: a name, an address, and one process, which uses its `reactor`.

    ``Simulation.host`` makes it. `boot(host)` starts the process's program. `restart` runs it again, with a new reactor
    and without any earlier state.
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
        """Whether its process runs."""
        return self.reactor.turns.alive

    def crash(self, silently: bool = False) -> None:
        """
        The process is gone, now: its timers never fire, its code is never called again, and its memory is lost.

        Its peers' connections are reset, as for a process that is killed with unread bytes; new connections are
        refused. With `silently`, the machine is gone too, as by loss of power: no peer is told, connecting hangs, and a
        peer notices when it sends something after the `restart`.
        """
        self.simulation.note(self.name, "crashes", "silently" if silently else "")
        self._end(silently=silently, reset=True)

    def exit(self, reactor: SimulatedReactor) -> None:
        """The process of this reactor has stopped it: its connections are closed, by FIN."""
        if reactor is self.reactor and self.running:
            self.simulation.note(self.name, "exits")
            self._end(silently=False, reset=False)

    def restart(self) -> None:
        """Start a new process, after a `crash` of the one that still runs: `boot` is called, with a new reactor."""
        if self.running:
            self.crash()
        self.powered = True
        self.simulation.network.powered(self)
        self.reactor = SimulatedReactor(self, self.simulation.timeline)
        self.simulation.note(self.name, "restarts")
        self.simulation.boot(self)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back, and the process's timers with it: see `SimulatedReactor`."""
        self.simulation.note(self.name, "clock jumps", f"{seconds:+g} s")
        self.offset += seconds
        self.reactor.jump(self.offset)

    def read_at(self, speed: float | None) -> None:
        """
        From now on the process reads `speed` bytes a second of each connection; 0: none at all, `None`: all.

        So the writes of its peers fill the connection, and then their transports.
        """
        self.simulation.note(self.name, "reads at", "full speed" if speed is None else f"{speed:g} bytes/s")
        self.reading_speed = speed
        self.simulation.network.wake(self)

    def reset(self, other: Host | None = None) -> None:
        """
        Reset its connections, or those with `other`: both ends lose them.

        In a partition the resets get lost, and each end notices when it sends something.
        """
        self.simulation.note(self.name, "is reset", "" if other is None else f"with {other.name}")
        self.simulation.network.reset(self, other)

    def _end(self, *, silently: bool, reset: bool) -> None:
        self.reactor.turns.alive = False
        self.powered = not silently
        self.simulation.network.process_ended(self, silently=silently, reset=reset)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ip}>"
