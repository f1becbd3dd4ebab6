"""The types within the type of a codec."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tcpapp.codecs.value_types import types_within


class Tree(msgspec.Struct):
    """A type that contains itself."""

    name: str
    children: dict[int, list[Tree]] | None = None


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (None, ["AnyType"]),
        (int, ["IntType"]),
        (dict[int, set[str]], ["DictType", "IntType", "SetType", "StrType"]),
        (tuple[int, bytes] | None, ["BytesType", "IntType", "NoneType", "TupleType", "UnionType"]),
        (Tree, ["DictType", "IntType", "ListType", "NoneType", "StrType", "StructType", "UnionType"]),
    ],
)
def test_each_type_within_a_type_is_found_once(kind: Any, names: list[str]) -> None:
    """`types_within` gives each type once, also for a type that contains itself."""
    assert sorted(type(each).__name__ for each in types_within(kind)) == names
