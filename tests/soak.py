"""
Run requests, faults and drains for ten minutes, at half of the machine's capacity: ``make soak``.

Each lap keeps a ledger of 20,000 requests (see `tests.integration.ledger`) with a seed of its own. Then it rests as
long as the lap took. The first laps pay for things that are made once. After them, descriptors, timers and memory are
noted. At the end, the process must have no more descriptors and timers, and at most a tenth more memory.
"""

from __future__ import annotations

import gc
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.internet.task import deferLater, react

from tests.integration.ledger import keep

REQUESTS = 20_000
FIRST = 3
"""Laps that are not compared. They pay for imports, pools and the interpreter's own caches."""

GROWTH = 1.1
"""The most memory at the end, as a multiple of the first. Allocators keep some of the freed memory."""


@dataclass(frozen=True)
class Standing:
    """What the process holds at one moment: open descriptors, timers, and bytes of memory."""

    descriptors: int
    timers: int
    memory: int

    @classmethod
    def of(cls, reactor: Any) -> Standing:
        """Return what the process holds now."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(descriptors, len(reactor.getDelayedCalls()), pages * resource.getpagesize())


async def soak(reactor: Any, seconds: float) -> list[str]:
    """Run laps for these seconds. Return the faults, or a line for each number that has grown since the first laps."""
    began = monotonic()
    first = last = Standing.of(reactor)
    laps = answered = 0
    while monotonic() - began < seconds or laps <= FIRST:
        lap = monotonic()
        ledger = await keep(reactor, REQUESTS, seed=laps)
        if faults := ledger.faults():
            return [f"seed {laps}: {fault}" for fault in faults]
        answered += ledger.answered
        laps += 1
        await deferLater(reactor, min(monotonic() - lap, seconds / 10))
        last = Standing.of(reactor)
        first = last if laps == FIRST else first
    sys.stdout.write(f"{laps} laps in {monotonic() - began:.0f} s, {answered} answered; from {first} to {last}\n")
    return [
        f"{what}: {before} in the beginning, {after} in the end"
        for what, before, after, most in (
            ("descriptors", first.descriptors, last.descriptors, first.descriptors),
            ("timers", first.timers, last.timers, first.timers),
            ("memory", first.memory, last.memory, first.memory * GROWTH),
        )
        if after > most
    ]


async def main(reactor: Any) -> None:
    """Run laps for the seconds in the command line. Exit with 1 if there are faults, or if the process has grown."""
    found = await soak(reactor, float(sys.argv[1]) if sys.argv[1:] else 600.0)
    sys.stdout.write("".join(f"{each}\n" for each in found))
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    react(main)
