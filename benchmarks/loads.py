"""
All servers under all loads, in rounds of A B C, A B C.

The results are one table and one picture (`benchmarks.picture`), and the goals, each a ratio of two servers in the same
rounds. All servers of a load run at the same time; an idle one costs nothing.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tcpapp
from benchmarks import peers
from benchmarks.echo import DISTURBED, ROOT, TITLES, Load, Server, serving
from benchmarks.idle import IDLE, with_idle
from benchmarks.machine import cpu_seconds, pin, processors, raise_file_limit
from benchmarks.memory import connect
from benchmarks.report import Row

TLSLOAD = ROOT / "benchmarks" / "tlsload"
MEMBERS = 1000
"""Connections that receive each message of the broadcast."""
FRAME = struct.pack(">I", 64) + bytes(range(64))
PATIENCE = 20.0
MORE = 2
"""Disturbed rounds that are repeated at most. With more, the whole run would take much longer."""

EVERYBODY = (
    "tcpapp@uvloop",
    "tcpapp",
    "twisted-int32@uvloop",
    "twisted-int32",
    "twisted-bare@uvloop",
    "twisted-bare",
    "uvloop-protocol",
    "asyncio-protocol",
    "asyncio-streams",
)
COMPILED = ("tcpapp-compiled@uvloop", "tcpapp-compiled")
AMP = ("twisted-amp@uvloop", "twisted-amp")
LINES = ("tcpapp-line@uvloop", "tcpapp-line", "twisted-line@uvloop", "twisted-line")
FORMS = tuple(
    f"tcpapp{form}-compiled{reactor}"
    for form in ("", "-async", "-send", "-conversation")
    for reactor in ("@uvloop", "")
)
ROOMS = (
    "tcpapp-room-compiled@uvloop",
    "tcpapp-room-compiled",
    "tcpapp-room@uvloop",
    "tcpapp-room",
    "twisted-room@uvloop",
    "twisted-room",
    "uvloop-room",
    "asyncio-room",
)
BESIDE_GO = ("tcpapp@uvloop", "tcpapp", "twisted-int32@uvloop", "twisted-int32", "uvloop-protocol", "asyncio-streams")
WITH_TLS = ("tcpapp-tls@uvloop", "tcpapp-tls")

Measured = dict[str, float]
Run = Callable[[Server, float], Measured]
Beside = Callable[[Server], AbstractContextManager[Measured]]


@dataclass(frozen=True)
class Discipline:
    """
    A load with its servers, the server with 1.00x, and the goals: a server, its peer, and the least ratio of both.

    `elsewhere` gives the peers that are not Python. `beside` holds a background load during the whole measurement, and
    gives its figures.
    """

    name: str
    servers: tuple[str, ...]
    base: str
    run: Run
    what: str = "messages/s"
    goals: tuple[tuple[str, str, float], ...] = ()
    elsewhere: Callable[[], list[str]] = list
    beside: Beside = lambda _: nullcontext({})


@dataclass
class Result:
    """The results of each server of a discipline, round by round."""

    discipline: Discipline
    rounds: list[dict[str, Measured]] = field(default_factory=list)

    def values(self, server: str, what: str = "rate") -> list[float]:
        """Return one figure of one server, by rounds."""
        return [each[server][what] for each in self.rounds]

    def ratios(self, ours: str, peer: str, what: str = "rate") -> list[float]:
        """Return the ratios of two servers, by rounds."""
        return [us / them for us, them in zip(self.values(ours, what), self.values(peer, what), strict=True)]


# The loads ------------------------------------------------------------------------------------------------------------


def echo(server: Server, seconds: float, *, inflight: int, size: int | str, connections: int) -> Measured:
    """Keep `inflight` messages in flight on each of `connections` connections."""
    found = Load(inflight, seconds, connections, size).against(server)
    return {
        "rate": found["messages_per_second"],
        "cpu_us": found["cpu_us"],
        "disturbed": found["disturbed"],
        "answered": found["answered"],
        "used": found["cpu_us"] * found["answered"] / 1e6,
    }


def with_tls(server: Server, seconds: float, *, size: int) -> Measured:
    """Keep one message in flight on each of 50 connections with TLS."""
    ran, _ = cpu_seconds(server.pid)
    command = [str(TLSLOAD), str(server.tls_port), "50", str(size), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pin(process.pid, processors().load)
        out, errors = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise RuntimeError(f"{server.name} under TLS: {errors.strip()}")
    found = json.loads(out)
    used = cpu_seconds(server.pid)[0] - ran
    return {"rate": found["messages_per_second"], "cpu_us": used / found["answered"] * 1e6, "disturbed": 0.0}


def churn(server: Server, seconds: float) -> Measured:
    """Connect, send one message, and close; one connection after the other."""
    ran, waited = cpu_seconds(server.pid)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as peer:
            peer.sendall(FRAME)
            check(peer.recv(len(FRAME), socket.MSG_WAITALL) == FRAME)
        count += 1
    took = time.perf_counter() - began
    ran, waited = (now - then for now, then in zip(cpu_seconds(server.pid), (ran, waited), strict=True))
    return {"rate": count / ran, "cpu_us": ran / count * 1e6, "disturbed": waited / took}


def broadcast(server: Server, seconds: float) -> Measured:
    """Send a message of one member to 1,000, again and again. The server's processor time for each delivery counts."""
    raise_file_limit(MEMBERS + 200)
    with ExitStack() as stack:
        poller = select.epoll()
        members = {}
        for each in connect(server, MEMBERS):
            stack.enter_context(each)
            each.setblocking(False)
            members[each.fileno()] = each
            poller.register(each, select.EPOLLIN)
        speaker = next(iter(members.values()))
        everybody_hears(poller, members, speaker)
        ran, waited = cpu_seconds(server.pid)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            everybody_hears(poller, members, speaker)
            count += MEMBERS
        took = time.perf_counter() - began
        ran, waited = (now - then for now, then in zip(cpu_seconds(server.pid), (ran, waited), strict=True))
        poller.close()
    return {"rate": count / ran, "cpu_us": ran / count * 1e6, "disturbed": waited / took}


