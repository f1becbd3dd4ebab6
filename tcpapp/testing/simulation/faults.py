"""Faults while a scenario runs, drawn from the seed; every fault is over in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from tcpapp.testing.simulation.decisions import Stream
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.simulation.line import Link
from tcpapp.testing.simulation.simulation import Simulation

__all__ = ["FAULTS", "faults"]

SLOWNESS = 1_000.0
"""Bytes a second of a slow reader: a small message takes a noticeable time, a large one seconds."""

JUMPS = 0.5, -0.5, 60.0, -60.0, 3600.0, -3600.0
"""Seconds that a clock is set forward or back: by a time service that corrects it, and by hand."""

LINES: Final[tuple[dict[str, Any], ...]] = (
    {"latency": (0.1, 2.0)},
    {"latency": (0.01, 0.1), "bandwidth": 5_000.0},
    {"latency": (0.001, 0.01), "capacity": 100},
    {"latency": (0.001, 0.01), "cuts": 0.9},
)
"""The faults of a line: far, thin, short of buffers, in pieces. Waiting bytes get through within seconds."""


class _Faults:
    """Causes a fault every now and then, until a time."""

    def __init__(
        self, sim: Simulation, until: float, every: float, hosts: Sequence[Host], kinds: Sequence[str]
    ) -> None:
        self.simulation = sim
        self._chance: Stream = sim.decisions.stream("faults")
        self._until = until
        self._every = every
        self._hosts = hosts
        self._kinds = ("nothing", *kinds)
        self._next()

    def _next(self) -> None:
        seconds = 2 * self._every * self._chance.fraction() if self._every else 0.0
        if self.simulation.now + seconds < self._until:
            self.simulation.call_later(max(seconds, 0.001), self._happen)

    def _happen(self) -> None:
        kind = self._chance.pick(self._kinds)
        if kind != "nothing":
            host = self._chance.pick(self._hosts)
            FAULTS[kind](self, host, self._chance)
        self._next()

    def other(self, host: Host) -> Host | None:
        """Another host; `None`, all others, where it is this one."""
        other = self._chance.pick(self.simulation.hosts)
        return None if other is host else other

    def others(self, host: Host) -> list[Host]:
        """Another host, or all others."""
        other = self.other(host)
        return [each for each in self.simulation.hosts if each is not host] if other is None else [other]

    def later(self, undo: Callable[[], object]) -> None:
        """Undo the fault, before the time is over."""
        left = self._until - self.simulation.now
        self.simulation.call_later(min(left, 4 * self._every * self._chance.fraction()), undo)


def _part(now: _Faults, host: Host, chance: Stream) -> None:
    other = now.other(host)
    now.simulation.partition(host, other, one_way=chance.chance(0.2))
    now.later(lambda: now.simulation.heal(host, other))


def _reset(now: _Faults, host: Host, _: Stream) -> None:
    host.reset(now.other(host))


def _crash(now: _Faults, host: Host, chance: Stream) -> None:
    if host.running:
        host.crash(silently=chance.chance(0.5))
        now.later(lambda: None if host.running else host.restart())


def _exit(now: _Faults, host: Host, _: Stream) -> None:
    if host.running:
        host.exit(host.reactor)
        now.later(lambda: None if host.running else host.restart())


def _half_open(now: _Faults, host: Host, _: Stream) -> None:
    other = now.other(host)
    now.simulation.partition(host, other, one_way=True)
    host.reset(other)
    now.later(lambda: now.simulation.heal(host, other))


def _line(now: _Faults, host: Host, chance: Stream) -> None:
    network, options = now.simulation.network, chance.pick(LINES)
    ways = [way for other in now.others(host) for way in ((host, other), (other, host))]
    for a, b in ways:
        network.divert(a, b, Link(**options))
        now.later(partial(network.restore, a, b))


def _slow(now: _Faults, host: Host, chance: Stream) -> None:
    host.read_at(chance.pick((SLOWNESS, 0.0)))
    now.later(lambda: host.read_at(None))


def _jump(_: _Faults, host: Host, chance: Stream) -> None:
    host.jump(chance.pick(JUMPS))


FAULTS: Final[dict[str, Callable[[_Faults, Host, Stream], None]]] = {
    "partition": _part,
    "reset": _reset,
    "slow": _slow,
    "jump": _jump,
    "crash": _crash,
    "exit": _exit,
    "half-open": _half_open,
    "line": _line,
}
"""
The kinds of faults; all but ``jump``, which stays, and ``reset``, which is over at once, are undone in time.

============= =======================================================================================================
partition     nothing gets through, in both directions or in one; connecting clients wait
reset         connections are reset
half-open     connections are reset, and the other end does not notice
slow          the host reads slowly, or not at all
line          the way to another host, or to all, is long, thin, short of buffers, or cuts what is written and read
jump          the host's clock is set forward or back
crash         the process is gone, or the machine with it; it is started again. Clients are refused, or wait
exit          the process ends, and the kernel closes its connections in order; it is started again
============= =======================================================================================================
"""


def faults(
    sim: Simulation,
    until: float,
    every: float = 5.0,
    hosts: Sequence[Host] | None = None,
    kinds: Sequence[str] = ("partition", "reset", "slow"),
) -> None:
    """
    Cause a fault of one of `hosts` (`None`: any) about every `every` seconds, until the time `until`.

    `kinds` are among `FAULTS`; a host that crashes or exits needs a ``boot`` to come back. At `until` all faults are
    over. Raises `ValueError` for an unknown kind.
    """
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"{kind!r} is no kind of fault; there are {', '.join(FAULTS)}")
    _Faults(sim, until, every, sim.hosts if hosts is None else hosts, kinds)
