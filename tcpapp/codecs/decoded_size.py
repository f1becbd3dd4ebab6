"""
An upper bound of the memory that a decoded value takes, computed from the encoded bytes alone.

A message of 1 MiB of JSON can become 33 MiB of Python objects. Each object of the value has a byte of its own in the
message, which begins the object or separates it from the previous one. So each byte value has a cost, and the costs of
all bytes are added. A byte inside a string is counted like the same byte outside, so the sum is an upper bound.

The costs are added without a loop in Python. `bytes.translate` replaces each byte by one with as many bits set as the
byte has units of cost, and `int.bit_count` counts the bits of all of them. Long strings are left out first.

The sizes are those of CPython 3.10 to 3.14 on 64 bits, each rounded up to the 16 bytes of its allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["BASE", "Costs", "costs_of", "json_size", "msgpack_size", "text_size"]

BASE = 64
"""Bytes for a value that is one number, and for rounding."""

LONG = 16 * 1024
"""A JSON message from this size on is searched for long strings. Our choice: the search takes 2 µs."""

STRINGS = 32
"""The most JSON strings that are read one by one. The rest of the message is bounded as a whole."""

BODY = 32
"""A MessagePack string or binary from this size on is removed from a message that is searched."""

RUN = 64
"""A run of this many numbers of one kind is removed, too."""

HEADERS = 32
"""The most MessagePack headers that such a search reads. Each 16 bytes that it removes allow one more header."""

SEARCHED = 256
"""A MessagePack message from this size on is searched, if its bound is `LOOSE` times as large."""

LOOSE = 16

STRING = 96
"""Bytes of a string beside its characters: 76 in CPython 3.10, if it is not ASCII; rounded."""

FACTORY = 256
"""Assumed bytes of a field's ``default_factory`` that is not `list`, `dict`, `set` or `bytearray`."""

DICT = 112
"""Bytes of a `dict` beside `ENTRY` for each entry: an empty one has 64, one with an entry 240."""

ENTRY = 64
"""Bytes of one entry of a `dict`: 60 just after it has grown."""

SET = 224
"""Bytes of a `set` of up to 4 members."""

PLACES = 48
"""Bytes of the spare places of a list made from JSON: its length is not known at first."""

FIXMAP = ((5, 240), (10, 368), (15, 648))
"""Bytes of a `dict` of up to this many entries."""

FIXSET = ((4, SET), (15, 736))
"""Bytes of a `set` of up to this many members."""

Size = Callable[[bytes], int]


class Costs(NamedTuple):
    """What the parts of a value take, in bytes; for a codec's type, the most that any type within it takes."""

    small: int = 0
    """A number that is one byte of MessagePack: Python has these already, from -5 on, but no `float` or ``Decimal``."""
    number: int = 32
    """A number: an `int` of up to 60 bits, or a `float`; longer ones take less than a byte for each further digit."""
    text: int = STRING
    """The object of a string, beside its characters."""
    empty: int = 0
    """The object of an empty string of MessagePack: Python has `str` and `bytes` without content already."""
    item: int = 9
    """A place in a list, which grows by an eighth."""
    array: int = 64
    """A list without items."""
    object: int = 64
    """An object without entries."""


def costs_of(types: list[Any]) -> Costs:
    """Return the costs for a codec's type with these `types`, which ``msgspec.inspect`` describes."""
    costs = Costs()
    for each in types:
        kind = type(each).__name__
        costs = Costs(*map(max, costs, _TYPES.get(kind, Costs())))
        if fields := getattr(each, "fields", None):
            size = 64 + 8 * len(fields) + (DICT + ENTRY * len(fields) if kind == "DataclassType" else 0)
            size += sum(_default(field) for field in fields)
            costs = costs._replace(array=max(costs.array, size), object=max(costs.object, size))
    return costs


def _default(field: Any) -> int:
    """The bytes of a field that is missing in a message."""
    factory = field.default_factory
    return _FACTORIES.get(factory, FACTORY) if isinstance(factory, Callable) else 0  # type: ignore[arg-type]


