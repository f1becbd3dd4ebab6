"""
Random values of Python's own modules, from the seed: a simulated program draws the same values in every run.

While a `Chance` is on, the functions of `random` and all requests to the operating system for random bytes follow the
seed: ``random.Random()`` without a seed, ``random.SystemRandom``, ``os.urandom``, ``os.getrandom``, `secrets`,
``uuid.uuid4`` and ``uuid.uuid1``. After that everything is restored.
"""

from __future__ import annotations

import os
import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

__all__ = ["Chance"]

TO_1970 = 0x01B21DD213814000
"""Units of 100 ns from the epoch of version 1 UUIDs (1582-10-15, RFC 9562) to the epoch of a simulation (1970)."""

_seed_of_random = random.Random.seed
_urandom = os.urandom
_getrandom = getattr(os, "getrandom", None)  # only Linux has it
_uuid1 = uuid.uuid1
_seed_of_module = random.seed


class Chance:
    """
    Python's random values in one run, from `seed`. `asks` returns the name of the host whose code runs now; ``""`` for
    none. `now` returns the time.

    The functions of `random` draw from one source for the whole run. Requests to the operating system draw from a
    source of the host whose code runs. So the values of a host do not depend on how often another host draws. Other
    threads than the thread that switched it on draw from the operating system as usual.
    """

    def __init__(self, seed: int, asks: Callable[[], str], now: Callable[[], float]) -> None:
        self._seed = seed
        self._asks = asks
        self._now = now
        self._sources: dict[str, random.Random] = {}
        self._ticks: dict[str, int] = {}
        self.thread = 0
        self.state = random.Random(f"{seed}/random").getstate()  # noqa: S311  # simulated chance, to be repeated

    def source(self) -> random.Random:
        """Return the source of random values of the host whose code runs now."""
        name = self._asks()
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = random.Random(f"{self._seed}/chance of {name}")  # noqa: S311  # as above
        return source

    def uuid1(self, node: int | None, clock_seq: int | None) -> uuid.UUID:
        """Return a UUID with the time of the simulation, for a machine whose address is from the seed."""
        name = self._asks()
        ticks = self._ticks[name] = max(self._ticks.get(name, 0) + 1, int(self._now() * 10_000_000) + TO_1970)
        sequence = self.source().getrandbits(14) if clock_seq is None else clock_seq
        if node is None:
            # The bit says that the address is not of a network card (RFC 9562, section 6.10).
            node = random.Random(f"{self._seed}/node of {name}").getrandbits(48) | 1 << 40  # noqa: S311
        low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
        return uuid.UUID(fields=(low, middle, high, sequence >> 8 & 0x3F, sequence & 0xFF, node), version=1)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let Python's modules draw from the seed in the block. Blocks can be nested, also of several `Chance`."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Let Python's modules draw from the seed until `end`."""
        self.thread = get_ident()
        if _on:
            _on[-1].state = random.getstate()
        else:
            _outside.begin()
        _on.append(self)
        random.setstate(self.state)

    def end(self) -> None:
        """Undo the last `begin`."""
        last = len(_on) - 1 - _on[::-1].index(self)
        drawn_from = _on[-1]
        drawn_from.state = random.getstate()
        del _on[last]  # it is the last one, unless a later one has not ended yet
        if _on:
            random.setstate(_on[-1].state)
        else:
            _outside.end()


_on: list[Chance] = []
"""All `Chance` that are on; the last one is used."""


def _chance() -> Chance | None:
    """Return the `Chance` to draw from now, in this thread; `None` if there is none."""
    return _on[-1] if _on and _on[-1].thread == get_ident() else None


# Replacements for Python's own functions. A module that is imported meanwhile can keep them, so they work afterwards.


def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
    """
    Replace ``random.Random.seed``, which ``random.Random()`` calls, too. Without a seed, take one from the simulation.
    """
    chance = _chance() if a is None else None
    _seed_of_random(self, a if chance is None else chance.source().getrandbits(256), version)


def seed_of_module(a: Any = None, version: int = 2) -> None:
    """Replace ``random.seed``."""
    seed(_seed_of_module.__self__, a, version)  # type: ignore[attr-defined]  # a method of the module's own Random


def urandom(size: int, /) -> bytes:
    """Replace ``os.urandom``, which `random.SystemRandom`, `secrets` and ``uuid.uuid4`` call, too."""
    chance = _chance()
    return _urandom(size) if chance is None else chance.source().randbytes(size)


def getrandom(size: int, flags: int = 0) -> bytes:
    """Replace ``os.getrandom``."""
    chance = _chance()
    if chance is None:
        assert _getrandom is not None
        drawn: bytes = _getrandom(size, flags)
        return drawn
    return chance.source().randbytes(size)


def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    """Replace ``uuid.uuid1``."""
    chance = _chance()
    return _uuid1(node, clock_seq) if chance is None else chance.uuid1(node, clock_seq)


OURS: dict[int, Callable[..., Any]] = {
    id(_urandom): urandom,
    id(_uuid1): uuid1,
    id(_seed_of_module): seed_of_module,
    **({} if _getrandom is None else {id(_getrandom): getrandom}),
}
"""The replacement for each of Python's functions."""


class _Outside:
    """Replaces Python's own functions by ours (`begin`), and restores them (`end`)."""

    def __init__(self) -> None:
        self._state: Any = None
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []
        self._places: list[tuple[dict[str, Any], str, Any]] = []
        self._modules: tuple[int, str] = 0, ""

    def begin(self) -> None:
        """Replace Python's own functions wherever a module has them by name."""
        self._state = random.getstate()
        modules = len(sys.modules), next(reversed(sys.modules))
        if modules != self._modules:  # some modules were imported since the last time
            self._modules, self._places = modules, list(_places())
        self._replaced = [place for place in self._places if place[0].get(place[1]) is place[2]]
        for names, name, original in self._replaced:
            names[name] = OURS[id(original)]
        random.Random.seed = seed  # type: ignore[method-assign]

    def end(self) -> None:
        """Restore Python's own functions. Replacements by other code stay."""
        random.Random.seed = _seed_of_random  # type: ignore[method-assign]
        for names, name, original in self._replaced:
            if names.get(name) is OURS[id(original)]:
                names[name] = original
        random.setstate(self._state)


_outside = _Outside()


def _places() -> Iterator[tuple[dict[str, Any], str, Any]]:
    """
    Yield the modules that have Python's own functions (as by ``from os import urandom``), with the name and the
    function.
    """
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and names is not globals():  # other code can have put a class into sys.modules
            for name, value in list(names.items()):
                if id(value) in OURS:
                    yield names, name, value