def everybody_hears(poller: select.epoll, members: dict[int, socket.socket], speaker: socket.socket) -> None:
    """Send a message as one member, and read it on every connection."""
    speaker.sendall(FRAME)
    missing = dict.fromkeys(members, len(FRAME))
    while missing:
        events = poller.poll(PATIENCE)
        check(bool(events))
        for number, _ in events:
            missing[number] -= len(members[number].recv(missing[number]))
            if not missing[number]:
                del missing[number]


def check(true: bool) -> None:
    """Raise an error if a server does not do its work."""
    if not true:
        raise RuntimeError("a reply did not come, or is not what was sent")


DISCIPLINES = (
    Discipline(
        "64 in flight on each of 50 connections, 1 to 128 bytes",
        (*EVERYBODY, *COMPILED, "tcpapp-batch-compiled@uvloop", "tcpapp-batch@uvloop", "tcpapp-batch", *AMP),
        "twisted-int32",
        partial(echo, inflight=64, size="1-128", connections=50),
        goals=(
            ("tcpapp-compiled@uvloop", "go", 0.9),
            ("tcpapp-compiled", "twisted-int32", 5.0),
        ),
        elsewhere=peers.found,
    ),
    Discipline(
        "64 in flight on each of 50 connections, 16 to 1,024 bytes",
        EVERYBODY + COMPILED,
        "twisted-int32",
        partial(echo, inflight=64, size="16-1024", connections=50),
        goals=(("tcpapp-compiled@uvloop", "go", 0.9),),
        elsewhere=peers.found,
    ),
    Discipline(
        "ping-pong over 50 connections, 1 to 128 bytes",
        EVERYBODY + COMPILED + AMP,
        "twisted-int32",
        partial(echo, inflight=1, size="1-128", connections=50),
        goals=(
            ("tcpapp-compiled@uvloop", "uvloop-protocol", 0.95),
            ("tcpapp-compiled@uvloop", "go", 0.92),
            ("twisted-bare@uvloop", "twisted-bare", 2.2),
            ("twisted-int32@uvloop", "twisted-int32", 2.2),
        ),
        elsewhere=peers.found,
    ),
    Discipline(
        "4 in flight on each of 1,000 connections, 1 to 128 bytes",
        BESIDE_GO + COMPILED,
        "twisted-int32",
        partial(echo, inflight=4, size="1-128", connections=1000),
        goals=(
            ("tcpapp-compiled@uvloop", "uvloop-protocol", 0.95),
            ("tcpapp-compiled", "twisted-int32", 1.2),
        ),
        elsewhere=peers.found,
    ),
    Discipline(
        "forms of app, 64 in flight on each of 50 connections, 1 to 128 bytes",
        FORMS,
        "tcpapp-compiled",
        partial(echo, inflight=64, size="1-128", connections=50),
        goals=tuple(
            (f"tcpapp-{form}-compiled{reactor}", f"tcpapp-compiled{reactor}", least)
            for form, least in (("async", 0.7), ("conversation", 0.5), ("send", 0.7))
            for reactor in ("@uvloop", "")
        ),
    ),
    Discipline(
        "broadcast to 1,000, 64 bytes",
        ROOMS,
        "twisted-room",
        broadcast,
        what="deliveries a CPU second",
        goals=(
            ("tcpapp-room-compiled@uvloop", "twisted-room@uvloop", 2.0),
            ("tcpapp-room-compiled", "twisted-room", 2.0),
        ),
        elsewhere=peers.rooms,
    ),
    Discipline(
        "connect, one message, close",
        BESIDE_GO + COMPILED,
        "twisted-int32",
        churn,
        what="connections a CPU second",
        goals=(
            ("tcpapp-compiled", "twisted-int32", 0.9),
            ("tcpapp-compiled@uvloop", "uvloop-protocol", 0.6),
        ),
        elsewhere=peers.found,
    ),
    Discipline(
        "equal lengths: ping-pong over 50 connections, 64 bytes",
        EVERYBODY + COMPILED,
        "twisted-int32",
        partial(echo, inflight=1, size=64, connections=50),
        elsewhere=peers.found,
    ),
    Discipline(
        "equal lengths: 64 in flight on each of 50 connections, 64 bytes",
        EVERYBODY + COMPILED,
        "twisted-int32",
        partial(echo, inflight=64, size=64, connections=50),
        elsewhere=peers.found,
    ),
    Discipline(
        "equal lengths: ping-pong over 50 connections, 16 KiB",
        EVERYBODY + COMPILED,
        "twisted-int32",
        partial(echo, inflight=1, size=16_384, connections=50),
        goals=(("tcpapp@uvloop", "go", 0.5),),
        elsewhere=peers.found,
    ),
    Discipline(
        "equal lengths: ping-pong over 1 connection, 64 bytes",
        EVERYBODY,
        "twisted-int32",
        partial(echo, inflight=1, size=64, connections=1),
        elsewhere=peers.found,
    ),
    Discipline(
        "lines, 64 in flight on each of 50 connections, 1 to 128 bytes",
        LINES,
        "twisted-line",
        partial(echo, inflight=64, size="1-128", connections=50),
    ),
    Discipline(
        "TLS, ping-pong over 50 connections, 64 bytes",
        WITH_TLS,
        "tcpapp-tls",
        partial(with_tls, size=64),
        goals=(("tcpapp-tls@uvloop", "tcpapp-tls", 1.9),),
    ),
    Discipline(
        "TLS, ping-pong over 50 connections, 16 KiB",
        WITH_TLS,
        "tcpapp-tls",
        partial(with_tls, size=16_384),
        goals=(("tcpapp-tls@uvloop", "tcpapp-tls", 1.9),),
    ),
    Discipline(
        f"equal lengths: ping-pong over 50 connections, 64 bytes, beside {IDLE:,} that are idle",
        (
            "tcpapp@uvloop",
            "tcpapp",
            "twisted-int32@uvloop",
            "twisted-int32",
            "uvloop-protocol",
            "asyncio-protocol",
            "asyncio-streams",
        ),
        "twisted-int32",
        partial(echo, inflight=1, size=64, connections=50),
        elsewhere=peers.found,
        beside=with_idle,
    ),
)


