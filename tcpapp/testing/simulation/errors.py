"""What a simulation raises; each tells the seed, what happened last, and how to see it again."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import extract_tb

from tcpapp.testing.simulation.decisions import Schedule
from tcpapp.testing.simulation.trace import Trace

__all__ = ["NeverRests", "NotRepeated", "NothingLeft", "RunFailed", "SimulationError", "SimulationFailed"]

TAIL = 30
"""Lines of the trace in an error's text: what fits on a screen."""

AROUND = 8
"""Lines that are shown before two traces part, and of each of them after it: together they fit on a screen, too."""

DEPENDS = (
    "the scenario depends on more than its seed. What no seed decides: the order of a set of objects (that of their "
    "addresses in memory) or of texts (PYTHONHASHSEED), time.time(), threads, files, what C code such as OpenSSL "
    "draws, and what one run leaves in a global for the next"
)


class SimulationError(AssertionError):
    """
    A simulated run went wrong. `seed` is its seed, `trace` what happened in it.

    ::

        SimulationError
        ├── RunFailed         something raised, or a failure was logged or never handled
        ├── NothingLeft       what was waited for has not come, and nothing is left that could happen
        ├── NeverRests        it went on for more events than it may
        ├── NotRepeated       `simulate` has found a seed, and the same seed did not fail so again
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


class NotRepeated(SimulationError):
    """
    A scenario failed, and did not fail in the same way when it was run again with the same seed.

    So the scenario, or what it runs, depends on more than the seed. `error` is what was raised first and `trace` what
    happened then; `again` is what the second run raised (`None`: nothing) and `trace_again` what happened in it.
    `parted_at` is the number of the first event that is not the same in both, from 0; `None`: the traces are the same.
    """

    def __init__(self, seed: int, error: Exception, trace: Trace, again: Exception | None, trace_again: Trace) -> None:
        super().__init__(f"seed {seed} failed, and did not fail so again: {DEPENDS}", seed, trace)
        self.error = error
        self.again = again
        self.trace_again = trace_again
        self.parted_at = trace.parts_from(trace_again)

    def __str__(self) -> str:
        runs = (("the first run", self.error, self.trace), ("the second run", self.again, self.trace_again))
        told = [self.text, "", *(f"{which}: {_said(error)}" for which, error, _ in runs), ""]
        if self.parted_at is None:
            return "\n".join([*told, "both have the same events, the last of which are:", self.trace.tail(TAIL)])
        before = self.trace.part(self.parted_at - AROUND, AROUND)
        told.append(f"the same in both are events up to number {self.parted_at}, the last of which are:\n{before}")
        for which, _, trace in runs:
            told.append(f"{which} goes on:\n{trace.part(self.parted_at, AROUND) or 'no more events'}")
        return "\n".join(told)


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


def _said(error: Exception | None) -> str:
    """What a run raised, in a line."""
    if error is None:
        return "nothing was raised"
    return f"{type(error).__name__}: {getattr(error, 'text', error)}".partition("\n")[0]


def count_of(schedule: Schedule) -> int:
    """How many decisions a schedule has."""
    return sum(map(len, schedule.values()))


def plain(schedule: Schedule) -> Mapping[str, Mapping[int, int]]:
    """The schedule as dictionaries, to be pasted into a program."""
    return {name: dict(drawn) for name, drawn in schedule.items()}
