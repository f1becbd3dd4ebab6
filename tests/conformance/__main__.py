"""
Run Twisted's own tests on the uvloop reactor beside its epoll reactor: ``make conformance``.

Both run at the same time, each in a process of its own. No test that passes on the epoll reactor may fail on the uvloop
reactor. The tests in `suites.EXCEPTIONS` are exceptions, and must fail. A test that fails on one reactor is run again,
alone, on both: a test that waits for wall-clock time can fail on a busy machine.
"""

from __future__ import annotations

import sys

from tests.conformance.beside import Broke, Runner, again_alone, counted, worse
from tests.conformance.suites import EXCEPTIONS, LEAST, REACTOR_SUITES, USERS


def main() -> int:
    """Run the tests, and return 0 if all results are as expected."""
    runner = Runner()
    first = runner.run([*REACTOR_SUITES, *USERS])
    for reactor, results in first.items():
        print(f"{reactor}: {counted(results)}")
    faults = worse(first)
    known = {name: why for name, why in faults.items() if name in EXCEPTIONS}
    again = again_alone(runner, {name: why for name, why in faults.items() if name not in EXCEPTIONS})
    for name in sorted(known):
        print(f"as is known: {name}\n    {EXCEPTIONS[name]}")
    bad = [f"{name}\n    {why}" for name, why in sorted(again.items())]
    bad += [f"{name}\n    passes, or is not there: it is no exception" for name in EXCEPTIONS.keys() - known.keys()]
    passed = sum(how == "ok" for how, _ in first["uvloop"].values())
    if passed < LEAST:
        bad.append(f"only {passed} tests passed; {LEAST} at least were expected")
    print("\n".join(bad) if bad else f"no test that passes on epoll fails on uvloop; {passed} pass")
    return bool(bad)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broke as why:
        sys.exit(str(why))
