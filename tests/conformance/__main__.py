"""
Run Twisted's own tests on the uvloop reactor beside its epoll reactor: ``make conformance``.

Both run at the same time, each in a process of its own. No test that passes on the epoll reactor may fail on ours, but
for those in `suites.EXCEPTIONS`, which must fail. What fails on one of them is run again, alone, on both: a test that
waits for wall-clock time may fail on a busy machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.suites import EXCEPTIONS, LEAST, REACTOR_SUITES, USERS

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 900.0
"""Seconds; a whole run takes two minutes."""

Found = dict[str, tuple[str, str]]


def run(names: Iterable[str]) -> dict[str, Found]:
    """How each test came out on either reactor, run side by side."""
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {reactor: Path(folder) / f"{reactor}.json" for reactor in ("epoll", "uvloop")}
        running = {
            reactor: subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.conformance.run", reactor, str(file), *names],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for reactor, file in files.items()
        }
        for reactor, process in running.items():
            said, _ = process.communicate(timeout=LONGEST)
            if not files[reactor].exists():
                raise SystemExit(f"the run on {reactor} broke:\n{said[-4000:]}")
            found[reactor] = json.loads(files[reactor].read_text())
    return found


def worse(found: dict[str, Found]) -> dict[str, str]:
    """The tests that pass on epoll and do not on uvloop, and how."""
    absent = ("absent", "it was not run")
    return {
        name: "{}: {}".format(*found["uvloop"].get(name, absent))
        for name, (how, _) in found["epoll"].items()
        if how == "ok" and found["uvloop"].get(name, absent)[0] != "ok"
    }


def module_of(name: str) -> str:
    """The module a test is in: what can be run by itself, whatever the classes are called."""
    return name.rsplit(".", 2)[0]


def main() -> int:
    """0 if all is as it has to be."""
    first = run([*REACTOR_SUITES, *USERS])
    for reactor, results in first.items():
        counts = Counter(how for how, _ in results.values())
        print(f"{reactor}: {len(results)} tests, " + ", ".join(f"{many} {how}" for how, many in counts.most_common()))
    faults = worse(first)
    again = {module_of(name) for name in faults.keys() - EXCEPTIONS.keys()}
    if again:
        print(f"again, alone: {', '.join(sorted(again))}")
        second = worse(run(sorted(again)))
        faults = {name: why for name, why in faults.items() if name in EXCEPTIONS or name in second}
    for name in sorted(faults.keys() & EXCEPTIONS.keys()):
        print(f"as is known: {name}\n    {EXCEPTIONS[name]}")
    bad = [f"{name}\n    {why}" for name, why in sorted(faults.items()) if name not in EXCEPTIONS]
    bad += [f"{name}\n    passes, or is not there: it is no exception" for name in EXCEPTIONS.keys() - faults.keys()]
    passed = sum(how == "ok" for how, _ in first["uvloop"].values())
    if passed < LEAST:
        bad.append(f"only {passed} tests passed; {LEAST} at least were expected")
    print("\n".join(bad) if bad else f"no test that passes on epoll fails on uvloop; {passed} pass")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
