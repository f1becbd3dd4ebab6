"""Run the benchmarks and print one table. See README.md here."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from pathlib import Path

from benchmarks import machine
from benchmarks.report import Row, notes, table, verdict

GROUPS = (
    "loads",
    "costs",
    "gains",
    "decode",
    "parsers",
    "echo",
    "attacks",
    "clients",
    "blocking",
    "concurrency",
    "memory",
    "streams",
    "pressure",
)


def options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="tcpapp beside its peers, in one run")
    parser.add_argument("--quick", action="store_true", help="under half a minute, and less certain")
    parser.add_argument("--only", choices=GROUPS, action="append", help="this group alone (repeatable)")
    parser.add_argument("--rounds", type=int, help="how often each comparison is made (default 5; quick: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    found = parser.parse_args()
    if found.rounds is not None and not 1 <= found.rounds <= 50:
        parser.error(f"--rounds {found.rounds}: takes 1 to 50")
    return found


def header(about: dict[str, str | int | float]) -> str:
    """Return a description of the machine and the software of the run."""
    lines = [
        "tcpapp beside its peers",
        f"{about['cpu']}, {about['cores']} cores, {about['system']}; {about['python']}, Twisted {about['twisted']}",
        str(about["pinning"]),
    ]
    if float(about["load_per_core"]) > machine.BUSY:
        lines.append(
            f"note: this machine is busy with other work (load {about['load_per_core']} a core); expect wide ranges"
        )
    return "\n".join(lines)


def measure(group: str, rounds: int, *, quick: bool) -> tuple[list[Row], bool]:
    """Return the rows of a group, and whether it could be measured. Errors go to standard error."""
    print(f"measuring {group} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        rows = importlib.import_module(f"benchmarks.{group}").run(rounds, quick)
    except Exception:  # noqa: BLE001 - a group that breaks does not end the others
        print(f"{group} broke:\n{traceback.format_exc()}", file=sys.stderr)
        return [], False
    print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows, True


def main() -> int:
    """Run the groups. Return 0 if all could be measured, whatever the results, and 1 if one broke."""
    chosen = options()
    about, began = machine.describe(), time.monotonic()
    rounds = chosen.rounds or (3 if chosen.quick else 5)
    rows, broken = [], []
    for group in [name for name in GROUPS if name in (chosen.only or GROUPS)]:
        found, worked = measure(group, rounds, quick=chosen.quick)
        rows += found
        broken += [] if worked else [group]
    print(header(about))
    print(f"medians of {rounds} alternating rounds, {time.monotonic() - began:.0f} s in all\n")
    print("\n\n".join(filter(None, [table(rows), notes(rows), verdict(rows)])))
    if chosen.json:
        report = {"machine": about, "rounds": rounds, "rows": [row.as_json() for row in rows], "broken": broken}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    if broken:
        print(f"Broken: {', '.join(broken)}.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
