"""The weight of a message: a bound of its decoded value's memory, never too low and not much too high."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import random
import struct
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcpapp.codecs import Codec, Json, MessagePack, Text
from tcpapp.errors import UndecodableMessage
from tests.memory import deep_size


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: float
    y: float = 0.0
    tags: list[str] = []


class Pair(NamedTuple):
    left: int = 0
    right: int = 0


class Wide(msgspec.Struct, array_like=True):
    a: int = 0
    b: list[int] = msgspec.field(default_factory=list)
    c: dict[str, int] = msgspec.field(default_factory=dict)
    d: set[int] = msgspec.field(default_factory=set)
    e: Wide | None = None


@dataclass
class Plain:
    a: int = 1
    b: float = 2.5
    c: str = "c"
    d: list[int] = field(default_factory=list)
    e: bytearray = field(default_factory=lambda: bytearray(100))
    f: None = None


class Row(TypedDict, total=False):
    a: int
    b: str


TYPES = [
    None,
    list[float],
    dict[str, float],
    dict[str, decimal.Decimal],
    list[decimal.Decimal],
    list[uuid.UUID],
    list[dt.datetime],
    list[dt.time],
    list[dt.timedelta | None],
    set[str],
    frozenset[str],
    list[set[int]],
    list[tuple[int, ...]],
    list[tuple[int, str]],
    list[bytes],
    list[bytearray],
    list[memoryview],
    list[Point],
    list[Plain],
    list[Pair],
    list[Wide],
    list[Row],
    list[Colour | int],
    dict[str, list[Point]],
    Plain | None,
    bytearray,
]


def holds(codec: Codec[Any], message: bytes) -> bool:
    """Tell whether `message` has a value; if so, check that its weight bounds the memory of the value."""
    try:
        value = codec.decode(message)
    except UndecodableMessage:
        return False
    size, weight = deep_size(value), codec.weight(message)
    assert size <= weight, (size, weight, message[:200])
    return True


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=12), inner, max_size=40),
    max_leaves=30,
)


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None)
@given(plain)
def test_no_plain_value_takes_more_memory_than_its_weight(value: object) -> None:
    """The weight of a message is an upper bound of its value's memory."""
    assert holds(Json(), msgspec.json.encode(value))
    assert holds(Json(), msgspec.json.format(msgspec.json.encode(value), indent=2))
    assert holds(MessagePack(), msgspec.msgpack.encode(value))


HEADERS = [bytes([each]) for each in range(256)]
TOKENS = [b"[", b"]", b"{", b"}", b",", b":", b'"', b"1", b"-6", b"0e0", b"\\u0100", b"\\ud83d\\ude00", b'\\"', b"\\\\"]
TOKENS += [
    "é".encode(),
    "ж".encode(),
    "😀".encode(),
    b"aaaa",
    b'{"":0}',
    b"[]",
    b"{}",
    b'"a"',
    b"257",
    b"0.5",
    b"9" * 30,
]


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TYPES), st.lists(st.sampled_from(TOKENS), max_size=40), st.integers(1, 60))
def test_no_json_takes_more_memory_than_its_weight(kind: Any, tokens: list[bytes], times: int) -> None:
    """The weight of JSON bounds its value's memory, whatever its content, and whatever type it is decoded to."""
    one = b"".join(tokens)
    for message in (one, b"[" + b",".join([one] * times) + b"]", b'"' + one * times + b'"'):
        holds(Json(kind), message)


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(TYPES), st.lists(st.sampled_from(HEADERS) | st.binary(max_size=6), max_size=40), st.integers(1, 60)
)
@example(None, [b"\x81\xc0\xc0"], 60)
@example(None, [b"\xe0"], 60)
@example(None, [b"\xfa\xfb"], 60)
def test_no_messagepack_takes_more_memory_than_its_weight(kind: Any, tokens: list[bytes], times: int) -> None:
    """The weight of MessagePack bounds its value's memory, whatever its content and its type."""
    one = b"".join(tokens)
    for message in (one, b"\xdc" + struct.pack(">H", times) + one * times):
        holds(MessagePack(kind), message)


def test_characters_that_are_escaped_are_in_the_weight() -> None:
    """A string with escaped characters takes no more memory than its weight."""
    assert holds(Json(), b'["\\u0100", "\\ud83d\\ude00"]')


def test_single_numbers_between_long_strings_are_in_the_weight() -> None:
    """Long messages with numbers that are no run of one kind take no more memory than their weight."""
    assert holds(MessagePack(), msgspec.msgpack.encode([1.5, "x" * 5000, 2.5, b"y" * 5000] * 5))


def map_of(entries: int) -> dict[str, int]:
    """Return a map with this many entries."""
    return {f"{each:x}": each for each in range(entries)}


DENSE = {
    "empty lists": [[] for _ in range(3000)],
    "lists of one": [[7] for _ in range(3000)],
    "empty maps": [{} for _ in range(3000)],
    "maps of one": [{"": 0} for _ in range(3000)],
    "small floats": [0.5] * 3000,
    "numbers": [*range(1000, 4000)],
    "long numbers": [2**63] * 3000,
    "short strings": [f"{each:x}" for each in range(3000)],
    "one wide character": "a" * 100_000 + "\N{GRINNING FACE}",
    "a wider character": ["āaaa" for _ in range(3000)],
    "accents": ["é" for _ in range(3000)],
    "binaries": [b"ab" for _ in range(3000)],
    **{f"{count} entries": map_of(count) for count in (1, 5, 6, 10, 11, 15, 16, 22, 43, 86, 683, 1366, 43691)},
    **{f"{count} items": [[*range(count)] for _ in range(100)] for count in range(20)},
    **{f"maps of {count}": [map_of(count) for _ in range(100)] for count in range(1, 18)},
}


