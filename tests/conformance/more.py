"""
Run the tests of other packages on the uvloop reactor beside epoll: ``make conformance-more``.

Each package of `packages.PACKAGES` has a virtual environment of its own in ``.venv/more``, in which its tests run on
one reactor after the other. A test that passes on epoll and fails on uvloop, and does so again alone, is reported. A
package that cannot be installed here, or whose program is missing, is skipped with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Timer

from tests.conformance.beside import ROOT, Broke, Runner, again_alone, counted, worse
from tests.conformance.packages import PACKAGES, Package
from tests.patience import PATIENCE

__all__ = ["NotHere", "compare", "main", "pinned", "prepare"]

HOME = ROOT / ".venv" / "more"
LOCKED = ROOT / "requirements" / "conformance.txt"
BASE = ("twisted", "uvloop", "typing-extensions", "pyopenssl", "service-identity", "idna", "pyhamcrest", "setuptools")
"""Packages that both reactors and the runner need in each environment."""
LONGEST = 600.0
"""Seconds that a suite can take; the longest takes a minute."""


class NotHere(Exception):
    """A package's tests cannot be run on this machine."""


def pinned(locked: str, loose: Container[str] = ()) -> str:
    """Return the locked versions without hashes, and without the packages in `loose`, as constraints for pip."""
    lines = re.findall(r"^[\w.-]+==\S+(?: ;[^\\\n]*)?", locked, re.MULTILINE)
    return "".join(f"{line}\n" for line in lines if line.partition("==")[0] not in loose)


def called(*command: str | Path) -> None:
    """Call a program. If it fails, raise `NotHere` with the last line of its output."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise NotHere(next((line for line in said if line.startswith("ERROR")), said[-1]))


def prepare(package: Package, call: Callable[..., None] = called, home: Path = HOME) -> Path:
    """
    Return the folder of a package's environment, and set it up unless it is there as the table says.

    Raise `NotHere` when it cannot be set up, or when its tests could not run.
    """
    if package.program and not shutil.which(package.program):
        raise NotHere(f"{package.program} is not installed")
    folder = home / package.name
    stamp, wanted = folder / "installed", f"{package!r}\n{LOCKED.read_text()}\n{sys.version}"
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    venv.create(folder, clear=True, with_pip=True)
    constraints = folder / "constraints.txt"
    constraints.write_text(pinned(LOCKED.read_text(), package.loose))
    pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "install", "--constraint", constraints, package.requirement, *package.needs, *BASE)
    if package.from_source:
        call(*pip, "download", "--no-deps", "--no-binary", ":all:", "--dest", folder / "source", package.requirement)
        unpack(folder / "source")
    stamp.write_text(wanted)
    return folder


def unpack(folder: Path) -> None:
    """Unpack the source distribution in `folder` there."""
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def paths(folder: Path) -> list[Path]:
    """Return the folders in which Python looks first for modules: a source distribution, and this checkout."""
    return [*(each for each in (folder / "source").glob("*") if each.is_dir()), ROOT]


@contextmanager
def serving(program: str) -> Iterator[None]:
    """Run `program`, which serves while tests run. Raise `NotHere` when it cannot serve."""
    if not program:
        yield
        return
    with socket.socket() as taken:
        if not taken.connect_ex(("127.0.0.1", REDIS_PORT)):
            raise NotHere(f"something serves on port {REDIS_PORT} already, whose data the tests would change")
    command = [program, "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        too_late = Timer(PATIENCE, process.kill)  # then its log ends
        too_late.start()
        try:
            wait_until_it_serves(process)
            too_late.cancel()
            yield
        finally:
            too_late.cancel()
            process.kill()  # at once: it stores nothing, and a script of a test can block it


REDIS_PORT = 6379
"""The port at which txredisapi's tests look for redis-server."""


def wait_until_it_serves(process: subprocess.Popen[str]) -> None:
    """Wait until redis-server's log says that it serves. Raise `NotHere` when the log ends before that."""
    assert process.stdout
    for line in process.stdout:
        if "ready to accept connections" in line.lower():
            return
    raise NotHere(f"nothing serves on port {REDIS_PORT}")


def runner_for(package: Package, folder: Path) -> Runner:
    """Return the runner of a package's tests: its environment's Python, on one reactor after the other."""
    python, run = folder / "bin" / "python", ROOT / "tests" / "conformance" / "run.py"
    path = os.pathsep.join(map(str, paths(folder)))
    return Runner(
        (str(python), "-W", "ignore", str(run)),
        {**os.environ, **package.environment, "PYTHONPATH": path},
        LONGEST,
        at_once=False,
        around=partial(serving, package.program),
    )


def compare(package: Package, runner: Runner) -> dict[str, str]:
    """
    Return the tests that fail twice on uvloop and not on epoll. A run that breaks on uvloop is such a fault, too.

    Raise `NotHere` when the run breaks on epoll.
    """
    try:
        first = runner.run(package.modules)
    except Broke as why:
        if why.reactor == "epoll":
            raise NotHere(str(why)) from why
        return {package.name: str(why)}
    for reactor, results in first.items():
        print(f"{package.requirement} on {reactor}: {counted(results)}", flush=True)
    return again_alone(runner, worse(first))


def main(wanted: Sequence[str]) -> int:
    """Run the tests of all packages, or only of the named ones. Return 0 if no test fails on uvloop alone."""
    bad = False
    for package in PACKAGES:
        if wanted and package.name not in wanted:
            continue
        try:
            faults = compare(package, runner_for(package, prepare(package)))
        except NotHere as why:
            print(f"{package.requirement} is passed over: {why}", flush=True)
            continue
        bad = bad or bool(faults)
        for name, why in sorted(faults.items()):
            print(f"{name}\n    {why}", flush=True)
    print("some fail on uvloop alone" if bad else "nothing that passes on epoll fails on uvloop")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
