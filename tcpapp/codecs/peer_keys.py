"""
The limit of keys in one message whose hashes a peer can choose.

Python stores the keys of a `dict` and the members of a `set` by their hashes. Keys with the same hash, or with
overlapping searches, are compared one by one: 40,000 of them in a message of 1 MB take seconds. The hashes of `str` and
`bytes` have a seed that no peer knows. The hashes of a number, a tuple of numbers, a ``Decimal`` and a ``UUID`` have
none, so a peer can compute any number of such keys with the same hash.

A codec counts these keys before a message is decoded, and refuses more than ``max_keys``:

- a key of most kinds counts as one, and so does each part of a key that is a tuple or an object;
- `int` and `float` keys count a fifth, because they are compared faster. But integers from 2^61 - 1 on count as one,
  because any number of them can have the same hash (not in MessagePack, whose integers end at 2^64);
- an array as a key is refused, unless the codec's type asks for it.

The first count is a cheap upper bound (commas, colons). An exact count follows only if the first is too high.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tcpapp.codecs.msgpack_keys import FOUND, NAMED, REFUSED, UNCOUNTED, Rules, count_keys
from tcpapp.codecs.value_types import parts_of, types_within

__all__ = ["MAX_KEYS", "Decode", "json_guard", "msgpack_guard"]

MAX_KEYS = 1000
"""
The most keys of one message whose hashes a peer can choose, by default.

Our choice: a message should block the event loop for less than 100 ms. 1,000 keys with the same hash take 6 ms
(integers) to 50 ms (integers of 900 digits, UUIDs), and 5,000 short integers in the worst order 26 ms.
"""

Decode = Callable[[bytes], Any]
"""A function that decodes a message; a guarded one raises `ValueError` for a message with refused keys."""

LARGE = 64 * 1024
"""An untyped MessagePack message over this size is checked before it is decoded. Our choice: Twisted's bufferSize."""

FREE, SHORT, ALL = 0, 1, 5
"""What a key counts for, in fifths: its hash has a seed; it is an `int` or a `float`; it is of another type."""

_FREE = {"StrType", "BytesType", "MemoryViewType", "EnumType", "LiteralType", "BoolType", "NoneType", "DateType"}
"""Types whose hashes have a seed, or that have few values."""

_OBJECTS = {"StructType", "DataclassType", "NamedTupleType"}
_GROUPS = _OBJECTS | {"TupleType", "VarTupleType", "FrozenSetType"}
"""Types of keys that have parts."""


class _Chosen:
    """
    The keys of dicts and members of sets whose hashes a peer can choose, found in the `types` within a codec's type.
    """

    def __init__(self, types: list[Any], any_key: int, any_member: int) -> None:
        self.groups = self.objects = False
        keys = [each.key_type for each in types if hasattr(each, "key_type")]
        members = [each.item_type for each in types if _name(each) in {"SetType", "FrozenSetType"}]
        self.any = any(_name(each) == "AnyType" for each in types)
        self.keys = max([any_key if self.any else FREE, *(self._kind(each, any_key) for each in keys)])
        self.members = max([FREE, *(self._kind(each, any_member) for each in members)])
        fields = [field.encode_name for each in types for field in getattr(each, "fields", ())]
        self.names = [] if self.objects else fields

    def _kind(self, key: Any, of_any: int) -> int:
        names = {_name(each) for each in parts_of(key)}
        chosen = names - _FREE - _GROUPS - {"UnionType"}
        if chosen <= {"AnyType"}:
            return of_any if chosen else FREE
        self.groups |= bool(names & _GROUPS)
        self.objects |= bool(names & _OBJECTS)
        return SHORT if chosen <= {"IntType", "FloatType"} and not names & _GROUPS else ALL


def _name(described: Any) -> str:
    return type(described).__name__


def _refuse(most: int) -> None:
    raise ValueError(f"over {most} keys or set members with hashes a peer can choose (max_keys)")


# JSON -----------------------------------------------------------------------------------------------------------------

_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else 0 for byte in range(256))
_LONG = b"0" * 19
_LONG_NUMBER = re.compile(rb"[2-9][0-9]{18}|[0-9]{20}")
"""Digits that can be a number from 2^61 - 1 = 2305843009213693951 on, the least number with another number's hash."""


def json_guard(kind: Any, most: int, decode: Decode) -> Decode:
    """
    Return a function that decodes like `decode`, which makes values of type `kind`, but refuses more than `most` keys.
    """
    chosen = _Chosen(types_within(kind), FREE, ALL)
    keys, members = chosen.keys, chosen.members
    if not most or not (keys or members):
        return decode
    short, names = SHORT in {keys, members}, {name.encode() for name in chosen.names}

    def bound(message: bytes) -> int:
        count = (ALL - SHORT) * _long_numbers(message) if short else 0
        if keys or chosen.objects:
            count += max(keys, members) * message.count(b":")
        if members:
            count += members * (message.count(b",") + message.count(b"["))
        return count

    def exactly(message: bytes) -> int:
        strings, outside = _divided(message)
        longs = _escaped_digits(message) + sum(1 for _ in _LONG_NUMBER.finditer(message))
        count = (ALL - SHORT) * longs if short else 0
        if keys or chosen.objects:
            count += max(keys, members) * sum(
                rest.lstrip()[:1] == b":" and name not in names
                for name, rest in zip(strings, outside[1:], strict=False)
            )
        return count + members * _items(b"".join(outside))

    def guarded(message: bytes) -> Any:
        if len(message) > most and bound(message) > ALL * most and exactly(message) > ALL * most:
            _refuse(most)
        return decode(message)

    return guarded


