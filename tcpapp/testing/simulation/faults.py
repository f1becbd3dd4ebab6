"""Faults while a scenario runs, drawn from the seed. All faults are undone in the end."""

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
"""Bytes a second of a slow reader. A small message takes a noticeable time, a large one takes seconds."""

JUMPS = 0.5, -0.5, 60.0, -60.0, 3600.0, -3600.0
"""Seconds by which a clock is set forward or back: small ones as by a time service, large ones as by hand."""

LINES: Final[tuple[dict[str, Any], ...]] = (
    {"latency": (0.1, 2.0)},
    {"latency": (0.01, 0.1), "bandwidth": 5_000.0},
    {"latency": (0.001, 0.01), "capacity": 100},
    {"latency": (0.001, 0.01), "cuts": 0.9},
)
"""
The faults of a line: long latency, little bandwidth, small buffers, small pieces. Waiting bytes arrive within seconds.
"""


class _Faults:
    """Causes faults at random times until the time `until`."""

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
        """Draw another host; `None`, which stands for all others, if the host itself is drawn."""
        other = self._chance.pick(self.simulation.hosts)
        return None if other is host else other

    def others(self, host: Host) -> list[Host]:
        """Draw another host or all other hosts, and return them."""
        other = self.other(host)
        return [each for each in self.simulation.hosts if each is not host] if other is None else [other]

    def later(self, undo: Callable[[], object]) -> None:
        """Undo a fault at a random time before `until`."""
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
The kinds of faults. All are undone in time, except ``jump``, which stays, and ``reset``, which is over at once.

============= =======================================================================================================
partition     nothing passes, in both directions or in one; connecting clients wait
reset         connections are reset
half-open     connections are reset, and the other end does not notice
slow          the host reads slowly, or not at all
line          the link to another host, or to all, has one of the faults in `LINES`
jump          the host's clock is set forward or back
crash         the process ends without closing, or the machine too; it is started again. Clients are refused, or wait
exit          the process ends, and the kernel closes its connections by FIN; it is started again
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
    Cause a fault at one of `hosts` (`None`: all hosts) about every `every` seconds, until the time `until`.

    `kinds` are names in `FAULTS`. A host that crashes or exits needs a ``boot`` to be started again. At `until` all
    faults are undone. Raises `ValueError`, the caller's fault, for an unknown kind.
    """
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"{kind!r} is no kind of fault; there are {', '.join(FAULTS)}")
    _Faults(sim, until, every, sim.hosts if hosts is None else hosts, kinds)
