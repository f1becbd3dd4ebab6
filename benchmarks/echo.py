"""
Echo over loopback: one server at a time under the same load, in rounds of A B C, A B C.

All servers of a measurement run the whole time; an idle one costs nothing. The load generator is a C program, so that
it is not the bottleneck, and its own processor use is noted with every figure. The time that the server and the load
generator waited for their processors is noted, too, since it shows other work on the machine. A disturbed round is
repeated, up to as many times as there are rounds, and the least disturbed rounds are kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.machine import cpu_seconds, pin, processors
from benchmarks.report import Row, ratio_row

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "benchmarks" / "loadgen"
CONNECTIONS = 50
SIZE = 64
PIPELINED = 64
TITLES = {
    "tcpapp": "tcpapp",
    "twisted-int32": "Twisted Int32StringReceiver",
    "asyncio-streams": "asyncio streams",
    "asyncio-protocol": "asyncio Protocol, by hand",
    "tcpapp-unguarded": "tcpapp, all guards off",
    "tcpapp-line": "tcpapp",
    "tcpapp-batch": "tcpapp, batch form",
    "tcpapp-compiled": "tcpapp, compiled",
    "tcpapp-batch-compiled": "tcpapp, compiled, batch form",
    "tcpapp-tls": "tcpapp",
    "tcpapp-room": "tcpapp",
    "tcpapp-room-compiled": "tcpapp, compiled",
    "tcpapp-async": "tcpapp, async def",
    "tcpapp-async-compiled": "tcpapp, compiled, async def",
    "tcpapp-send": "tcpapp, send()",
    "tcpapp-send-compiled": "tcpapp, compiled, send()",
    "tcpapp-conversation": "tcpapp, conversation",
    "tcpapp-conversation-compiled": "tcpapp, compiled, conversation",
    "asyncio-room": "asyncio streams",
    "uvloop-room": "uvloop Protocol, by hand",
    "twisted-room": "Twisted Int32StringReceiver",
    "twisted-bare": "bare Twisted Protocol",
    "twisted-line": "Twisted LineReceiver",
    "twisted-amp": "Twisted AMP",
    "uvloop-protocol": "uvloop Protocol, by hand",
    **peers.TITLES,
}
TITLES |= {f"{name}@uvloop": f"{title}, on our reactor" for name, title in TITLES.items()}
FRAMINGS = {"tcpapp-line": "line", "twisted-line": "line", "twisted-amp": "amp"}
"""The framing of a server, if it is not ``int32``."""
DISTURBED = 0.03
"""Share of waiting for a processor above which a round is repeated; a quiet machine shows 0.01."""
NEARLY_BUSY = 0.9
"""Above this use of its processor, the load generator can be the bottleneck."""


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    name: str
    pid: int
    port: int
    tls_port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False, compare=False)

    def told(self) -> dict[str, Any]:
        """Return the report of a server of `benchmarks.bounded`."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def serving(name: str, port: int = 0) -> Iterator[Server]:
    """
    Give a running server of `benchmarks.servers` or `benchmarks.peers`, pinned to its processor.

    The server ends with the block, because its standard input ends then.
    """
    python = [sys.executable, "-m", "benchmarks.servers", name, str(port)]
    command = peers.command(name) if name in peers.TITLES else python
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | peers.ENVIRONMENT
    with subprocess.Popen(command, text=True, cwd=ROOT, env=environment, **pipes) as process:
        pin(process.pid, processors().server)
        try:
            said = process.stdout.readline() if process.stdout else ""
            if not said:
                raise RuntimeError(f"the server {name!r} did not start")
            port, tls_port = (*map(int, said.split()), 0)[:2]
            yield Server(name, process.pid, port, tls_port, process)
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True)
class Load:
    """A constant load of the load generator on a server. `size`: the bytes of a message, or as "1-128" mixed ones."""

    inflight: int
    seconds: float
    connections: int = CONNECTIONS
    size: int | str = SIZE

    @property
    def warmup(self) -> float:
        """Return the seconds that are not counted."""
        return min(0.3, self.seconds / 3)

    def against(self, server: Server) -> dict[str, float]:
        """
        Return the load generator's figures for this server.

        ``cpu_us`` is the server's processor time for one message. ``disturbed`` is the share of the time that the
        server or the load generator waited for its processor.
        """
        numbers = (server.port, self.connections, self.inflight, self.size, self.seconds)
        framing = FRAMINGS.get(server.name.partition("@")[0], "int32")
        command = [str(LOADGEN), "127.0.0.1", *map(str, numbers), framing, str(self.warmup)]
        ran, waited = cpu_seconds(server.pid)
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            pin(process.pid, processors().load)
            out, errors = process.communicate(timeout=self.seconds + 60)
        took = time.perf_counter() - began
        ran, waited = (now - then for now, then in zip(cpu_seconds(server.pid), (ran, waited), strict=True))
        if process.returncode:
            raise RuntimeError(f"{server.name} under load: {errors.strip() or out.strip() or process.returncode}")
        found: dict[str, float] = json.loads(out)
        disturbed = max(found["loadgen_waited"], waited / took)
        return {**found, "cpu_us": ran / found["answered"] * 1e6, "disturbed": disturbed}


