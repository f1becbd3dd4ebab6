"""Run test suites on two reactors, each in a process of its own, and find the tests that fail on uvloop alone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Broke", "Found", "Runner", "again_alone", "counted", "module_of", "worse"]

ROOT = Path(__file__).resolve().parents[2]

Found = dict[str, tuple[str, str]]
"""The result of each test and its reason, by the test's name."""

ABSENT = ("absent", "it was not run")


class Broke(Exception):
    """The process of a reactor ended before it had written its results."""

    def __init__(self, reactor: str, said: str) -> None:
        super().__init__(f"the run on {reactor} broke:\n{said[-4000:]}")
        self.reactor = reactor


@dataclass(frozen=True)
class Runner:
    """
    How tests are run: by a command with the arguments of ``tests.conformance.run``, in an environment.

    A run that takes more than `longest` seconds has failed. With `at_once` both reactors run at the same time;
    otherwise they run one after the other, for tests that need a single resource. `around` makes that resource anew for
    each run.
    """

    command: tuple[str, ...] = (sys.executable, "-W", "ignore", "-m", "tests.conformance.run")
    environment: Mapping[str, str] | None = None
    longest: float = 1800.0
    at_once: bool = True
    around: Callable[[], AbstractContextManager[None]] = nullcontext

    def run(self, names: Iterable[str]) -> dict[str, Found]:
        """Return the result of each test on each reactor. Raise `Broke` when a process wrote no results."""
        names = list(names)
        found: dict[str, Found] = {}
        with tempfile.TemporaryDirectory() as folder:
            files = {reactor: Path(folder) / f"{reactor}.json" for reactor in ("epoll", "uvloop")}
            for reactors in [list(files)] if self.at_once else [[reactor] for reactor in files]:
                with self.around():
                    running = {reactor: self._start(reactor, files[reactor], names) for reactor in reactors}
                    try:
                        for reactor, process in running.items():
                            found[reactor] = self._finish(reactor, process, files[reactor])
                    finally:
                        for process in running.values():
                            process.kill()
                            process.communicate()
        return found

    def _start(self, reactor: str, file: Path, names: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, reactor, str(file), *names],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _finish(self, reactor: str, process: subprocess.Popen[str], file: Path) -> Found:
        said = ""
        try:
            said, _ = process.communicate(timeout=self.longest)
        except subprocess.TimeoutExpired:
            said = f"it took longer than {self.longest:.0f} s"
        if not file.exists():
            raise Broke(reactor, said)
        results: Any = json.loads(file.read_text())
        return {name: (how, why) for name, (how, why) in results.items()}


def worse(found: dict[str, Found]) -> dict[str, str]:
    """Return the tests that pass on epoll and not on uvloop, each with its result on uvloop."""
    return {
        name: "{}: {}".format(*found["uvloop"].get(name, ABSENT))
        for name, (how, _) in found["epoll"].items()
        if how == "ok" and found["uvloop"].get(name, ABSENT)[0] != "ok"
    }


def module_of(name: str) -> str:
    """Return the module of a test: a module can be run by itself, whatever its classes are called."""
    return name.rsplit(".", 2)[0]


def again_alone(runner: Runner, faults: dict[str, str]) -> dict[str, str]:
    """Return the faults that come again when their modules run alone, since a busy machine also makes faults."""
    modules = sorted({module_of(name) for name in faults})
    if not modules:
        return {}
    print(f"again, alone: {', '.join(modules)}")
    second = worse(runner.run(modules))
    return {name: why for name, why in faults.items() if name in second}


def counted(found: Found) -> str:
    """Return the number of tests, and the number of each result."""
    counts = Counter(how for how, _ in found.values())
    return f"{len(found)} tests, " + ", ".join(f"{many} {how}" for how, many in counts.most_common())
