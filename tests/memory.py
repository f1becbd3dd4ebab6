"""Measure how much memory a value takes."""

from __future__ import annotations

import datetime as dt
import enum
import sys
import uuid
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import Any

import msgspec

__all__ = ["deep_size"]

SINGLES = (None, True, False, "", b"", (), frozenset(), dt.timezone.utc, ...)


def parts_of(value: Any) -> Iterable[Any]:
    """Return the objects that an object holds."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if is_dataclass(value):
        return [vars(value)]
    if isinstance(value, msgspec.msgpack.Ext):
        return [value.data]
    if isinstance(value, uuid.UUID):
        return [value.int]
    return [value.tzinfo] if isinstance(value, (dt.datetime, dt.time)) else []


def deep_size(value: Any) -> int:
    """Return the bytes that `value` takes with all its parts: each object once, rounded as CPython's allocator does."""
    seen: dict[int, Any] = {id(each): each for each in SINGLES}
    left, total = [value], 0
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, enum.Enum) or (type(each) is int and -5 <= each <= 256):
            continue
        seen[id(each)] = each
        total += -(-sys.getsizeof(each) // 16) * 16
        left += parts_of(each)
    return total
