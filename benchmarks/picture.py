"""The results of `benchmarks.loads`, as text, as a page of the documentation, and as a picture (SVG) in it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine

if TYPE_CHECKING:
    from benchmarks.loads import Result

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURE = DOCS / "_static" / "benchmarks.svg"
PAGE = DOCS / "explanation" / "figures.md"

WIDTH, LEFT, BAR, GAP = 920, 330, 17, 34
LEAST_CPU = 0.02
OURS, PEERS, ELSEWHERE = "#1f6feb", "#8b949e", "#c9d1d9"

Grown = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Line:
    """
    A server under a load: its rate, its ratio to the base, its processor time for one message, and further figures.
    """

    name: str
    rate: float
    ratio: float
    cpu: float
    more: str = ""


def lines_of(result: Result) -> list[Line]:
    """Return the servers of a discipline, the fastest first."""
    base, first = result.discipline.base, result.rounds[0]
    found = [
        Line(
            title_of(server),
            statistics.median(result.values(server)),
            statistics.median(result.ratios(server, base)),
            statistics.median(result.values(server, "cpu_us")),
            f"{first[server]['bytes']:,.0f} B" if "bytes" in first[server] else "",
        )
        for server in first
    ]
    return sorted(found, key=lambda each: -each.ratio)


def columns(result: Result) -> list[str]:
    """Return the columns of a discipline's table, without the column of names."""
    more = ["heap of an idle connection"] if lines_of(result)[0].more else []
    return [result.discipline.what, "×", "CPU of the server, each", *more]


def cells(line: Line, columns: int) -> list[str]:
    """Return the cells of one line of that table."""
    return [line.name, f"{line.rate:,.0f}", f"{line.ratio:.2f}", used(line.cpu), line.more][: columns + 1]


def used(cpu: float) -> str:
    """Return the processor time as text. It is empty for a thread of several, if another thread did the work."""
    return f"{cpu:.2f} µs" if cpu >= LEAST_CPU else ""


def title_of(server: str) -> str:
    """Return the name of a server in the table."""
    from benchmarks.loads import title

    return title(server)


def as_text(results: list[Result]) -> str:
    """Return the table as it is printed."""
    blocks = []
    for result in results:
        rows = [
            f"  {each.name:58} {each.rate:>14,.0f} {each.ratio:>8.2f}x {used(each.cpu):>12} {each.more:>10}".rstrip()
            for each in lines_of(result)
        ]
        head = f"{result.discipline.name} ({'; '.join(each for each in columns(result) if each != '×')})"
        blocks.append("\n".join([head, *rows]))
    return "\n\n".join(blocks) + "\n"


def as_markdown(results: list[Result]) -> str:
    """Return the page."""
    about = machine.describe()
    parts = [
        "# Figures",
        "",
        "Made by `make bench`, which writes this page and its picture: all servers of a table in alternating rounds on",
        "one machine, medians; `×` is the median of the rounds' ratios to the server with 1.00. Figures of other",
        "machines are other figures; ratios travel better. How they are made: `benchmarks/README.md`. What to do with",
        "them:",
        "[How to switch to uvloop](../how-to/switch-to-uvloop.md).",
        "",
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; {about['python']}, Twisted {about['twisted']}.",
        f"{str(about['pinning'])[:1].upper()}{str(about['pinning'])[1:]}.",
        "",
        "![Every server under every load](../_static/benchmarks.svg)",
        "",
    ]
    for result in results:
        parts += [
            f"## {result.discipline.name[0].upper()}{result.discipline.name[1:]}",
            "",
            f"| | {' | '.join(columns(result))} |",
            f"|---|{'---|' * len(columns(result))}",
            *(f"| {' | '.join(cells(each, len(columns(result))))} |" for each in lines_of(result)),
            "",
        ]
    return "\n".join(parts)


def colour(name: str) -> str:
    """Return the colour of a server: tcpapp's servers stand out, and so do servers that are not Python."""
    if name.startswith("tcpapp") or "tcpapp.reactor" in name:
        return OURS
    return PEERS if name.startswith(("Twisted", "asyncio", "uvloop", "bare")) else ELSEWHERE


def as_svg(results: list[Result], grown: Grown) -> str:
    """Return the picture: bars for every discipline, and below them how the cost grows."""
    drawn: list[str] = []
    at = 30
    for result in results:
        rows = lines_of(result)
        most = max(each.ratio for each in rows)
        drawn.append(text(10, at, f"{result.discipline.name}", weight="bold"))
        for each in rows:
            at += BAR + 3
            wide = max(1.0, (WIDTH - LEFT - 130) * each.ratio / most)
            drawn.append(text(LEFT - 8, at, each.name, anchor="end"))
            drawn.append(
                f'<rect x="{LEFT}" y="{at - 12}" width="{wide:.1f}" height="{BAR - 3}" fill="{colour(each.name)}"/>'
            )
            drawn.append(text(LEFT + wide + 6, at, f"{each.ratio:.2f}×{f', {each.more}' if each.more else ''}"))
        at += GAP
    for what, unit in (
        ("connections", "CPU of a message, µs, by connections"),
        ("size", "CPU of a byte, ns, by size of message"),
    ):
        at = plot(drawn, at, unit, {name: points for name, points in grown.items() if name.endswith(what)})
    style = "text{font:12px sans-serif;fill:#57606a}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {at}" width="{WIDTH}" height="{at}">'
        f"<style>{style}</style>\n" + "\n".join(drawn) + "\n</svg>\n"
    )


def text(x: float, y: float, said: str, *, anchor: str = "start", weight: str = "normal") -> str:
    """Return a line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(said)}</text>'


def plot(drawn: list[str], at: float, title: str, lines: Grown) -> float:
    """Draw points over a logarithmic axis, from zero upwards. A flat line is a cost that grows in proportion."""
    height, most = 150, max(y for points in lines.values() for _, y in points) * 1.15
    drawn.append(text(10, at, title, weight="bold"))
    bottom = at + height + 10
    drawn.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{WIDTH - 60}" y2="{bottom}" stroke="#57606a"/>')
    for number, (name, points) in enumerate(sorted(lines.items())):
        step = (WIDTH - LEFT - 90) / max(1, len(points) - 1)
        places = [(LEFT + 15 + step * n, bottom - height * y / most) for n, (_, y) in enumerate(points)]
        shade = PEERS if number == 0 else OURS
        drawn.append(
            f'<polyline fill="none" stroke="{shade}" stroke-width="2" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            + '"/>'
        )
        drawn.append(text(30, at + 30 + 18 * number, title_of(name.partition(" by ")[0])))
        drawn.append(f'<rect x="10" y="{at + 20 + 18 * number}" width="12" height="12" fill="{shade}"/>')
        for (x, y), (value, cost) in zip(places, points, strict=True):
            drawn.append(text(x, y - 6 if number else y + 16, f"{cost:.1f}", anchor="middle"))
            if not number:
                drawn.append(text(x, bottom + 16, f"{value:,.0f}", anchor="middle"))
    return bottom + 16 + GAP


def write(results: list[Result], grown: Grown) -> None:
    """Write page and picture into the documentation."""
    PICTURE.write_text(as_svg(results, grown), encoding="utf-8")
    PAGE.write_text(as_markdown(results), encoding="utf-8")
