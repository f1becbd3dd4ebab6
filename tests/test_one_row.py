"""
A new limit, timeout, option or framing is one row: in a copy of tcpapp with this row, it works everywhere.

Each program below runs on a copy that has one row more, and no other change.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.environments import ROOT, run

pytestmark = pytest.mark.once

WAYS = '''
import contextlib, io, os, sys
from pathlib import Path
from tcpapp.plugin import Options

def options(*words, **environment):
    os.environ.update(environment)
    try:
        made = Options()
        made.parseOptions(words)
        return made
    finally:
        for each in environment:
            del os.environ[each]

def ways(name, text, table=""):
    """What is served where an option has this text: by the command line, the environment, and a file."""
    variable = "TCPAPP_" + name.upper().replace("-", "_")
    Path("app.toml").write_text(f"{table}\\n{name} = {text!r}\\n")
    return [
        each.factory.settings
        for each in (options(f"--{name}={text}"), options(**{variable: text}), options("--config=app.toml"))
    ]

def page(flag):
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        options(flag) if flag != "--help" else print(Options().getUsage())
    return " ".join(written.getvalue().split())
'''


def run_with(row: str, path: str, before: str, program: str, folder: Path, **files: str) -> None:
    """
    Run `program` on a copy of tcpapp that has `row` in the file at `path`, above the first line `before`.

    Beside that file, the copy has these `files`, by the names of their modules. Python compiles anew what has changed.
    """
    shutil.copytree(ROOT / "tcpapp", folder / "tcpapp", ignore=shutil.ignore_patterns("*.so"))
    changed = folder / "tcpapp" / path
    above, mark, below = changed.read_text(encoding="utf-8").partition(before)
    assert mark
    for name, text in files.items():
        changed.with_name(f"{name}.py").write_text(text, encoding="utf-8")
    changed.write_text(above + row + mark + below, encoding="utf-8")
    run(sys.executable, "-c", WAYS + program, cwd=folder, PYTHONPATH=str(folder))


def test_a_timeout(tmp_path: Path) -> None:
    """A new timeout ends connections by its own rule, is an option, and has a page and a reason."""
    row = """    chatter: float = timeout(
        45.0,
        "a peer that stays silent among friends",
        why="our choice: for this test",
        rule="chatter",
        overdue="it was silent for {seconds:g} s",
        since="came",
    )
"""
    program = """
from twisted.internet.task import Clock
from tcpapp import MessageServerFactory, Timeouts
from tcpapp.testing.transport import FakeTransport

assert [each.timeouts.chatter for each in ways("chatter", "7", "[timeouts]")] == [7, 7, 7]
assert "--chatter= a peer that stays silent among friends (0: no limit) [default: 45]" in page("--help")
assert "--chatter 45 seconds (the default)" in page("--show-limits")
assert "why 45: our choice: for this test" in page("--show-limits")
assert "chatter = 45 # default" in page("--show-config")
assert "- ``chatter`` (45 seconds; 0: no limit): a peer that stays silent among friends." in Timeouts.__doc__

clock = Clock()
factory = MessageServerFactory(None, timeouts=Timeouts(first_message=0), clock=clock)
factory.change(chatter=5)
protocol = factory.buildProtocol(None)
transport = FakeTransport(protocol=protocol)
reasons = []
protocol.connection.when_closed().addCallback(reasons.append)
clock.pump([1] * 6)
transport.turn()
transport.lose()
[reason] = reasons
assert (reason.rule, reason.detail) == ("chatter", "it was silent for 5 s (chatter)")
"""
    run_with(row, "limits/timeouts.py", "\n    def __post_init__", program, tmp_path)


def test_a_limit(tmp_path: Path) -> None:
    """A new limit is checked, is an option, and has a page and a reason."""
    row = """    max_friends: int = number(
        12,
        "friends of one peer",
        unit="friends",
        why="our choice: for this test",
    )
"""
    program = """
from tcpapp import Limits, MessageServerFactory
from tcpapp.errors import InvalidOption