# All measurements -----------------------------------------------------------------------------------------------------


def league(discipline: Discipline, rounds: int, seconds: float) -> Result:
    """Measure a discipline. Keep the `rounds` least disturbed rounds of up to `MORE` more."""
    result = Result(discipline)
    names = tuple(filter(there, discipline.servers)) + tuple(discipline.elsewhere())
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(name)) for name in names]
        beside = {server: stack.enter_context(discipline.beside(server)) for server in servers}
        while len(result.rounds) < rounds + MORE and sum(worst(each) <= DISTURBED for each in result.rounds) < rounds:
            result.rounds.append({each.name: discipline.run(each, seconds) | beside[each] for each in servers})
    result.rounds = sorted(result.rounds, key=worst)[:rounds]
    return result


def there(server: str) -> bool:
    """Return whether a server can be measured: the compiled servers only if they were compiled."""
    return tcpapp.accelerated or "-compiled" not in server


def worst(made: dict[str, Measured]) -> float:
    """Return the greatest share of other work in a round."""
    return max(each["disturbed"] for each in made.values())


def title(server: str) -> str:
    """Return the name of a server in the table."""
    name, _, reactor = server.partition("@")
    if name in peers.TITLES or name.startswith(("asyncio", "uvloop")):
        return TITLES[name]
    return f"{TITLES[name]}, on {'tcpapp.reactor' if reactor else 'epoll'}"


