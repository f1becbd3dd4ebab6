"""How the reactor is installed by a program, by twistd and by twist, and the error where it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tcpapp.reactor
from tcpapp.errors import UnavailableReactor
from tcpapp.reactor import install
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]

HIDDEN = "import sys; sys.modules['uvloop'] = None; "
"""Code that hides uvloop, as if it were not installed."""


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run this code by a new Python process, and return the result."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def test_a_program_installs_the_reactor() -> None:
    """
    `install` makes the uvloop reactor the global one, its loop is asyncio's running loop, and a second `install`
    raises.
    """
    done = python(
        "import asyncio, tcpapp.reactor; tcpapp.reactor.install();"
        "from twisted.internet import reactor; reactor.callLater(0, lambda: print(type(reactor).__name__,"
        " asyncio.get_running_loop() is reactor._asyncioEventloop)); reactor.callLater(0, reactor.stop); reactor.run();"
        "tcpapp.reactor.install()"
    )
    assert done.stdout == "UvloopReactor True\n"
    assert done.stderr.rstrip().endswith("ReactorAlreadyInstalledError: reactor already installed")


def test_without_uvloop_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop, `install` raises `UnavailableReactor`, which names the extra to install."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(UnavailableReactor, match=r"^uvloop cannot be imported \(.+\): pip install 'tcpapp\[fast\]'$"):
        install()


def test_on_windows_the_error_names_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, `install` raises `UnavailableReactor`, which says that uvloop has no version for Windows."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UnavailableReactor, match="no version for Windows"):
        install()


def test_a_program_can_fall_back_to_the_default_reactor() -> None:
    """A program that catches `UnavailableReactor` can import Twisted's default reactor."""
    done = python(
        HIDDEN + "import tcpapp.reactor, tcpapp.errors\n"
        "try: tcpapp.reactor.install()\n"
        "except tcpapp.errors.UnavailableReactor: pass\n"
        "from twisted.internet import reactor; print(type(reactor).__name__)"
    )
    assert done.stdout.strip() not in ("", "UvloopReactor")


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_the_name_of_the_reactor_is_known(program: str) -> None:
    """`--help-reactors` of twistd and of twist lists uvloop."""
    module = {"twistd": "twisted.scripts.twistd", "twist": "twisted.application.twist._twist"}[program]
    run = {"twistd": "twistd.run()", "twist": "_twist.Twist.main()"}[program]
    start = f"import sys; sys.argv = ['{program}', '--help-reactors'];"
    listed = python(f"{start} from {module.rpartition('.')[0]} import {module.rpartition('.')[2]}; {run}")
    assert "uvloop" in listed.stdout + listed.stderr


def test_twistd_prints_the_same_line() -> None:
    """Without uvloop, `twistd --reactor=uvloop` fails, names the extra to install, and prints no traceback."""
    done = python(
        HIDDEN + "sys.argv = ['twistd', '--reactor=uvloop', '-n', 'tcpapp'];"
        "from twisted.scripts.twistd import run; run()"
    )
    assert done.returncode != 0
    assert "pip install 'tcpapp[fast]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("module", ["tcpapp.reactor", "tcpapp.reactor.uvloopreactor"])
def test_the_reactor_can_be_installed_by_the_path_of_its_class(module: str) -> None:
    """
    Scrapy can use the reactor: the class loads alone, `install` is in the same module, and class and loop are the
    expected.
    """
    done = python(
        f"from {module} import UvloopReactor, install; import sys, uvloop;"
        "from twisted.internet.asyncioreactor import AsyncioSelectorReactor;"
        "print('twisted.internet.reactor' in sys.modules); install();"
        "from twisted.internet import reactor; print(type(reactor) is UvloopReactor,"
        " isinstance(reactor, AsyncioSelectorReactor), isinstance(reactor._asyncioEventloop, uvloop.Loop))"
    )
    assert done.stdout == "False\nTrue True True\n"


def test_the_module_has_no_other_names() -> None:
    """`tcpapp.reactor` has `UvloopReactor`, and raises `AttributeError` for an unknown name."""
    with pytest.raises(AttributeError, match="EpollReactor"):
        tcpapp.reactor.EpollReactor  # noqa: B018
    assert tcpapp.reactor.UvloopReactor.__name__ == "UvloopReactor"
