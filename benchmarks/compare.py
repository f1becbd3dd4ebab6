"""
Two revisions of tcpapp beside each other: ``make bench-compare BASE=rev``.

The echo servers of the working tree and of the revision run under the same load in alternating rounds. The working
tree's `benchmarks.servers` serves both; only the package is the revision's, from a worktree that is removed again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.echo import PIPELINED, ROOT, Load, Server
from benchmarks.machine import pin, processors
from benchmarks.report import Row, ratio_row, table

ROUNDS = 9
LOADS = {
    "50 connections, 64-byte messages, 64 in flight each": ("tcpapp", Load(PIPELINED, 0.6)),
    "50 connections, 64-byte messages, 1 in flight each": ("tcpapp", Load(1, 0.6)),
    "50 connections, 16 KiB messages, 1 in flight each": ("tcpapp", Load(1, 0.6, size=16_384)),
    "50 connections, lines, 64 in flight each": ("tcpapp-line", Load(PIPELINED, 0.6)),
}


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Give a folder with the files of a revision, which exists during the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(path), revision], cwd=ROOT, check=True)
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(path)], cwd=ROOT, check=True)


@contextmanager
def serving_from(tree: Path, name: str) -> Iterator[Server]:
    """Give a running server with the ``tcpapp`` of `tree`."""
    program = (
        f"import sys; sys.path[:0] = [{str(tree)!r}, {str(ROOT)!r}]; import tcpapp\n"
        f"assert tcpapp.__file__.startswith({str(tree)!r}), tcpapp.__file__\n"
        f"import benchmarks.servers; benchmarks.servers.main({name!r}, 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.sep
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        pin(process.pid, processors().server)
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"the server of {tree} did not start")
        try:
            yield Server(name, process.pid, int(said.split()[0]))
        finally:
            process.stdin.close()


def compare(base: Path, revision: str) -> list[Row]:
    """Return a row for each load."""
    rows = []
    for title, (name, load) in LOADS.items():
        ours, theirs = [], []
        with serving_from(ROOT, name) as new, serving_from(base, name) as old:
            for _ in range(ROUNDS):
                ours.append(load.against(new)["messages_per_second"])
                theirs.append(load.against(old)["messages_per_second"])
        rows.append(ratio_row("echo, messages a second", title, ours, revision, theirs))
    return rows


def main() -> int:
    """Print the table for the revision on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.compare REVISION")
    with worktree(sys.argv[1]) as base:
        print(table(compare(base, sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