def goals(result: Result) -> list[Row]:
    """Return a row for each goal, with the peer and the least ratio."""
    return [
        Row(
            f"goals: {result.discipline.name}",
            title(ours),
            "messages/s",
            result.values(ours),
            result.ratios(ours, peer),
            title(peer),
            result.values(peer),
            goal=least,
        )
        for ours, peer, least in result.discipline.goals
        if {ours, peer} <= result.rounds[0].keys()
    ]


def growth(rounds: int, seconds: float) -> dict[str, list[tuple[float, float]]]:
    """
    Return the processor time of a message by connections, and of a byte by the size of a message. A flat line is
    linear.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for server in ("tcpapp@uvloop", "tcpapp"):
        with serving(server) as up:
            by_connections = [
                (count, spent(up, rounds, seconds, inflight=1, size=64, connections=count))
                for count in (10, 100, 1000, 3000)
            ]
            by_size = [
                (size, 1000 * spent(up, rounds, seconds, inflight=1, size=size, connections=10) / size)
                for size in (1 << 10, 1 << 14, 1 << 18, 1 << 20)
            ]
        found[f"{server} by connections"], found[f"{server} by size"] = by_connections, by_size
    return found


def spent(server: Server, rounds: int, seconds: float, **load: Any) -> float:
    """Return the median of the server's processor time for a message, in microseconds, without connecting."""

    def once() -> float:
        short, long = (echo(server, length, **load) for length in (seconds, 3 * seconds))
        return (long["used"] - short["used"]) / (long["answered"] - short["answered"]) * 1e6

    return statistics.median(once() for _ in range(rounds))


def run(rounds: int, quick: bool) -> list[Row]:
    """
    Return the rows of the goals. A whole run also writes the table and the picture into the documentation, and the
    table in README.md.
    """
    from benchmarks import picture, readme

    raise_file_limit(IDLE + 1000)
    seconds = 0.25 if quick else 0.3
    rounds = 1 if quick else min(rounds, 3)
    wanted: Sequence[Discipline] = [each for each in DISCIPLINES if possible(each)]
    results = [league(each, rounds, seconds) for each in wanted]
    grown = growth(1, seconds / 2)
    print(picture.as_text(results))
    if not quick:
        picture.write(results, grown)
        readme.write(results)
    return [row for result in results for row in goals(result)]


def possible(discipline: Discipline) -> bool:
    """
    Return whether the load generator of a discipline exists. The one for TLS is built if OpenSSL's headers are there.
    """
    return discipline.servers is not WITH_TLS or TLSLOAD.exists()
