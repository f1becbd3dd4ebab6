"""
What the parts of a simulation know of those above them: of the simulation, of its network, of a host.

A `Simulation` has a network, the network has hosts, and a host has a reactor. Each knows the one above it by what it
asks of it, as written here, and imports none of them. Hosts and reactors that are handed up are of the classes there.
"""

from __future__ import annotations

from typing import Any, Protocol

from tcpapp.testing.simulation.decisions import Decisions
from tcpapp.testing.simulation.timeline import Timeline
from tcpapp.testing.simulation.trace import Trace

__all__ = ["HostPart", "NetworkPart", "SimulationPart"]


class NetworkPart(Protocol):
    """The network, as hosts and their reactors ask it."""

    def ip_of(self, name: str, asking: Any) -> str | None:
        """The address of the host of this name."""

    def listen_tcp(self, reactor: Any, port: Any, factory: Any, backlog: int, interface: str) -> Any:
        """Listen on a port of the host of `reactor`."""

    def connect_tcp(self, reactor: Any, name: str, port: int, factory: Any, timeout: float) -> Any:
        """Connect to the port of a host."""

    def listen_unix(self, reactor: Any, path: str | bytes, factory: Any, backlog: int, locked: bool) -> Any:
        """Listen on a path of the host of `reactor`."""

    def connect_unix(self, reactor: Any, path: str | bytes, factory: Any, timeout: float) -> Any:
        """Connect to a path."""

    def powered(self, host: Any) -> None:
        """The host has power again."""

    def wake(self, host: Any) -> None:
        """The host reads at another speed."""

    def reset(self, host: Any, other: Any) -> None:
        """Reset the connections of a host."""

    def process_ended(self, host: Any, *, silently: bool, reset: bool) -> None:
        """The process of a host is no more."""


class SimulationPart(Protocol):
    """The simulation, as its parts ask it."""

    decisions: Decisions
    timeline: Timeline
    trace: Trace

    @property
    def network(self) -> NetworkPart:
        """What lies between the hosts."""

    def note(self, where: str, what: str, detail: Any = "") -> None:
        """Note an event in the trace."""

    def boot(self, host: Any) -> None:
        """Start the process of a host."""


class HostPart(Protocol):
    """A host, as its reactor and its sockets ask it."""

    name: str
    ip: str
    powered: bool
    offset: float
    reading_speed: float | None

    @property
    def simulation(self) -> SimulationPart:
        """What the host is of."""

    def exit(self, reactor: Any) -> None:
        """The process of this reactor has stopped it."""
