"""The types within the type of a codec, as ``msgspec.inspect`` describes them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["types_within"]


def types_within(kind: Any) -> list[Any]:
    """
    Every type that is a part of `kind`, and `kind` itself, each once; nothing where it is `None`.

    Each is an object of ``msgspec.inspect``, whose class says what it is: a ``DictType`` with its ``key_type``. Needs
    msgspec, and a `kind` that msgspec can validate.
    """
    if kind is None:
        return []
    inspect = importlib.import_module("msgspec.inspect")
    found: dict[int, Any] = {}
    left = [inspect.type_info(kind)]
    while left:
        each = left.pop()
        if isinstance(each, tuple):
            left += each
        elif isinstance(each, inspect.Field):
            left.append(each.type)
        elif isinstance(each, inspect.Type) and id(each) not in found:
            found[id(each)] = each
            left += [getattr(each, name) for name in each.__struct_fields__]
    return list(found.values())
