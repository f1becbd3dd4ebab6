"""`simulate`: run a scenario with many seeds, and make the first failure small."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred

from tcpapp.testing.simulation.decisions import Schedule
from tcpapp.testing.simulation.errors import NotRepeated, SimulationError, SimulationFailed, count_of
from tcpapp.testing.simulation.simulation import AT_MOST, Simulation

__all__ = ["replay", "simulate"]

Scenario = Callable[[Simulation], Any]
"""What is run: a function, which may return a Deferred, or a coroutine function."""

SHRINKS = 300
"""Runs that are spent on making a failure smaller: a few seconds for scenarios of some milliseconds."""

SHRINK_EVENTS = 5_000_000
"""Events that are spent on it: some minutes of work. Of runs that never rest, few are enough to be there."""

Decided = tuple[str, int]
"""A decision: the stream, and the place in it."""


def simulate(
    scenario: Scenario,
    seeds: Iterable[int] = range(1000),
    *,
    shrinks: int = SHRINKS,
    at_most: int = AT_MOST,
    **options: Any,
) -> int:
    """
    Run ``scenario(sim)`` for each seed, each in a new `Simulation`; the number of runs.

    A plain function sets the scene, which is then run until nothing is left to happen; a Deferred or coroutine is run
    until it ends. A run fails by whatever the scenario or the run raises. Of the first that does, decisions are put to
    their plainest as long as it fails in the same way, in `shrinks` runs and `SHRINK_EVENTS` events at most; then
    `SimulationFailed` is raised. Where the same seed does not fail in the same way again, `NotRepeated` is.
    `at_most` events are allowed in a run. `options` go to the `Simulation`.
    """
    __tracebackhide__ = True
    runs = 0
    with _garbage_apart():
        for runs, seed in enumerate(seeds, 1):  # it is the result
            sim, error = _run(scenario, seed, None, at_most, options)
            if error is not None:
                raise _shrunk(scenario, sim, error, runs, shrinks, at_most, options)
    return runs


def replay(
    scenario: Scenario, seed: int, schedule: Schedule | None = None, *, at_most: int = AT_MOST, **options: Any
) -> Simulation:
    """
    Run ``scenario(sim)`` once, as `simulate` does, by a schedule that it has shrunk, and raise what is raised in it.

    The `Simulation` that is returned when nothing is raised has the trace.
    """
    __tracebackhide__ = True
    sim, error = _run(scenario, seed, schedule, at_most, options)
    if error is not None:
        raise error
    return sim


def _run(
    scenario: Scenario, seed: int, schedule: Schedule | None, at_most: int, options: Mapping[str, Any]
) -> tuple[Simulation, Exception | None]:
    """One run, recorded, and how it failed."""
    __tracebackhide__ = True
    sim = Simulation(seed, schedule=schedule, record=True, **options)
    try:
        with sim.acting():
            result = scenario(sim)
            sim.run(result if isinstance(result, Deferred) or hasattr(result, "send") else None, at_most)
        sim.finish()
    except Exception as error:  # noqa: BLE001  # of whatever kind: that is what is looked for
        return sim, error
    return sim, None


def _shrunk(
    scenario: Scenario,
    failed_first: Simulation,
    first: Exception,
    runs: int,
    shrinks: int,
    at_most: int,
    options: Mapping[str, Any],
) -> SimulationFailed | NotRepeated:
    """Run the seed once more, and then what is less, and less."""
    seed = failed_first.seed
    best, error = _run(scenario, seed, None, at_most, options)
    if error is None or not _alike(error, first):
        not_repeated = NotRepeated(seed, first, failed_first.trace, error, best.trace)
        not_repeated.__cause__ = _raised_in(first)
        return not_repeated
    schedule: dict[str, dict[int, int]] = best.decisions.schedule
    left, events_left = shrinks, SHRINK_EVENTS
    for candidate in (shrinking := _Shrinking(schedule)):
        if not left or events_left < 0:
            break
        sim, another = _run(scenario, seed, candidate, at_most, options)
        left -= 1
        events_left -= sim.timeline.happened
        if another is not None and _alike(another, error):
            best, error = sim, another
            shrinking.take(sim.decisions.schedule)
    failed = SimulationFailed(error, seed, best.trace, shrinking.schedule, runs)
    failed.__cause__ = _raised_in(error)
    return failed


def _raised_in(error: Exception) -> BaseException | None:
    """What the scenario raised, or what it runs: its traceback is worth to be seen, that of the kit's own is not."""
    return error.__cause__ if isinstance(error, SimulationError) else error


def _alike(one: Exception, other: Exception) -> bool:
    """Whether two runs failed in the same way: by the same kind of error, caused by the same kind."""
    return type(one) is type(other) and type(one.__cause__) is type(other.__cause__)


class _Shrinking:
    """
    The schedules to try, each smaller than the smallest that was taken.

    First nothing at all, then without one stream after the other, then without parts of what is left, by halves down to
    single decisions, then with half of each number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._taken = False

    def take(self, schedule: Schedule) -> None:
        """The last one that was given failed, too; this is what was decided in it."""
        if self._size(schedule) < self._size(self.schedule):
            self.schedule = schedule
            self._taken = True

    def __iter__(self) -> Iterator[Schedule]:
        yield {}
        for name in list(self.schedule):
            if name in self.schedule:
                yield self._without({(name, place) for place in self.schedule[name]})
        size = count_of(self.schedule) // 2
        while size:
            yield from self._without_parts(size)
            size //= 2
        yield from self._halved()

    def _without_parts(self, size: int) -> Iterator[Schedule]:
        start = 0
        while start < count_of(self.schedule):
            self._taken = False
            yield self._without(set(self._all()[start : start + size]))
            if not self._taken:
                start += size

    def _halved(self) -> Iterator[Schedule]:
        for name, place in self._all():
            self._taken = True
            while self._taken and self.schedule.get(name, {}).get(place, 0) > 1:
                self._taken = False
                halved = {each: dict(drawn) for each, drawn in self.schedule.items()}
                halved[name][place] //= 2
                yield halved

    def _all(self) -> list[Decided]:
        return [(name, place) for name, drawn in self.schedule.items() for place in drawn]

    def _without(self, dropped: set[Decided]) -> Schedule:
        return {
            name: {place: chosen for place, chosen in drawn.items() if (name, place) not in dropped}
            for name, drawn in self.schedule.items()
        }

    @staticmethod
    def _size(schedule: Schedule) -> tuple[int, int]:
        return count_of(schedule), sum(chain.from_iterable(drawn.values() for drawn in schedule.values()))


@contextmanager
def _garbage_apart() -> Iterator[None]:
    """Take what is there already out of the collector's sight, so that a collection after each run costs little."""
    apart = gc.get_freeze_count() == 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if apart:
            gc.unfreeze()