_SET = Costs(item=112, array=SET)
_TYPES = {
    "FloatType": Costs(small=32),
    "DecimalType": Costs(small=128, number=128, text=128),  # from CPython 3.13 on; 112 before
    "UUIDType": Costs(text=112),
    "DateTimeType": Costs(text=160),  # with a time zone of its own
    "TimeType": Costs(text=160),
    "ByteArrayType": Costs(empty=64),
    "MemoryViewType": Costs(text=256, empty=256),
    "SetType": _SET,
    "FrozenSetType": _SET,
}
"""Types that take more than a list of numbers and strings. A set has up to 107 bytes for each of its members."""

_FACTORIES: dict[Any, int] = {list: 64, dict: 64, set: SET, bytearray: 64}


def _adder(costs: dict[int, int], least: int) -> Size:
    """A function that adds up the `costs` of a message's bytes, in units of at least `least` bytes."""
    unit = max(least, -(-max(costs.values()) // 8))
    units = [(1 << -(-costs.get(byte, 0) // unit)) - 1 for byte in range(256)]
    table, free = bytes(units), bytes(byte for byte in range(256) if not units[byte])

    def added(message: bytes) -> int:
        return unit * int.from_bytes(message.translate(table, free), "little").bit_count()

    return added


# Text -----------------------------------------------------------------------------------------------------------------


def _characters(utf8: bytes) -> int:
    """Bytes of the characters of the text `utf8`: all of them have the width of the widest."""
    return len(utf8) * (1 if utf8.isascii() else _width(utf8))


def _width(utf8: bytes) -> int:
    return 4 if any(lead in utf8 for lead in range(0xF0, 0xF5)) else 2


def text_size(message: bytes) -> int:
    """Return the bytes of a `str` whose UTF-8 is `message`, at most."""
    return STRING + _characters(message)


# JSON -----------------------------------------------------------------------------------------------------------------


def json_size(costs: Costs) -> Size:
    """Return the function that returns an upper bound of the bytes that the value of a message takes."""
    number, text, item, array = costs.number, costs.text, costs.item, costs.array
    # a value follows a comma, a colon, a bracket, or nothing
    added = _adder(
        {
            ord(","): item + number,
            ord(":"): ENTRY + number,
            ord("["): array + PLACES + item + number,
            ord("{"): costs.object + DICT,
            ord('"'): text // 2,
        },
        24,
    )
    base = BASE + number

    def size(message: bytes) -> int:
        if len(message) < LONG:
            return base + len(message) * _json_width(message) + added(message)
        escapes = b"\\" in message
        plain = message.replace(b"\\\\", b"").replace(b'\\"', b"") if escapes else message
        # each quote divides now: each second part is a string, and the rest begins outside of one
        parts = plain.split(b'"', STRINGS)
        strings, rest = parts[1::2], b"".join(parts[::2])
        known = len(message) * _json_width(message) if escapes else sum(map(_characters, strings)) + _characters(rest)
        return base + known + text * len(strings) + added(rest)

    return size


def _json_width(message: bytes) -> int:
    width = 1 if message.isascii() else _width(message)
    if width < 4 and b"\\u" in message:  # half of a surrogate pair is \ud8.. to \udf..
        width = 4 if b"\\ud" in message or b"\\uD" in message else 2
    return width


# MessagePack ----------------------------------------------------------------------------------------------------------

_PAYLOADS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Headers that a length follows, and the number of its bytes."""

_STEPS = [1] * 256
"""How many bytes the header of each value has, with its content; 0 if a length tells it."""
for _byte in range(0x20):
    _STEPS[0xA0 + _byte] += _byte
for _byte, _size in enumerate((4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17), 0xCA):
    _STEPS[_byte] += _size
for _byte, _size in enumerate((2, 4, 2, 4), 0xDC):
    _STEPS[_byte] += _size
for _byte in _PAYLOADS:
    _STEPS[_byte] = 0


def _headers(costs: Costs) -> dict[int, int]:
    """The cost of the value that begins with each byte, without the cost that `Costs.small` has for its items."""
    text = costs.text - 12  # its header is counted among the characters, too
    extra, sets = costs.object - 64, costs.item > 9
    found = {0x80: costs.object, 0x90: costs.array, 0xDC: costs.array, 0xDD: costs.array}
    found |= {0x80 + count: extra + _step(FIXMAP, count) for count in range(1, 16)}
    found |= {
        0x90 + count: max(costs.array + 16 * -(-count // 2), sets and _step(FIXSET, count)) for count in range(1, 16)
    }
    found |= dict.fromkeys((0xDE, 0xDF), costs.object + DICT)
    found |= dict.fromkeys((*range(0xA1, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB), text)
    found |= dict.fromkeys(range(0xCA, 0xD4), max(48, costs.number))
    found |= dict.fromkeys(range(0xE0, 0xFB), max(32, costs.number))  # -32 to -6: Python has those from -5 on already
    found |= dict.fromkeys((0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)), 80)
    return found | {0xA0: costs.empty}


def _step(steps: tuple[tuple[int, int], ...], count: int) -> int:
    return next(size for most, size in steps if count <= most)


_SLOTS = {first * 16 + count: times * count for first, times in ((8, 2), (9, 1)) for count in range(1, 16)}
"""How many values the short maps and arrays have."""


def msgpack_size(costs: Costs) -> Size:
    """Like `json_size`, for MessagePack."""
    added, slots = _adder(_headers(costs), 84), _adder(_SLOTS, 1)
    base = BASE + costs.number + costs.text
    small, item, entry = costs.small, costs.item + costs.small, ENTRY + 2 * costs.small
    long = ((0xDC, 2, item, 1), (0xDD, 4, item, 1), (0xDE, 2, entry, 2), (0xDF, 4, entry, 2))

    def bounded(message: bytes) -> int:
        known = base + _characters(message) + added(message)
        for header, width, cost, least in long:
            if header in message:
                known += cost * _declared(message, header, width, len(message) // least)
        return known + small * slots(message) if small else known

    def searched(message: bytes) -> int:
        known, rest = _without_bodies(message)
        return known + bounded(rest)

    def size(message: bytes) -> int:
        length = len(message)
        if length >= LONG:
            return searched(message)
        found = bounded(message)
        if length >= SEARCHED and found > LOOSE * length and 5 * len(message.translate(None, _ASCII)) > 2 * length:
            return min(found, searched(message))
        return found

    return size


_ASCII = bytes(range(128))


def _declared(message: bytes, header: int, width: int, most: int) -> int:
    """How many items the long arrays or maps with this header claim to have: `most` if there are many headers."""
    total, at = 0, message.find(header)
    for _ in range(8):
        total += int.from_bytes(message[at + 1 : at + 1 + width], "big")
        at = message.find(header, at + 1)
        if at < 0:
            return min(total, most)
    return most


def _without_bodies(message: bytes) -> tuple[int, bytes]:
    """
    The bytes that long strings and binaries take, and the message without them and without the digits of runs.

    Only their headers are left. It gives up if it finds few.
    """
    size, at, start, left = 0, 0, 0, HEADERS
    parts = []
    while left > 0 and at < len(message):
        left -= 1
        header = message[at]
        if step := _STEPS[header]:
            if step >= 5 and header >= 0xCA and (count := _run(message, at, step)):
                parts += [message[start:at], message[at : at + 1] * count]
                start = at + step * count
                step, left = start - at, left + (start - at) // 16
            at += step
            continue
        begin = at + 1 + _PAYLOADS[header]
        body = message[begin : begin + int.from_bytes(message[at + 1 : begin], "big")]
        after = begin + len(body) + (0xC7 <= header <= 0xC9)
        if len(body) >= BODY:
            parts.append(message[start : at + 1])
            size += _characters(body) if header >= 0xD9 else len(body)
            start, left = after, left + len(body) // 16
        at = after
    return size, b"".join((*parts, message[start:]))


def _run(message: bytes, at: int, step: int) -> int:
    """How many values of one kind follow one another from here; 0 if they are few."""
    header = message[at : at + 1]
    if message[at : at + step * RUN : step] != header * RUN:
        return 0
    headers = message[at::step]
    return len(headers) - len(headers.lstrip(header))