@pytest.mark.parametrize("value", DENSE.values(), ids=DENSE)
def test_dense_values_take_no_more_memory_than_their_weight(value: object) -> None:
    """The weight bounds values with much memory for few bytes, and dicts just larger than a table of Python's."""
    assert holds(Json(), msgspec.json.encode(value))
    assert holds(MessagePack(), msgspec.msgpack.encode(value))


MADE = {
    "floats of numbers": (list[float], [1] * 3000),
    "decimals of numbers": (list[decimal.Decimal], [1] * 3000),
    "decimals": (list[decimal.Decimal], ["1"] * 3000),
    "UUIDs": (list[uuid.UUID], [uuid.UUID(int=2**127 + each) for each in range(3000)]),
    "times with zones": (
        list[dt.datetime],
        [f"2020-01-01T00:00:00+0{each % 9}:{each % 60:02}" for each in range(3000)],
    ),
    "timedeltas": (list[dt.timedelta], ["P1D"] * 3000),
    "buffers": (list[bytearray], [b""] * 3000),
    "bytes": (list[bytes], [b"ab"] * 3000),
    "views": (list[memoryview], [b"ab"] * 3000),
    "defaults": (list[Plain], [{}] * 3000),
    "defaults of a Struct": (list[Point], [{"x": 1}] * 3000),
    "arrays with defaults": (list[Wide], [[]] * 3000),
    "tuples with defaults": (list[Pair], [[]] * 3000),
    **{
        f"sets of {count}": (list[set[str]], [list(map_of(count))] * 100) for count in (0, 1, 4, 5, 15, 16, 19, 77, 308)
    },
    **{f"a set of {count}": (set[str], list(map_of(count))) for count in (5, 19, 77, 1229, 19661)},
}


@pytest.mark.parametrize(("kind", "value"), MADE.values(), ids=MADE)
def test_objects_that_a_type_adds_are_in_the_weight(kind: Any, value: object) -> None:
    """Objects that the type of a codec adds to a few bytes count: defaults, floats of small numbers, sets."""
    assert holds(Json(kind), msgspec.json.encode(value))
    assert holds(MessagePack(kind), msgspec.msgpack.encode(value))


RECORD = {f"field{each}": f"the value of field {each}, in words" for each in range(16)}
SOME = random.Random(1)
ORDINARY = {
    "a record of strings": (RECORD, 4),
    "a record": ({"id": 12345, "name": "someone", "tags": ["a", "bc"], "at": {"x": 1.25, "y": 3}, "ok": True}, 4),
    "a record in Russian": ({f"поле{each}": f"значение номер {each}" * 3 for each in range(16)}, 6),
    "a long string": ("a" * 1_000_000, 1.01),
    "a long string with escapes": ('He said: "yes", and went.\n' * 40_000, 1.2),
    "a long string in Russian": ("ж" * 500_000, 4),
    "a long string in Japanese": ("語" * 300_000, 4),
    "faces": ("\N{GRINNING FACE}" * 250_000, 4.01),
    "floats": ([SOME.random() for _ in range(5000)], 3),
    "a long string in an envelope": ({"id": 1, "body": "x" * 100_000, "more": ["y" * 400]}, 1.1),
}


@pytest.mark.parametrize(("value", "most"), ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("codec", [Json(), MessagePack()], ids=str)
def test_ordinary_values_weigh_a_few_times_their_memory(codec: Codec[Any], value: object, most: float) -> None:
    """The weight of an ordinary value is at most a few times its memory."""
    message = codec.encode(value)
    assert holds(codec, message)
    assert codec.weight(message) <= most * deep_size(codec.decode(message))


def test_a_long_binary_weighs_little_more_than_its_bytes() -> None:
    """A long binary counts with its length, although its bytes can look like headers."""
    message = MessagePack().encode({"id": 1, "body": SOME.randbytes(100_000), "more": [b"\xdd" * 500, "ü" * 300]})
    assert holds(MessagePack(), message)
    assert MessagePack().weight(message) < 110_000


def test_a_message_with_many_headers_of_long_arrays_is_bounded() -> None:
    """In a message with many headers of long arrays, each byte counts as an item, and the weight is a bound."""
    assert holds(MessagePack(), b"\x9f" + b"\xdc\x00\x02\x01\x02" * 15)
    assert holds(MessagePack(), b"\x9f" + b"\xde\x00\x01\x01\x02" * 15)


@pytest.mark.exhaustive
@given(st.text())
def test_text_takes_no_more_memory_than_its_weight(value: str) -> None:
    """The weight of a text bounds its memory, and is at most four bytes for each byte of it, plus a constant."""
    message = value.encode()
    assert deep_size(value) <= Text().weight(message) <= 96 + 4 * len(message)


@pytest.mark.exhaustive
@given(st.sampled_from([Text(), Json(), MessagePack(), *map(Json, TYPES)]), st.binary(max_size=600))
def test_any_bytes_have_a_weight(codec: Codec[Any], message: bytes) -> None:
    """`weight` gives a bounded number for any bytes, and never raises."""
    assert len(message) <= codec.weight(message) <= 4000 + 600 * len(message)
