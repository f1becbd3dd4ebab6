"""
The same work on `tcpapp.reactor` and on Twisted's epoll reactor, by two processes that alternate in short pieces.

The order is uvloop, epoll, epoll, uvloop, and so on, so that the two pieces of a comparison follow one another
directly. The processor time of the process counts; for work that waits, the elapsed time counts.

``python -m benchmarks.both REACTOR MODULE PORT`` is such a process. It reads lines with the number of a piece of work
in ``MODULE.WORKS`` and a count. It answers each line with the seconds that the work took. PORT is the port for its own
connections.
"""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import pin, processors

__all__ = ["ROOT", "Work", "alternating", "announce", "exactly"]

ROOT = Path(__file__).resolve().parent.parent
REACTORS = {"uvloop": "tcpapp.reactor", "epoll": "twisted.internet.epollreactor"}
PIECES = 8
"""Pieces in a round: many short ones, because other work on the machine disturbs some of them."""


@dataclass(frozen=True)
class Work:
    """
    A piece of work.

    - `begin` is called in the process with the reactor, with the number of repetitions, the port of a peer, and the
      function to call at the end.
    - `load`: the part of the peers, if peers make the work. It is called here, with the port that `begin` has announced
      and the number of repetitions. `passing`: the elapsed time counts. `python`: the interpreter of the process.
    """

    name: str
    count: int
    begin: Callable[[Any, int, int, Callable[[], None]], object]
    load: Callable[[int, int], None] | None = None
    passing: bool = False
    python: Path = Path(sys.executable)


def announce(port: int) -> None:
    """Print the port for peers; `Work.begin` calls it."""
    print(port, flush=True)


def alternating(
    module: str, numbers: Iterable[int], port: int, rounds: int
) -> Iterator[tuple[Work, list[float], list[float]]]:
    """Give each work of a module with the microseconds that it took on uvloop and on epoll, piece by piece."""
    works: Sequence[Work] = importlib.import_module(module).WORKS
    for number in numbers:
        work = works[number]
        took: dict[str, list[float]] = {reactor: [] for reactor in REACTORS}
        with ExitStack() as stack:
            processes = {each: stack.enter_context(running(work.python, each, module, port)) for each in REACTORS}
            for piece in range(1 + rounds * PIECES):
                for reactor in sorted(REACTORS, reverse=piece % 2 == 0):
                    took[reactor].append(microseconds(processes[reactor], number, work))
        yield work, took["uvloop"][1:], took["epoll"][1:]  # the first piece is the warm-up


@contextmanager
def running(python: Path, reactor: str, module: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Give a process with this reactor."""
    command = [str(python), "-m", "benchmarks.both", reactor, module, str(port)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, bufsize=1, **pipes) as process:
        pin(process.pid, processors().server)
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return a line of the process's output."""
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"{process.args!r} has ended")
    return line


def microseconds(process: subprocess.Popen[str], number: int, work: Work) -> float:
    """Return the microseconds that such a process takes for one repetition."""
    assert process.stdin is not None
    process.stdin.write(f"{number} {work.count}\n")
    if work.load is not None:
        work.load(int(said(process)), work.count)
    return float(said(process)) / work.count * 1e6


def main(name: str, module: str, port: int) -> None:
    """Do the work of each line, until the lines end."""
    importlib.import_module(REACTORS[name]).install()
    from twisted.internet import reactor, stdio
    from twisted.protocols.basic import LineReceiver

    works: Sequence[Work] = importlib.import_module(module).WORKS

    class Asked(LineReceiver):
        delimiter = b"\n"

        def lineReceived(self, line: bytes) -> None:
            number, count = map(int, line.split())
            clock = time.perf_counter if works[number].passing else time.process_time
            began = clock()
            works[number].begin(reactor, count, port, lambda: print(clock() - began, flush=True))

        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    stdio.StandardIO(Asked())
    reactor.run()


def exactly(peer: socket.socket, size: int) -> bytes:
    """Read this many bytes from a plain socket."""
    data = peer.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise RuntimeError("the connection was closed")
    return data


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
