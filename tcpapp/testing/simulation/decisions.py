"""
The random decisions of a simulation. Each is drawn from a named stream, and can be recorded.

The decisions of a stream depend only on the seed and on its name, so fewer decisions in one stream change no other
stream. 0 is always the simplest choice: no fault, no cut, the shortest delay, first come first served. A schedule of
zeros is a run without special events. A failing schedule becomes smaller by setting decisions to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

__all__ = ["Decisions", "Schedule", "Stream"]

T = TypeVar("T")

Schedule = Mapping[str, Mapping[int, int]]
"""The decisions that are not 0: for each stream, by their position in it."""

FINENESS = 1 << 20
"""The number of different values of `Stream.fraction`: about a million."""


class Stream:
    """The decisions of one kind, in order."""

    __slots__ = ("_drawn", "_random", "count")

    def __init__(self, random: Callable[[], float], drawn: dict[int, int] | None) -> None:
        self._random = random
        self._drawn = drawn
        self.count = 0

    def draw(self, choices: int) -> int:
        """Draw a number from 0, the simplest choice, to ``choices - 1``."""
        count = self.count
        self.count = count + 1
        chosen = int(self._random() * choices)
        if self._drawn is not None and chosen:
            self._drawn[count] = chosen
        return chosen

    def fraction(self) -> float:
        """Draw a number from 0.0 up to, but not including, 1.0."""
        return self.draw(FINENESS) / FINENESS

    def chance(self, likelihood: float) -> bool:
        """Draw whether an event of this probability (0.0 to 1.0) happens."""
        return self.draw(FINENESS) >= (1.0 - likelihood) * FINENESS

    def pick(self, among: Sequence[T]) -> T:
        """Draw one of the values in `among`. The first is the simplest choice."""
        return among[self.draw(len(among))]


class _Replayed(Stream):
    """The decisions of one kind, from a schedule."""

    __slots__ = ("_given",)

    def __init__(self, given: Mapping[int, int], drawn: dict[int, int] | None) -> None:
        super().__init__(float, drawn)
        self._given = given

    def draw(self, choices: int) -> int:
        """Return the decision of the schedule, or the last choice if its number is too high; 0 if it has none."""
        count = self.count
        self.count = count + 1
        chosen = min(self._given.get(count, 0), choices - 1)
        if self._drawn is not None and chosen:
            self._drawn[count] = chosen
        return chosen


class Decisions:
    """
    All decisions of a run: from `seed`, or from `schedule` if one is given.

    With `record`, the property `schedule` has the decisions of the run. Given to another run of the same scenario, it
    repeats the run.
    """

    def __init__(self, seed: int, schedule: Schedule | None = None, *, record: bool = False) -> None:
        self._seed = seed
        self._given = schedule
        self._record = record
        self._drawn: dict[str, dict[int, int]] = {}
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """Return the stream of this name."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._make(name)
        return stream

    @property
    def schedule(self) -> dict[str, dict[int, int]]:
        """The decisions until now, without zeros. It is empty without `record`."""
        return {name: dict(drawn) for name, drawn in self._drawn.items() if drawn}

    def _make(self, name: str) -> Stream:
        drawn = self._drawn.setdefault(name, {}) if self._record else None
        if self._given is not None:
            return _Replayed(self._given.get(name, {}), drawn)
        # a text is hashed by SHA-512, so the seed is the same in every process
        return Stream(Random(f"{self._seed}/{name}").random, drawn)  # noqa: S311  # simulated chance, to be repeated
