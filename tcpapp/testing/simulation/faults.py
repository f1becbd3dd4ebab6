"""What may go wrong while a scenario runs, drawn from the seed; every fault is over in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tcpapp.testing.simulation.decisions import Stream
from tcpapp.testing.simulation.host import Host
from tcpapp.testing.simulation.simulation import Simulation

__all__ = ["FAULTS", "faults"]

SLOWNESS = 1_000.0
"""Bytes a second of a slow reader: a small message takes a noticeable time, a large one seconds."""

JUMPS = 0.5, -0.5, 60.0, -60.0, 3600.0, -3600.0
"""Seconds a clock is set forward or back: by a time service that catches up, and by hand."""


class _Faults:
    """Lets something go wrong every now and then, until a time."""

    def __init__(
        self, sim: Simulation, until: float, every: float, hosts: Sequence[Host], kinds: Sequence[str]
    ) -> None:
        self._sim = sim
        self._chance: Stream = sim.decisions.stream("faults")
        self._until = until
        self._every = every
        self._hosts = hosts
        self._kinds = ("nothing", *kinds)
        self._next()

    def _next(self) -> None:
        seconds = 2 * self._every * self._chance.fraction() if self._every else 0.0
        if self._sim.now + seconds < self._until:
            self._sim.call_later(max(seconds, 0.001), self._happen)

    def _happen(self) -> None:
        kind = self._chance.pick(self._kinds)
        if kind != "nothing":
            host = self._chance.pick(self._hosts)
            FAULTS[kind](self, host, self._chance)
        self._next()

    def other(self, host: Host) -> Host | None:
        """Another host; `None`, all others, where it is this one."""
        other = self._chance.pick(self._sim.hosts)
        return None if other is host else other

    def later(self, undo: Callable[[], object]) -> None:
        """Undo the fault, before the time is over."""
        left = self._until - self._sim.now
        self._sim.call_later(min(left, 4 * self._every * self._chance.fraction()), undo)


def _part(now: _Faults, host: Host, chance: Stream) -> None:
    other = now.other(host)
    host.simulation.partition(host, other, one_way=chance.chance(0.2))
    now.later(lambda: host.simulation.heal(host, other))


def _reset(now: _Faults, host: Host, _: Stream) -> None:
    host.reset(now.other(host))


def _crash(now: _Faults, host: Host, chance: Stream) -> None:
    if host.running:
        host.crash(silently=chance.chance(0.5))
        now.later(lambda: None if host.running else host.restart())


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
}
"""The kinds of faults; all but ``jump``, which stays, and ``reset``, which is over at once, are undone in time."""


def faults(
    sim: Simulation,
    until: float,
    every: float = 5.0,
    hosts: Sequence[Host] | None = None,
    kinds: Sequence[str] = ("partition", "reset", "slow"),
) -> None:
    """
    Let something go wrong with one of `hosts` (`None`: any) about every `every` seconds, until the time `until`.

    `kinds` are among `FAULTS`; a host that crashes needs a ``boot`` to come back. Nothing is wrong any more at `until`.
    Raises `ValueError` for a kind there is not.
    """
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"{kind!r} is no kind of fault; there are {', '.join(FAULTS)}")
    _Faults(sim, until, every, sim.hosts if hosts is None else hosts, kinds)