Round = dict[str, dict[str, float]]
Figures = dict[str, list[dict[str, float]]]


def measure(names: Sequence[str], load: Load, rounds: int, attempts: int) -> Figures:
    """Return the figures of every server, round by round: the `rounds` least disturbed rounds of up to `attempts`."""
    made: list[Round] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(name)) for name in names]
        while len(made) < attempts and sum(disturbance(each) <= DISTURBED for each in made) < rounds:
            made.append({server.name: load.against(server) for server in servers})
    kept = sorted(made, key=disturbance)[:rounds]
    return {name: [each[name] for each in kept] for name in names}


def disturbance(made: Round) -> float:
    """Return the greatest share of other work in a round."""
    return max(figures["disturbed"] for figures in made.values())


def column(figures: Figures, name: str, what: str) -> list[float]:
    """Return one figure of one server, by rounds."""
    return [figure[what] for figure in figures[name]]


def rows(group: str, figures: Figures, goals: dict[str, float | None]) -> list[Row]:
    """Return rows of the first server beside each of the others. Latencies are compared only with the second server."""
    us, *others = figures

    def beside(peer: str, name: str, what: str, unit: str, goal: float | None = None) -> Row:
        values = (column(figures, each, what) for each in (us, peer))
        row = ratio_row(group, name, next(values), TITLES[peer], next(values), goal, unit=unit)
        return replace(row, notes=doubts(figures), extra={"rounds": {us: figures[us], peer: figures[peer]}})

    return [
        *(beside(peer, "messages a second", "messages_per_second", "messages/s", goals.get(peer)) for peer in others),
        *(beside(peer, "server's CPU, a message", "cpu_us", "us") for peer in others if peer not in peers.TITLES),
        beside(others[0], "latency, median", "p50_us", "us"),
        beside(others[0], "latency, 99 of 100", "p99_us", "us"),
    ]


def doubts(figures: Figures) -> tuple[str, ...]:
    """Return reasons to doubt the figures: a load generator that was the bottleneck, or other work on the machine."""
    found = []
    for name in figures:
        busy = statistics.median(column(figures, name, "loadgen_cpu"))
        if busy > NEARLY_BUSY:
            found.append(f"the load generator used {busy:.0%} of its processor against {TITLES[name]}")
    worst = max(max(column(figures, name, "disturbed")) for name in figures)
    if worst > DISTURBED:
        found.append(f"other work held up a server or the load by up to {worst:.0%} of the time")
    return tuple(found)


def run(rounds: int, quick: bool) -> list[Row]:
    """Return all rows."""
    if not LOADGEN.exists():
        raise RuntimeError("benchmarks/loadgen is not there; `make bench` builds it")
    seconds = 0.35 if quick else 0.6
    rounds = min(rounds, 3)  # the loads have the same servers in other groups
    servers = ("tcpapp", "twisted-int32", "asyncio-streams", "asyncio-protocol")
    at_once = f"echo, {CONNECTIONS} connections, {SIZE}-byte messages"
    plan: list[tuple[str, tuple[str, ...], Load, dict[str, float | None]]] = [
        (
            f"{at_once}, {PIPELINED} in flight each",
            servers,
            Load(PIPELINED, seconds),
            {"twisted-int32": 2.5, "asyncio-streams": 8},
        ),
        (f"{at_once}, 1 in flight each (ping-pong)", servers, Load(1, seconds * 0.75), {}),
        (
            f"{at_once}, lines, {PIPELINED} in flight each",
            ("tcpapp-line", "twisted-line"),
            Load(PIPELINED, seconds),
            {},
        ),
        (
            f"guards: {at_once}, {PIPELINED} in flight each",
            ("tcpapp", "tcpapp-unguarded"),
            Load(PIPELINED, seconds),
            {"tcpapp-unguarded": 0.95},
        ),
        (
            f"guards: {at_once}, 1 in flight each (ping-pong)",
            ("tcpapp", "tcpapp-unguarded"),
            Load(1, seconds * 0.75),
            {"tcpapp-unguarded": 0.95},
        ),
    ]
    found: list[Row] = []
    for group, names, load, goals in plan:
        found += rows(group, measure(names, load, rounds, rounds if quick else 2 * rounds), goals)
    return found
