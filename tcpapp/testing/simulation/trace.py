"""The trace: the events of a simulation, as lines to read and as a digest to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

__all__ = ["Trace"]

Record = tuple[float, str, str, Any]
"""An event: its time, its place (a host or a connection), its name, and a detail: text, a number or bytes."""

SHOWN = 40
"""The most bytes of a chunk in a line: enough for the header of a frame, and few enough for a terminal."""

FOLDED = 4096
"""The records that are kept before they go into the digest, if not all are kept: a few hundred kilobytes."""


class Trace:
    """
    The events of a run, in order. Iterating yields lines; ``str()`` joins them to one text.

    Two traces are equal, and so are their digests, if their events are equal. `keep` is the most events that are held
    (`None`: all). Dropped events still count in the digest and in ``len()``.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._most = None if keep is None else keep + FOLDED
        self._records: list[Record] = []
        self._dropped = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, when: float, where: str, what: str, detail: Any = "") -> None:
        """Add an event."""
        self._records.append((when, where, what, detail))
        if self._most is not None and len(self._records) > self._most:
            self._fold(FOLDED)

    def tail(self, count: int) -> str:
        """Return the last `count` lines."""
        return "\n".join(map(line, self._records[-count:])) if count else ""

    def parts_from(self, other: Trace) -> int | None:
        """
        Return the number, counted from 0, of the first event that differs in `other`; `None` if none differs.

        Only events that both traces still hold are compared.
        """
        first = max(self._dropped, other._dropped)
        for number in range(first, max(len(self), len(other))):
            if self._at(number) != other._at(number):
                return number
        return None

    def part(self, start: int, count: int) -> str:
        """Return the lines of `count` events from number `start` on, if they are still held."""
        records = [self._at(number) for number in range(max(0, start), start + count)]
        return "\n".join([line(each) for each in records if each is not None])

    def _at(self, number: int) -> Record | None:
        place = number - self._dropped
        return self._records[place] if 0 <= place < len(self._records) else None

    @property
    def digest(self) -> str:
        """A digest of 32 hexadecimal digits, which is the same for the same events in every process."""
        whole = self._hash.copy()
        whole.update(encoded(self._records))
        return whole.hexdigest()

    def __len__(self) -> int:
        return self._dropped + len(self._records)

    def __iter__(self) -> Iterator[str]:
        held = self._records if self._keep is None else self._records[max(0, len(self._records) - self._keep) :]
        return map(line, held)

    def __str__(self) -> str:
        return "\n".join(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        return len(self) == len(other) and self.digest == other.digest

    def __hash__(self) -> int:
        return int(self.digest, 16)

    def _fold(self, count: int) -> None:
        self._hash.update(encoded(self._records[:count]))
        del self._records[:count]
        self._dropped += count


def encoded(records: list[Record]) -> bytes:
    """Return the input of the digest: all records, with whole chunks."""
    return "".join([f"{when!r} {where} {what} {detail!r}\n" for when, where, what, detail in records]).encode()


def line(record: Record) -> str:
    """Return an event as a line for people: ``   12.003000  server               timer LoopingCall``."""
    when, where, what, detail = record
    if isinstance(detail, bytes):
        more = "…" if len(detail) > SHOWN else ""
        detail = f"{len(detail)} bytes {detail[:SHOWN]!r}{more}"
    return f"{when:14.6f}  {where:<36} {what} {detail}".rstrip()
