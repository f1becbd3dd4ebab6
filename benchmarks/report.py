"""Rows of figures, and their printed table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

HEADINGS = ("", "tcpapp", "peer", "", "compared (min … max)", "goal", "reached")


@dataclass(frozen=True)
class Row:
    """
    One measured thing, with one value a round.

    - `ours` and `peers`: the results of each side, in `unit`. There are no `peers` if tcpapp is compared with a number.
    - `compared`: the values that the goal is about: ratios, differences, or tcpapp's own values.
    - `goal`: the compared value must be at least this (`at_least`) or at most this. With `None` there is no goal.
    - `notes`: reasons to doubt the figures. `extra`: further values for the JSON.
    """

    group: str
    name: str
    unit: str
    ours: Sequence[float]
    compared: Sequence[float]
    peer: str = ""
    peers: Sequence[float] = ()
    compared_unit: str = "x"
    goal: float | None = None
    at_least: bool = True
    notes: tuple[str, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Return the median of the compared values."""
        return statistics.median(self.compared)

    @property
    def reached(self) -> bool | None:
        """Return whether the goal is reached, or `None` without a goal."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.at_least else self.median <= self.goal

    def as_json(self) -> dict[str, object]:
        """Return all values of the row, for a file."""
        return {
            "group": self.group,
            "name": self.name,
            "peer": self.peer,
            "unit": self.unit,
            "ours": list(self.ours),
            "peers": list(self.peers),
            "compared": list(self.compared),
            "compared_unit": self.compared_unit,
            "median": self.median,
            "goal": self.goal,
            "goal_is": "at least" if self.at_least else "at most",
            "reached": self.reached,
            "notes": list(self.notes),
            **self.extra,
        }

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table's row."""
        show = _SHOWN[self.compared_unit]
        spread = f" ({show(min(self.compared))} … {show(max(self.compared))})" if len(self.compared) > 1 else ""
        return (
            self.name,
            _SHOWN[self.unit](statistics.median(self.ours)),
            _SHOWN[self.unit](statistics.median(self.peers)) if self.peers else "",
            self.peer,
            show(self.median) + spread,
            "" if self.goal is None else ("≥ " if self.at_least else "≤ ") + show(self.goal),
            {True: "yes", False: "MISSED", None: ""}[self.reached],
        )


_SHOWN: dict[str, Callable[[float], str]] = {
    "x": lambda value: f"{value:.2f}x",
    "messages/s": lambda value: f"{value:,.0f}/s",
    "s": lambda value: f"{value:.3f} s",
    "us": lambda value: f"{value:.2f} us",
    "%": lambda value: f"{value:.1f} %",
    "clients": lambda value: f"{value:.0f}",
    "bytes": lambda value: f"{value:,.0f} B",
}


def ratio_row(
    group: str,
    name: str,
    ours: Sequence[float],
    peer: str,
    peers: Sequence[float],
    goal: float | None = None,
    *,
    unit: str = "messages/s",
) -> Row:
    """Return a row with how many times faster than the peer tcpapp is, round by round. More is better, in each unit."""
    more_is_better = unit == "messages/s"
    ratios = [us / them if more_is_better else them / us for us, them in zip(ours, peers, strict=True)]
    return Row(group, name, unit, ours, ratios, peer, peers, goal=goal)


def table(rows: Sequence[Row]) -> str:
    """Return the rows in columns, under the names of their groups."""
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in cells) + (2 if column == 0 else 0) for column in range(len(HEADINGS))]
    lines, group = [_line(HEADINGS, widths), "-" * (sum(widths) + 2 * len(widths) - 2)], ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(group)
        name, *others = row.cells()
        lines.append(_line(("  " + name, *others), widths))
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = (0, 3)  # names are aligned to the left, figures to the right
    padded = (
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def notes(rows: Sequence[Row]) -> str:
    """Return the reasons to doubt the figures, once for each group."""
    return "\n".join(dict.fromkeys(f"note: {row.group}: {note}" for row in rows for note in row.notes))


def verdict(rows: Sequence[Row]) -> str:
    """Return a sentence about the goals, and one about each that was missed."""
    goals = [row for row in rows if row.goal is not None]
    missed = [row for row in goals if not row.reached]
    if not goals:
        return "No goals in this run."
    if not missed:
        return f"All {len(goals)} goals reached."
    return "\n".join([f"{len(missed)} of {len(goals)} goals missed:", *map(_missed, missed)])


def _missed(row: Row) -> str:
    beside = f" beside {row.peer}" if row.peer else ""
    return f"  {row.group}: {row.name}{beside}: {row.cells()[4]}, goal {row.cells()[5]}"
