"""
The methods that the parts of a simulation use of the parts above them: the simulation, its network, a host.

A `Simulation` has a network, the network has hosts, and a host has a reactor. Each part has a reference to the part
above it, and uses only the methods listed here. So it need not import the module of that part.
"""

from __future__ import annotations

from typing import Any, Protocol

from tcpapp.testing.simulation.decisions import Decisions
from tcpapp.testing.simulation.timeline import Timeline
from tcpapp.testing.simulation.trace import Trace

__all__ = ["HostPart", "NetworkPart", "SimulationPart"]


class NetworkPart(Protocol):
    """The methods of the network that hosts and their reactors use."""

    def ip_of(self, name: str, asking: Any) -> str | None:
        """Return the address of the host of this name, for the host `asking`."""

    def listen_tcp(self, reactor: Any, port: Any, factory: Any, backlog: int, interface: str) -> Any:
        """Listen on a port of the host of `reactor`."""

    def connect_tcp(self, reactor: Any, name: str, port: int, factory: Any, timeout: float) -> Any:
        """Connect to a port of the host called `name`."""

    def listen_unix(self, reactor: Any, path: str | bytes, factory: Any, backlog: int, locked: bool) -> Any:
        """Listen on a path of the host of `reactor`."""

    def connect_unix(self, reactor: Any, path: str | bytes, factory: Any, timeout: float) -> Any:
        """Connect to a path of the host of `reactor`."""

    def powered(self, host: Any) -> None:
        """Note that the host has power again."""

    def wake(self, host: Any) -> None:
        """Note that the host reads at another speed."""

    def reset(self, host: Any, other: Any) -> None:
        """Reset the connections of a host."""

    def process_ended(self, host: Any, *, silently: bool, reset: bool) -> None:
        """Note that the process of a host has ended."""


class SimulationPart(Protocol):
    """The methods of the simulation that its parts use."""

    decisions: Decisions
    timeline: Timeline
    trace: Trace

    @property
    def network(self) -> NetworkPart:
        """The network between the hosts."""

    def note(self, where: str, what: str, detail: Any = "") -> None:
        """Note an event in the trace."""

    def boot(self, host: Any) -> None:
        """Start the process of a host."""


class HostPart(Protocol):
    """The methods of a host that its reactor and its sockets use."""

    name: str
    ip: str
    powered: bool
    offset: float
    reading_speed: float | None

    @property
    def simulation(self) -> SimulationPart:
        """The simulation that the host belongs to."""

    def exit(self, reactor: Any) -> None:
        """End the process of this reactor, which was stopped."""
