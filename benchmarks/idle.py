"""
Idle connections, held by a process of their own, and the memory of the server's heap for each of them.

``python -m benchmarks.idle PORT COUNT`` opens COUNT connections to 127.0.0.1: the first `FIRST` of them at once, and
the others after a line on its standard input. After another line each connection sends one message and reads its echo,
so that no server ends it as silent. The process prints a line after each step, and ends with its standard input.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from benchmarks.echo import ROOT, Server
from benchmarks.machine import pin, processors, raise_file_limit
from benchmarks.memory import FIRST, PATIENCE, accepted, settled_heap, talk

IDLE = 10_000
MOST = 12_000


@contextmanager
def with_idle(server: Server) -> Iterator[dict[str, float]]:
    """Hold `IDLE` connections to `server` during the block. Give how many ``bytes`` of the server's heap each takes."""
    command = [sys.executable, "-m", "benchmarks.idle", str(server.port), str(IDLE)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=ROOT, **pipes) as process:
        asked, said = process.stdin, process.stdout
        assert asked is not None
        assert said is not None
        pin(process.pid, processors().load)
        try:
            with accepted(server, FIRST):
                heard(said)
            before = settled_heap(server)
            with accepted(server, IDLE - FIRST):
                go_on(asked, said)
            after = settled_heap(server)
            go_on(asked, said)
            yield {"bytes": (after - before) / (IDLE - FIRST)}
        finally:
            asked.close()


def go_on(asked: IO[str], said: IO[str]) -> None:
    """Let the process do its next step."""
    asked.write("\n")
    asked.flush()
    heard(said)


def heard(said: IO[str]) -> None:
    """Wait until the step is done."""
    if not said.readline():
        raise RuntimeError("the idle connections could not be opened")


def main(port: int, count: int) -> None:
    """Open the connections, and hold them until standard input ends."""
    if not FIRST <= count <= MOST or raise_file_limit(count + 100) < count + 100:
        sys.exit(f"{count}: takes {FIRST} to {MOST}, and as many open files and a few more (ulimit -n)")
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        for until in (FIRST, count):
            while len(opened) < until:
                peer = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                opened.append(stack.enter_context(peer))
            print(until, flush=True)
            sys.stdin.readline()
        talk(opened)
        print("said", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
