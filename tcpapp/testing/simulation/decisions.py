"""
The random decisions of a simulation: each is drawn from a named stream, and can be written down.

A stream's decisions depend only on the seed and its own name, so one decision less in a stream changes no other stream.
0 is always the simplest choice: no fault, no cut, the shortest way, first come first served. A schedule of zeros is a
run without special events; a failing schedule becomes smaller by setting decisions to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

__all__ = ["Decisions", "Schedule", "Stream"]

T = TypeVar("T")

Schedule = Mapping[str, Mapping[int, int]]
"""The decisions that are not 0: for each stream, by their places in it."""

FINENESS = 1 << 20
"""How finely a `Stream.fraction` is drawn: to a millionth."""


class Stream:
    """The decisions of one kind, in order."""

    __slots__ = ("_drawn", "_random", "count")

    def __init__(self, random: Callable[[], float], drawn: dict[int, int] | None) -> None:
        self._random = random
        self._drawn = drawn
        self.count = 0

    def draw(self, choices: int) -> int:
        """A number from 0, the simplest choice, to ``choices - 1``."""
        count = self.count
        self.count = count + 1
        chosen = int(self._random() * choices)
        if self._drawn is not None and chosen:
            self._drawn[count] = chosen
        return chosen

    def fraction(self) -> float:
        """A number from 0.0 up to, but not including, 1.0."""
        return self.draw(FINENESS) / FINENESS

    def chance(self, likelihood: float) -> bool:
        """Whether an event of this probability, from 0.0 to 1.0, happens now."""
        return self.draw(FINENESS) >= (1.0 - likelihood) * FINENESS

    def pick(self, among: Sequence[T]) -> T:
        """One of these; the simplest choice is the first."""
        return among[self.draw(len(among))]


class _Replayed(Stream):
    """The decisions of one kind from a schedule."""

    __slots__ = ("_given",)

    def __init__(self, given: Mapping[int, int], drawn: dict[int, int] | None) -> None:
        super().__init__(float, drawn)
        self._given = given

    def draw(self, choices: int) -> int:
        """The schedule's decision, or the last choice if its number is too high; 0 if it has none."""
        count = self.count
        self.count = count + 1
        chosen = min(self._given.get(count, 0), choices - 1)
        if self._drawn is not None and chosen:
            self._drawn[count] = chosen
        return chosen


class Decisions:
    """
    Every decision of a run, by `seed`, or by `schedule` if one is given.

    With `record`, `schedule` has the decisions afterwards: given to another run of the same scenario, it repeats the
    run.
    """

    def __init__(self, seed: int, schedule: Schedule | None = None, *, record: bool = False) -> None:
        self._seed = seed
        self._given = schedule
        self._record = record
        self._drawn: dict[str, dict[int, int]] = {}
        self._streams: dict[str, Stream] = {}

    def stream(self, name: str) -> Stream:
        """The stream of this name."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._make(name)
        return stream

    @property
    def schedule(self) -> dict[str, dict[int, int]]:
        """The decisions so far, without zeros. Empty unless `record` was asked for."""
        return {name: dict(drawn) for name, drawn in self._drawn.items() if drawn}

    def _make(self, name: str) -> Stream:
        drawn = self._drawn.setdefault(name, {}) if self._record else None
        if self._given is not None:
            return _Replayed(self._given.get(name, {}), drawn)
        # a text seeds through SHA-512, the same in every process
        return Stream(Random(f"{self._seed}/{name}").random, drawn)  # noqa: S311  # simulated chance, to be repeated
