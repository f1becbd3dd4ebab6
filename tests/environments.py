"""Make environments to install into without a network, and run commands in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution, entry_points
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent

NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "_build", "dist", "dropin.cache", "loadgen", "_core.*"
)


CLEAN = {
    name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTHON", "PIP_", "TCPAPP_"))
}
CLEAN |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONFIG_FILE": os.devnull}
CLEAN |= {"TCPAPP_ACCELERATED": "0"}
"""
The environment variables of every command. None leads to the tests' own environment, or to the network, and nothing is
compiled unless a test asks for it.
"""

UNMEASURED = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
"""The environment variables of a command whose coverage is not measured, because other tests cover the same code."""


def run(*command: str | Path, cwd: Path, **environ: str) -> str:
    """Run a command and return its output; fail with all of it if the command fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=CLEAN | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def closure(*names: str) -> set[str]:
    """Return these distributions and all that they require here."""
    found: set[str] = set()
    wanted = list(names)
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in found:
            found.add(name)
            requirements = map(Requirement, distribution(name).requires or [])
            wanted += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def link_distribution(name: str, site: Path) -> None:
    """Link to the files of an installed distribution. That is as good as a copy if nothing is added to them."""
    for top in {file.parts[0] for file in distribution(name).files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))


def link_twisted(site: Path) -> None:
    """
    Link to all files of Twisted, except for the folder of plugins.

    Other packages add plugins to it, so it is copied.
    """
    twisted = site / "twisted"
    twisted.mkdir()
    for each in Path(str(distribution("twisted").locate_file("twisted"))).iterdir():
        if each.name == "plugins":
            shutil.copytree(each, twisted / "plugins", ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            (twisted / each.name).symlink_to(each)
    link_distribution("twisted", site)


def make_environment(folder: Path, *more: str) -> Path:
    """
    Make a virtual environment as ``pip install twisted`` leaves it, and return its site-packages.

    With `more`, the environment also has these distributions and all that they require. It has links to the files of
    the tests' own environment, because linking is quicker than copying, and what was compiled once is compiled for all.
    Twisted's folder of plugins, to which packages add their files, is a copy.
    """
    venv.create(folder, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    link_twisted(site)
    for name in closure("twisted", "typing_extensions", *more):
        link_distribution(name, site)
    write_script(folder, "twistd")
    return site


def write_script(environment: Path, name: str) -> None:
    """Write the command of this name, as pip does."""
    [command] = entry_points(group="console_scripts", name=name)
    script = environment / "bin" / name
    lines = f"import sys\nfrom {command.module} import {command.attr}\nsys.exit({command.attr}())\n"
    script.write_text(f"#!{environment}/bin/python\n{lines}")
    script.chmod(0o755)
