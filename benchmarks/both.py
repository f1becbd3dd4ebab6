"""
The same work on `tcpapp.reactor` and on Twisted's epoll reactor, by two processes that take turns at short pieces.

Ours, epoll, epoll, ours, and so on: what is compared of two pieces was done one right after the other. Counted is the
processor time of the process; or the time that passes, for work that waits.

``python -m benchmarks.both REACTOR MODULE PORT`` is such a process. It reads lines of a number, of a piece of work in
``MODULE.WORKS``, and a count, and answers each with the seconds it took. PORT is where its own connections go.
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
"""Pieces in a round: many short ones, since other work on the machine disturbs some of them."""


@dataclass(frozen=True)
class Work:
    """
    A piece of work.

    - `begin` is called in the process with the reactor, how often it is to be done, the port of a peer, and what to
      call when that is done.
    - `load`: where peers make the work, what they do: called here with the port that `begin` has announced, and how
      often. `passing`: the time that passes is counted. `python`: what runs the process.
    """

    name: str
    count: int
    begin: Callable[[Any, int, int, Callable[[], None]], object]
    load: Callable[[int, int], None] | None = None
    passing: bool = False
    python: Path = Path(sys.executable)


def announce(port: int) -> None:
    """Called by `Work.begin`: say where peers find it."""
    print(port, flush=True)


def alternating(
    module: str, numbers: Iterable[int], port: int, rounds: int
) -> Iterator[tuple[Work, list[float], list[float]]]:
    """Some of a module's works, and the microseconds it took on ours and on epoll to do each once, piece by piece."""
    works: Sequence[Work] = importlib.import_module(module).WORKS
    for number in numbers:
        work = works[number]
        took: dict[str, list[float]] = {reactor: [] for reactor in REACTORS}
        with ExitStack() as stack:
            processes = {each: stack.enter_context(running(work.python, each, module, port)) for each in REACTORS}
            for piece in range(1 + rounds * PIECES):
                for reactor in sorted(REACTORS, reverse=piece % 2 == 0):
                    took[reactor].append(microseconds(processes[reactor], number, work))
        yield work, took["uvloop"][1:], took["epoll"][1:]  # the first piece was to warm up


@contextmanager
def running(python: Path, reactor: str, module: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A process with a reactor."""
    command = [str(python), "-m", "benchmarks.both", reactor, module, str(port)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, bufsize=1, **pipes) as process:
        pin(process.pid, processors().server)
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """Return a line that it said."""
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"{process.args!r} has ended")
    return line


def microseconds(process: subprocess.Popen[str], number: int, work: Work) -> float:
    """How long it takes such a process to do it once."""
    assert process.stdin is not None
    process.stdin.write(f"{number} {work.count}\n")
    if work.load is not None:
        work.load(int(said(process)), work.count)
    return float(said(process)) / work.count * 1e6


def main(name: str, module: str, port: int) -> None:
    """Do what the lines say, until they end."""
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
    """So many bytes from a plain socket."""
    data = peer.recv(size, socket.MSG_WAITALL)
    if len(data) != size:
        raise RuntimeError("the connection was closed")
    return data


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