assert [each.limits.max_friends for each in ways("max-friends", "7", "[limits]")] == [7, 7, 7]
assert "--max-friends= friends of one peer [default: 12]" in page("--help")
assert "--max-friends 12 friends (the default)" in page("--show-limits")
assert "- ``max_friends`` (12 friends): friends of one peer." in Limits.__doc__
factory = MessageServerFactory(None, limits=Limits(max_friends=3))
factory.change(max_friends=4)
assert factory.info().limits.max_friends == 4
try:
    Limits(max_friends=0)
except InvalidOption as error:
    assert str(error) == "max_friends=0: takes a whole number of friends, 1 or more"
"""
    run_with(row, "limits/limits.py", "\n    def __post_init__", program, tmp_path)


def test_an_option(tmp_path: Path) -> None:
    """A new option is read from all sources, and sets the argument of the factory."""
    row = """        Option(
            "seed",
            "0",
            "the seed that chance is drawn from",
            reads=lambda texts, around: __import__("random").Random(texts[-1]),
            sets="random",
        ),
"""
    program = """
from random import Random

assert [each.random.random() for each in ways("seed", "7")] == [Random("7").random()] * 3
assert "--seed= the seed that chance is drawn from [default: 0]" in page("--help")
assert 'seed = "0" # default' in page("--show-config")
"""
    run_with(row, "process/configuration/options.py", '        Option(\n            "framing",', program, tmp_path)


FRAMING = '''
from tcpapp.framing.terminated import Terminated

class Dotted(Terminated):
    """Messages that end with so many dots."""

    __slots__ = ("dots",)
    _name = "dotted"

    def __init__(self, dots: int = 1, *, max: int = 1000, oversize="close") -> None:
        self.dots = dots
        super().__init__(max=max, oversize=oversize)

    def receive(self, chunk):
        self._check()
        *whole, rest = (bytes(self._held) + chunk).split(b"." * self.dots)
        self._held = rest
        return whole

    def frame(self, message):
        self._sendable(message)
        return message + b"." * self.dots
'''


def test_a_framing(tmp_path: Path) -> None:
    """A new framing is one file and one line: its spec is read with its options, also as the option --framing."""
    row = "from tcpapp.framing.dotted import Dotted as Dotted\n"
    program = """
from tcpapp import framing
from tcpapp.errors import InvalidFraming

made = framing.from_string("dotted:dots=2:max=5")
assert (made, str(made)) == (framing.Dotted(2, max=5), "dotted:dots=2:max=5")
assert made.receive(b"one..two") == [b"one"]
assert [each.framing for each in ways("framing", "dotted:dots=3")] == [framing.Dotted(3)] * 3
assert ", dotted" in page("--help")
assert "Dotted" in framing.__all__
try:
    framing.from_string("dotted:dot=3")
except InvalidFraming as error:
    assert str(error) == "dotted: dot= is no option of it; it takes dots, max, oversize; did you mean 'dots'?"
"""
    run_with(row, "framing/__init__.py", "# isort: on", program, tmp_path, dotted=FRAMING)


PARSER = '''
from tcpapp.framing.parsers import parser
from tcpapp.framing.wants import exactly

@parser(max=1000, frame=bytes)
def pairs(size: int = 2):
    """Read messages of a few bytes."""
    return (yield exactly(size))
'''


def test_a_framing_as_a_function(tmp_path: Path) -> None:
    """A new framing that is a function is one file and one line, too, and its options are the function's arguments."""
    row = "from tcpapp.framing.pairs import pairs as pairs\n"
    program = """
from tcpapp import framing

made = framing.from_string("pairs:size=3:max=5")
assert (made, str(made)) == (framing.pairs(3, max=5), "pairs:size=3:max=5")
assert made.receive(b"onetwo") == [b"one", b"two"]
assert [str(each.framing) for each in ways("framing", "pairs:size=3")] == ["pairs:size=3"] * 3
assert "pairs" in page("--help")
assert "pairs" in framing.__all__
"""
    run_with(row, "framing/__init__.py", "# isort: on", program, tmp_path, pairs=PARSER)
