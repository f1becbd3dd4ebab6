"""The errors of a simulation. Each shows the seed, the last events, and how to run it again."""

from __future__ import annotations

from collections.abc import Mapping
from traceback import extract_tb

from tcpapp.testing.simulation.decisions import Schedule
from tcpapp.testing.simulation.trace import Trace

__all__ = ["NeverSettles", "NotRepeated", "NothingLeft", "RunFailed", "SimulationError", "SimulationFailed"]

TAIL = 30
"""The lines of the trace in an error's text: as many as fit on a screen."""

AROUND = 8
"""The lines before the point where two traces differ, and of each trace after it. Together they fit on a screen."""

DEPENDS = (
    "the scenario depends on more than its seed. No seed decides: the order of a set of objects (their addresses in "
    "memory) or of texts (PYTHONHASHSEED), time.time(), threads, files, random values of C code such as OpenSSL, and "
    "globals that one run leaves for the next"
)


class SimulationError(AssertionError):
    """
    A simulated run failed. `seed` is its seed, and `trace` has its events.

    ::

        SimulationError
        ├── RunFailed         an exception was raised, or a failure was logged or never handled
        ├── NothingLeft       the awaited result has not come, and no event is left
        ├── NeverSettles      the run had more events than allowed
        ├── NotRepeated       `simulate` has found a seed that fails, and that did not fail in the same way again
        └── SimulationFailed  `simulate` has found a seed that fails
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
        """The code that runs it again."""
        return f"Simulation({self.seed})"


class RunFailed(SimulationError):
    """
    An exception was raised, a failure was logged, or the failure of a Deferred was not handled. It is the
    ``__cause__``.
    """


class NothingLeft(SimulationError):
    """The awaited result has not come, and no event is left: no code will fire it."""


class NeverSettles(SimulationError):
    """The run had more events than allowed: there is an endless loop, or a timer that sets itself again for ever."""


class NotRepeated(SimulationError):
    """
    A scenario failed, and did not fail in the same way when it was run again with the same seed.

    So the scenario, or the code that it runs, depends on more than the seed. `error` is the exception of the first run,
    and `trace` has its events. `again` is the exception of the second run (`None`: it raised none), and `trace_again`
    has its events. `parted_at` is the number of the first event that differs, counted from 0; `None` if the traces are
    equal.
    """

    def __init__(self, seed: int, error: Exception, trace: Trace, again: Exception | None, trace_again: Trace) -> None:
        super().__init__(f"seed {seed} failed, and did not fail in the same way again: {DEPENDS}", seed, trace)
        self.error = error
        self.again = again
        self.trace_again = trace_again
        self.parted_at = trace.parts_from(trace_again)

    def __str__(self) -> str:
        runs = (("the first run", self.error, self.trace), ("the second run", self.again, self.trace_again))
        told = [self.text, "", *(f"{which}: {_said(error)}" for which, error, _ in runs), ""]
        if self.parted_at is None:
            return "\n".join([*told, "both have the same events; the last are:", self.trace.tail(TAIL)])
        before = self.trace.part(self.parted_at - AROUND, AROUND)
        told.append(f"both have the same events up to number {self.parted_at}; the last of these are:\n{before}")
        for which, _, trace in runs:
            told.append(f"{which} goes on:\n{trace.part(self.parted_at, AROUND) or 'no more events'}")
        return "\n".join(told)


class SimulationFailed(SimulationError):
    """
    A scenario failed with a seed, and was made smaller.

    `schedule` has the decisions that the failure needs, and `error` and `trace` are of the run with this schedule.
    `runs` is the number of seeds that were tried.
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
        """The code that runs it again: with the seed, and with the smaller schedule."""
        return (
            f"simulate(scenario, seeds=[{self.seed}])\n"
            f"found by {self.runs} run(s); shrunk to {count_of(self.schedule)} decision(s) that are not the "
            "simplest choice:\n"
            f"    replay(scenario, {self.seed}, {plain(self.schedule)!r})"
        )


def _said(error: Exception | None) -> str:
    """Return the exception of a run as one line."""
    if error is None:
        return "nothing was raised"
    return f"{type(error).__name__}: {getattr(error, 'text', error)}".partition("\n")[0]


def count_of(schedule: Schedule) -> int:
    """Return the number of decisions in a schedule."""
    return sum(map(len, schedule.values()))


def plain(schedule: Schedule) -> Mapping[str, Mapping[int, int]]:
    """Return the schedule as dictionaries whose ``repr`` can be pasted into a program."""
    return {name: dict(drawn) for name, drawn in schedule.items()}
