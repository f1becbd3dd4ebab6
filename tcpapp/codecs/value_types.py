"""The types within the type of a codec, as ``msgspec.inspect`` describes them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["parts_of", "types_within"]


def types_within(kind: Any) -> list[Any]:
    """
    Return every type that is a part of `kind`, and `kind` itself; only ``AnyType`` if `kind` is `None`.

    Each is an object of ``msgspec.inspect`` whose class tells its kind, such as ``DictType`` with its ``key_type``. It
    needs msgspec, and a `kind` that msgspec can validate.
    """
    inspect = importlib.import_module("msgspec.inspect")
    return parts_of(inspect.type_info(Any if kind is None else kind))


def parts_of(described: Any) -> list[Any]:
    """Return every type that is a part of the `described` type, and that type itself, each once."""
    found: dict[int, Any] = {}
    left = [described]
    while left:
        each = left.pop()
        if isinstance(each, tuple):
            left += each
        elif type(each).__module__ == "msgspec.inspect" and id(each) not in found:
            found[id(each)] = each
            left += [getattr(each, name) for name in getattr(each, "__struct_fields__", ())]
    return [each for each in found.values() if type(each).__name__ != "Field"]
