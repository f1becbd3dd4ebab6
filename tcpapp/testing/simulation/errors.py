"""What a simulation raises; each tells the seed, what happened last, and how to see it again."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import extract_tb

from tcpapp.testing.simulation.decisions import Schedule
from tcpapp.testing.simulation.trace import Trace

__all__ = ["NeverRests", "NothingLeft", "RunFailed", "SimulationError", "SimulationFailed"]

TAIL = 30
"""Lines of the trace in an error's text: what fits on a screen."""


class SimulationError(AssertionError):
    """
    A simulated run went wrong. `seed` is its seed, `trace` what happened in it.

    ::

        SimulationError
        ├── RunFailed         something raised, or a failure was logged or never handled
        ├── NothingLeft       what was waited for has not come, and nothing is left that could happen
        ├── NeverRests        it went on for more events than it may
        └── SimulationFailed  `simulate` has found a seed
    """

    def __init__(self, text: str, seed: int, trace: Trace) -> None:
        super().__init__(text)
        self.text = text
        self.seed = seed
        self.trace = trace

    def __str__(self) -> str:
        again = f"seed {self.seed}, to see it again: {self.replay}"
        return f"{self.text}\n\n{again}\n\nthe last events:\n{self.trace.tail(TAIL)}"

    @property
    def replay(self) -> str:
        """How to run it again."""
        return f"Simulation({self.seed})"


class RunFailed(SimulationError):
    """Something raised, or a failure was logged, or a Deferred's was never handled; it is the ``__cause__``."""


class NothingLeft(SimulationError):
    """What was waited for has not come, and nothing is left that could happen: a waiter was lost."""


class NeverRests(SimulationError):
    """It went on for more events than it may: a loop without end, or a timer that sets itself again for ever."""


class SimulationFailed(SimulationError):
    """
    A scenario failed with a seed, and with a smaller schedule too.

    `error` is what was raised with that `schedule`, which has the decisions that matter; `runs` says how many seeds it
    took. The `trace` is the one of the smaller schedule.
    """

    def __init__(self, error: Exception, seed: int, trace: Trace, schedule: Schedule, runs: int) -> None:
        [*_, last] = extract_tb(error.__traceback__)
        where = f"in {last.name}, line {last.lineno}: {last.line}"
        super().__init__(f"{type(error).__name__}: {getattr(error, 'text', error)}\n{where}", seed, trace)
        self.error = error
        self.schedule = schedule
        self.runs = runs

    @property
    def replay(self) -> str:
        """How to run it again, as it was found and as it was shrunk."""
        return (
            f"simulate(scenario, seeds=[{self.seed}])\n"
            f"found by {self.runs} run(s); shrunk to {count_of(self.schedule)} decision(s) that are not the plainest:\n"
            f"    replay(scenario, {self.seed}, {plain(self.schedule)!r})"
        )


def count_of(schedule: Schedule) -> int:
    """How many decisions a schedule has."""
    return sum(map(len, schedule.values()))


def plain(schedule: Schedule) -> Mapping[str, Mapping[int, int]]:
    """The schedule as dictionaries, to be pasted into a program."""
    return {name: dict(drawn) for name, drawn in schedule.items()}
