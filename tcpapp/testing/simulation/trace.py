"""The events of a simulation: lines to read, and a digest to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

__all__ = ["Trace"]

Record = tuple[float, str, str, Any]
"""The time, the place (a host or a connection), the event, and a detail: text, a number or bytes."""

SHOWN = 40
"""Bytes of a chunk that are shown in a line: enough for a frame's head, and short enough for a terminal."""

FOLDED = 4096
"""Records that are kept before they go into the digest, if not all are kept: a few hundred kilobytes."""


class Trace:
    """
    The events of a run, in order. Iterating gives lines; ``str()`` gives them in one text.

    Two traces are equal if their events are, and so are their digests. `keep` bounds how many events are held (`None`:
    all); dropped events still count in the digest and in ``len()``.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._most = None if keep is None else keep + FOLDED
        self._records: list[Record] = []
        self._dropped = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, when: float, where: str, what: str, detail: Any = "") -> None:
        """Note an event."""
        self._records.append((when, where, what, detail))
        if self._most is not None and len(self._records) > self._most:
            self._fold(FOLDED)

    def tail(self, count: int) -> str:
        """The last `count` lines."""
        return "\n".join(map(line, self._records[-count:])) if count else ""

    def parts_from(self, other: Trace) -> int | None:
        """
        The number, from 0, of the first event that differs in `other`; `None` if there is none.

        Only events that both still hold are compared.
        """
        first = max(self._dropped, other._dropped)
        for number in range(first, max(len(self), len(other))):
            if self._at(number) != other._at(number):
                return number
        return None

    def part(self, start: int, count: int) -> str:
        """The lines of `count` events from number `start` on, as far as they are held."""
        records = [self._at(number) for number in range(max(0, start), start + count)]
        return "\n".join([line(each) for each in records if each is not None])

    def _at(self, number: int) -> Record | None:
        place = number - self._dropped
        return self._records[place] if 0 <= place < len(self._records) else None

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, the same for the same events in every process."""
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
    """The input of the digest: everything, with whole chunks."""
    return "".join([f"{when!r} {where} {what} {detail!r}\n" for when, where, what, detail in records]).encode()


def line(record: Record) -> str:
    """An event for people to read: ``   12.003000  server               timer LoopingCall``."""
    when, where, what, detail = record
    if isinstance(detail, bytes):
        more = "…" if len(detail) > SHOWN else ""
        detail = f"{len(detail)} bytes {detail[:SHOWN]!r}{more}"
    return f"{when:14.6f}  {where:<36} {what} {detail}".rstrip()
