"""`simulate`: runs a scenario with many seeds, and makes the first failure small."""

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
"""A scenario: a function, which can return a Deferred, or a coroutine function. It takes a `Simulation`."""

SHRINKS = 300
"""The most runs for making a failure smaller: they take a few seconds for scenarios of some milliseconds."""

SHRINK_EVENTS = 5_000_000
"""
The most events for making a failure smaller: some minutes of work. Runs that never come to rest use them up quickly.
"""

Decided = tuple[str, int]
"""A decision: its stream, and its position in the stream."""


def simulate(
    scenario: Scenario,
    seeds: Iterable[int] = range(1000),
    *,
    shrinks: int = SHRINKS,
    at_most: int = AT_MOST,
    **options: Any,
) -> int:
    """
    Run ``scenario(sim)`` for each seed, each in a new `Simulation`. Returns the number of runs.

    If the scenario returns a Deferred or is a coroutine function, the run ends with it. Otherwise the scenario only
    prepares the run, which ends when no event is left. A run fails by any exception of the scenario or of the run.
    After the first failed run, decisions are set to the simplest choice as long as the run fails in the same way, in at
    most `shrinks` runs and `SHRINK_EVENTS` events. Then `SimulationFailed` is raised. If the same seed does not fail in
    the same way again, `NotRepeated` is raised. A run can have at most `at_most` events. `options` are the options of
    `Simulation`.
    """
    __tracebackhide__ = True
    runs = 0
    with _garbage_apart():
        for runs, seed in enumerate(seeds, 1):  # `runs` is the result
            sim, error = _run(scenario, seed, None, at_most, options)
            if error is not None:
                raise _shrunk(scenario, sim, error, runs, shrinks, at_most, options)
    return runs


def replay(
    scenario: Scenario, seed: int, schedule: Schedule | None = None, *, at_most: int = AT_MOST, **options: Any
) -> Simulation:
    """
    Run ``scenario(sim)`` once, as `simulate` does, with the `schedule` that `simulate` has found, and raise its
    exception.

    If the run does not fail, return the `Simulation`, with its trace.
    """
    __tracebackhide__ = True
    sim, error = _run(scenario, seed, schedule, at_most, options)
    if error is not None:
        raise error
    return sim


def _run(
    scenario: Scenario, seed: int, schedule: Schedule | None, at_most: int, options: Mapping[str, Any]
) -> tuple[Simulation, Exception | None]:
    """Run once and record the decisions. Returns the simulation, and the exception if it failed."""
    __tracebackhide__ = True
    sim = Simulation(seed, schedule=schedule, record=True, **options)
    try:
        with sim.acting():
            result = scenario(sim)
            sim.run(result if isinstance(result, Deferred) or hasattr(result, "send") else None, at_most)
        sim.finish()
    except Exception as error:  # noqa: BLE001  # any exception is a failed run
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
    """Run the seed again, and then smaller and smaller schedules. Returns the error to raise."""
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
    """Return the exception of the scenario or its code, with its own traceback and without the calls of the kit."""
    return error.__cause__ if isinstance(error, SimulationError) else error


def _alike(one: Exception, other: Exception) -> bool:
    """Return whether two runs failed in the same way: by the same class of error, with a cause of the same class."""
    return type(one) is type(other) and type(one.__cause__) is type(other.__cause__)


class _Shrinking:
    """
    The schedules to try, each smaller than the smallest accepted one.

    First comes the empty schedule, then schedules without one of the streams, then schedules without parts of the rest
    (from halves down to single decisions), then schedules with half of each number.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._taken = False

    def take(self, schedule: Schedule) -> None:
        """Accept `schedule`: the last yielded schedule failed, too, and these are its decisions."""
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
    """Exclude existing objects from garbage collection, so that a collection after each run costs little."""
    apart = gc.get_freeze_count() == 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if apart:
            gc.unfreeze()
