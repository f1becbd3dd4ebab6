"""The table of figures in README.md, which a whole run of `benchmarks.loads` writes between two marks."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.loads import Result

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN = "<!-- the table of figures: `make bench` writes it -->\n"
END = "<!-- the end of the table -->\n"

INT32 = ("Twisted's `Int32StringReceiver` on epoll", "twisted-int32")
STREAMS = ("asyncio streams", "asyncio-streams")
BY_HAND = ("a uvloop `Protocol` by hand, without any limit", "uvloop-protocol")
GO = ("Go, on one core", "go")
ROOMS = (
    ("Twisted's `Int32StringReceiver` on epoll", "twisted-room"),
    ("asyncio streams", "asyncio-room"),
    ("a uvloop `Protocol` by hand, without any limit", "uvloop-room"),
    ("Go, on one core", "go-room"),
)
ROWS: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "64 in flight on each of 50 connections, 1 to 128 bytes",
        "echo, 50 connections, 64 messages of 1 to 128 bytes in flight on each",
        "tcpapp-compiled",
        (INT32, STREAMS, BY_HAND, GO),
    ),
    (
        "64 in flight on each of 50 connections, 16 to 1,024 bytes",
        "the same with 16 to 1,024 bytes",
        "tcpapp-compiled",
        (INT32, BY_HAND, GO),
    ),
    (
        "ping-pong over 50 connections, 1 to 128 bytes",
        "echo, 50 connections, one message of 1 to 128 bytes in flight on each",
        "tcpapp-compiled",
        (INT32, STREAMS, BY_HAND, GO),
    ),
    (
        "4 in flight on each of 1,000 connections, 1 to 128 bytes",
        "echo, 1,000 connections, 4 messages of 1 to 128 bytes in flight on each",
        "tcpapp-compiled",
        (INT32, BY_HAND, GO),
    ),
    ("broadcast to 1,000, 64 bytes", "one message to 1,000 connections", "tcpapp-room-compiled", ROOMS),
    ("connect, one message, close", "connect, send one message, close", "tcpapp-compiled", (INT32, BY_HAND, GO)),
)
"""The load by its name in `benchmarks.loads`, its name in the table, tcpapp's server, and the peers."""


def table(results: list[Result]) -> str:
    """Return the table. Loads and peers that were not measured are left out; where tcpapp loses, the figure is bold."""
    lines = ["| load | beside | tcpapp on epoll | on `tcpapp.reactor` (uvloop) |", "|---|---|---|---|"]
    by_name = {each.discipline.name: each for each in results}
    for discipline, name, ours, peers in ROWS:
        result = by_name.get(discipline)
        if result is None or ours not in result.rounds[0]:
            continue
        shown = name
        for title, peer in peers:
            if peer in result.rounds[0]:
                figures = [shown_ratio(result, server, peer) for server in (ours, f"{ours}@uvloop")]
                lines.append(f"| {shown} | {title} | {figures[0]} | {figures[1]} |")
                shown = ""
    return "\n".join(lines).replace("|  |", "| |") + "\n"


def shown_ratio(result: Result, ours: str, peer: str) -> str:
    """Return the median ratio of two servers."""
    ratio = statistics.median(result.ratios(ours, peer))
    shown = f"{ratio:.2f}" if ratio < 1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"
    return f"**{shown}**" if ratio < 1 else shown


def write(results: list[Result]) -> None:
    """Replace the table in README.md."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")
