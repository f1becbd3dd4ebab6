"""
Whole services in one process and in virtual time. The same seed gives the same run, event for event.

::

    search, faults            `simulate`, which searches for a seed that fails; faults, drawn from the seed
      simulation              hosts, links, partitions, `run`
        host, reactor         a machine and its process, and the reactor of that process
        network, handshake    links between hosts; the beginning of connections
        ports, line, tls      listening, connecting, transports; sockets over `Pipe`; TLS in virtual time
        timeline, decisions   the order of events; random decisions
        chance                random values of Python's own modules, from the seed
        trace, watch, errors  the recorded events; failures; errors
"""

from tcpapp.testing.simulation.decisions import Schedule
from tcpapp.testing.simulation.errors import (
    NeverSettles,
    NothingLeft,
    NotRepeated,
    RunFailed,
    SimulationError,
    SimulationFailed,
)
from tcpapp.testing.simulation.faults import FAULTS, faults
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.simulation.line import Latency
from tcpapp.testing.simulation.search import replay, simulate
from tcpapp.testing.simulation.simulation import Simulation
from tcpapp.testing.simulation.trace import Trace

__all__ = [
    "FAULTS",
    "Host",
    "Latency",
    "NeverSettles",
    "NotRepeated",
    "NothingLeft",
    "RunFailed",
    "Schedule",
    "Simulation",
    "SimulationError",
    "SimulationFailed",
    "Trace",
    "faults",
    "replay",
    "simulate",
]
