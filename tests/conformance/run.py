"""
Run test modules of Twisted on one reactor, and write the result of each test.

``python -m tests.conformance.run REACTOR FILE MODULE...``: REACTOR is ``epoll`` or ``uvloop``. The output is JSON: each
test's name, without the reactor's name, with ``ok``, ``skip``, ``fail``, ``error`` and so on, and the reason. Both
kinds of Twisted's tests run on REACTOR: tests that build a reactor build only this one, and tests that use the global
reactor find it there.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

REACTORS = {
    "epoll": ("twisted.internet.epollreactor", "twisted.internet.epollreactor.EPollReactor"),
    "uvloop": ("tcpapp.reactor", "tests.conformance.run.uvloop_reactor"),
}
"""The module that installs each reactor, and the function that makes one for a test."""

LONGEST = 20.0
"""Seconds after which a test that waits has failed. The default of trial is 120."""


def uvloop_reactor(case: Any) -> Any:
    """Make a reactor for a test, on a loop of its own that is closed after it."""
    import asyncio

    from tcpapp.reactor.loop import Loop
    from tcpapp.reactor.uvloopreactor import UvloopReactor

    loop = Loop()
    asyncio.set_event_loop(loop)
    case.addCleanup(loop.close)
    return UvloopReactor(loop)


Found = dict[str, tuple[str, str]]


def notes_of(found: Found) -> Any:
    """Return the class of a reporter that writes each result into `found`, and prints nothing."""
    from twisted.trial.reporter import Reporter

    def note(test: Any, how: str, why: Any = "") -> None:
        name = test.id().replace("EPollReactorTests", "*").replace("uvloop_reactorTests", "*")
        if found.get(name, ("ok",))[0] in ("ok", "skip"):  # an error in the cleanup replaces a success
            found[name] = (how, str(why.getTraceback() if hasattr(why, "getTraceback") else why)[-2000:])

    def noting(how: str) -> Any:
        return lambda _self, test, why="", todo=None: note(test, how, todo or why)

    outcomes = {
        "addSuccess": "ok",
        "addSkip": "skip",
        "addError": "error",
        "addFailure": "fail",
        "addExpectedFailure": "todo",
        "addUnexpectedSuccess": "unexpected success",
    }
    silent = dict.fromkeys(("_printErrors", "_printSummary"), lambda _self: None)
    return type("Notes", (Reporter,), {name: noting(how) for name, how in outcomes.items()} | silent)


def run(reactor: str, names: list[str]) -> Found:
    """Run the tests on this reactor, and return the result of each with its reason."""
    installer, maker = REACTORS[reactor]
    importlib.import_module(installer).install()
    from twisted.internet.test import reactormixins
    from twisted.trial import util
    from twisted.trial.runner import TestLoader, TrialRunner

    reactormixins.ReactorBuilder._reactors = [maker]
    reactormixins.DEFAULT_TIMEOUT_DURATION = util.DEFAULT_TIMEOUT_DURATION = LONGEST
    found: Found = {}
    suite = TestLoader().loadByNames(names, True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        TrialRunner(notes_of(found), workingDirectory=str(Path(folder) / "trial")).run(suite)
        os.chdir("/")
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(run(sys.argv[1], sys.argv[3:])))
    sys.stdout.flush()
    os._exit(0)  # threads of a failed test do not keep the process alive
