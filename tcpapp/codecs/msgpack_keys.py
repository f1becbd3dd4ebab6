"""
The keys of a MessagePack message, counted before it is decoded: one pass over its headers.

Which bytes are a key can only be found by reading all headers before them. So this is a loop, which is compiled where
tcpapp is compiled. A codec calls it only if a message can have keys of a refused kind, or too many of another kind.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FEW", "FOUND", "NAMED", "REFUSED", "UNCOUNTED", "WORK", "Rules", "count_keys"]

REFUSED: Final = 255
"""The kind of a key that is not allowed."""

NAMED: Final = 128
"""A flag that is added to the number that a key counts for: the key counts for nothing if it is one of the names."""

FOUND: Final = -1
"""The result of `count_keys` if a key is refused."""

UNCOUNTED: Final = -2
"""The result of `count_keys` if containers that can be slow follow after more than `WORK` values."""

WORK: Final = 200_000
"""The most values that are read. Our choice: they take 25 ms uncompiled, a quarter of the 100 ms for one message."""

FEW: Final = 15
"""The most entries of a map with a header of one byte."""


def _steps() -> bytes:
    """Return how many bytes a value with each header has; 0 for a container, and if a length follows."""
    steps = bytearray([1] * 256)
    for count in range(32):
        steps[0xA0 + count] += count
    for header, payload in enumerate((4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17), 0xCA):
        steps[header] += payload
    for header in (*range(0x80, 0xA0), *range(0xC4, 0xCA), *range(0xD9, 0xE0)):
        steps[header] = 0
    return bytes(steps)


_STEPS: Final = _steps()
_WIDTHS: Final = b"\x01\x02\x04\x01\x02\x04" + bytes(15) + b"\x01\x02\x04"
"""How many bytes the lengths of the headers from 0xc4 to 0xdb have."""


class Rules(NamedTuple):
    """
    The numbers that keys and items count for.

    - `keys`: for each header, what a key with it counts for, with `NAMED` or without, or `REFUSED`. Keys count in maps
      of more than `FEW` entries: shorter maps are not slow, whatever their keys.
    - `items`: for each header, what an item with it counts for.
    - `names`: the encoded strings that count for nothing as keys.
    - `long`: the headers of containers that can be slow. A message without them needs no count.
    - `most`: counting ends above this number.
    """

    keys: bytes
    items: bytes
    names: frozenset[bytes]
    long: bytes
    most: int


def count_keys(message: bytes, rules: Rules) -> int:
    """
    Return what the keys of maps and the items of arrays count for together, or `FOUND` or `UNCOUNTED`.

    A message that is no MessagePack raises nothing here: the decoder refuses it, and reads no further than this
    function.
    """
    keys, items, names, long, most = rules
    steps, end, counted, at = _STEPS, len(message), 0, 0
    left, pairs, many = 1, False, False
    outer: list[int] = []  # for each enclosing container: four times the values left, plus 2 for many, plus 1 for a map
    work = WORK
    while at < end and counted <= most:
        header = message[at]
        if not pairs:
            counted += items[header] if outer else 0
        elif not left & 1 and keys[header]:
            if keys[header] == REFUSED:
                return FOUND
            counted += _counts(keys[header], message, at, names) if many else 0
        left -= 1
        if steps[header]:
            at += steps[header]
        elif 0xC4 <= header <= 0xDB:
            at = _after(message, at)
        else:
            outer.append(left * 4 + many * 2 + pairs)
            pairs = header < 0x90 or header >= 0xDE
            left, at = _opened(message, at)
            many = left > FEW
            left <<= pairs
        while not left:
            if not outer:
                return counted
            left = outer.pop()
            pairs, many, left = left & 1 == 1, left & 2 == 2, left >> 2
        work -= 1
        if not work:
            return UNCOUNTED if any(header in message[at:] for header in long) else counted
    return counted


def _after(message: bytes, at: int) -> int:
    """Where the string, binary or extension at `at` ends."""
    header = message[at]
    width = _WIDTHS[header - 0xC4]
    body = at + 1 + width
    return body + int.from_bytes(message[at + 1 : body], "big") + (1 if 0xC7 <= header <= 0xC9 else 0)


def _opened(message: bytes, at: int) -> tuple[int, int]:
    """How many entries or items the container at `at` has, and where they begin."""
    header = message[at]
    if header <= 0x9F:
        return header & 15, at + 1
    body = at + (5 if header & 1 else 3)
    return int.from_bytes(message[at + 1 : body], "big"), body


def _counts(number: int, message: bytes, at: int, names: frozenset[bytes]) -> int:
    """What the key at `at` counts for, if it can be one of the `names`."""
    if number < NAMED:
        return number
    after = at + _STEPS[message[at]] if _STEPS[message[at]] else _after(message, at)
    return 0 if message[at:after] in names else number - NAMED