def _long_numbers(message: bytes) -> int:
    """How many numbers of 19 digits and more there are, at most."""
    return message.translate(_DIGITS).count(_LONG) + _escaped_digits(message)


def _escaped_digits(message: bytes) -> int:
    """How many digits are escapes, as they can be in a key."""
    return message.count(b"\\u003") if b"\\" in message else 0


def _divided(message: bytes) -> tuple[list[bytes], list[bytes]]:
    """The strings of a JSON message, and the text outside of them: before the first, between, behind the last."""
    if b"\\" in message:
        message = message.replace(b"\\\\", b"").replace(b'\\"', b"")
    parts = message.split(b'"')
    return parts[1::2], parts[::2]


def _items(outside: bytes) -> int:
    """How many items the arrays of a JSON message have, from the text `outside` of strings."""
    plain = outside.translate(None, b" \t\r\n")
    in_objects = plain.count(b":") - (plain.count(b"{") - plain.count(b"{}"))
    return plain.count(b",") - in_objects + plain.count(b"[") - plain.count(b"[]")


# MessagePack ----------------------------------------------------------------------------------------------------------

_ARRAYS = bytes((*range(0x90, 0xA0), 0xDC, 0xDD))
_MAPS = bytes((*range(0x81, 0x90), 0xDE, 0xDF))
_STRINGS = bytes((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))
_FIXED = bytes((0xC0, 0xC2, 0xC3))
_NUMBERS = bytes((*range(0x80), *range(0xCA, 0xD4), *range(0xE0, 0x100)))
_TIMES = bytes((0xC7, 0xD6, 0xD7))
"""The headers of each kind. Short arrays and maps hold too few items to be slow; but no array can be a key."""

_LONG_ARRAYS = b"\xdc\xdd"
_LONG_MAPS = b"\xde\xdf"
_NO_ARRAYS = bytes(set(range(256)) - set(_ARRAYS))
_NO_MAPS = bytes(set(range(256)) - set(_MAPS))


def msgpack_guard(kind: Any, most: int, decode: Decode) -> Decode:
    """Do as `json_guard` does, for MessagePack, whose maps can have keys of any kind."""
    chosen = _Chosen(types_within(kind), SHORT, SHORT)
    if not most or not (chosen.keys or chosen.members):
        return decode
    refuses = chosen.any and not chosen.groups
    long = _LONG_MAPS + (_LONG_ARRAYS if chosen.members or chosen.groups else b"")
    check = _counter(chosen, refuses, long, ALL * most)
    looked_through = _walk_in_c()

    def guarded(message: bytes) -> Any:
        if any(header in message for header in long):
            if refuses or len(message) > most:
                check(message)
            return decode(message)
        if not (refuses and message.translate(None, _NO_ARRAYS) and message.translate(None, _NO_MAPS)):
            return decode(message)
        if len(message) > LARGE:
            check(message)
            return decode(message)
        value = decode(message)  # not slow, whatever its keys
        if not looked_through(value):
            check(message)
        return value

    return guarded


def _walk_in_c() -> Callable[[Any], bool]:
    """A function that says whether a value certainly has no tuple as a key; it is faster than reading the message."""
    convert = importlib.import_module("msgspec").to_builtins
    kept = (bytes, datetime)

    def looked_through(value: Any) -> bool:
        try:
            convert(value, str_keys=True, builtin_types=kept)
        except Exception:  # noqa: BLE001 - for a tuple, and for some other keys and values
            return False
        return True

    return looked_through


def _counter(chosen: _Chosen, refuses: bool, long: bytes, most: int) -> Callable[[bytes], None]:
    """A function that raises `ValueError` for a message whose keys are refused, or count for more than `most`."""
    keys, items = _table(chosen.keys), _table(ALL if chosen.groups else chosen.members)
    if chosen.keys == ALL:
        keys |= dict.fromkeys(_STRINGS, ALL | NAMED)
    if refuses:
        keys |= dict.fromkeys(_ARRAYS, REFUSED)
    of_key, of_item = (bytes(table.get(header, 0) for header in range(256)) for table in (keys, items))
    encode = importlib.import_module("msgspec.msgpack").encode
    rules = Rules(of_key, of_item, frozenset(encode(name) for name in chosen.names), long, most)

    def check(message: bytes) -> None:
        count = count_keys(message, rules)
        if count == FOUND:
            raise ValueError("a map has an array as a key; takes str, bytes, numbers, bool or None")
        if count == UNCOUNTED:
            raise ValueError("too many values to count the keys of its maps (max_keys=0: no limit)")
        if count > most:
            _refuse(most // ALL)

    return check


def _table(kind: int) -> dict[int, int]:
    """What each header counts for."""
    if kind == ALL:
        return dict.fromkeys(set(range(256)) - set(_FIXED), ALL)
    return dict.fromkeys(_NUMBERS, SHORT) | dict.fromkeys(_TIMES, ALL) if kind else {}
