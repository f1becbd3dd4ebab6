"""Keys whose hashes a peer can choose: a message with many of them is refused before it is decoded."""

from __future__ import annotations

import datetime as dt
import enum
import struct
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.codecs import Json, MessagePack
from tcpapp.codecs.msgpack_keys import WORK
from tcpapp.codecs.peer_keys import LARGE, MAX_KEYS, json_guard, msgpack_guard
from tcpapp.errors import UndecodableMessage

MODULUS = 2**61 - 1
"""The modulus of integer hashes (``sys.hash_info.modulus``): integers that differ by a multiple of it have one hash."""

SAME = [each * MODULUS for each in range(1, MAX_KEYS + 2)]
PLAIN = range(4 * MAX_KEYS)
MANY = range(5 * MAX_KEYS + 1)


class Colour(enum.Enum):
    RED = "red"


class Spot(msgspec.Struct, frozen=True):
    x: int


class Place(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Corner:
    x: int


class Users(msgspec.Struct):
    users: dict[uuid.UUID, dict[str, int]]
    names: list[str] = []


class Ids(msgspec.Struct):
    ids: set[int]
    ratios: list[float] = []
    text: str = ""


def refused(codec: Any, message: bytes) -> bool:
    """Tell whether `codec` refuses this message because of its keys."""
    error = type(codec)(codec.type, max_keys=codec.max_keys, invalid="deliver").read(message)
    if not isinstance(error, UndecodableMessage):
        return False
    assert "max_keys" in str(error) or "array as a key" in str(error), error
    return True


def decode(message: bytes) -> Any:
    """Stand for the decoder of a codec."""
    raise NotImplementedError


def sent(codec: Any, value: Any) -> bytes:
    """Return `value` as a message in the codec's format."""
    return (msgspec.json if isinstance(codec, Json) else msgspec.msgpack).encode(value)


KINDS: dict[Any, type] = {
    dict[int, None]: int,
    dict[str, dict[int, None]]: int,
    set[int]: int,
    set[int | None]: int,
    frozenset[int]: int,
    set: int,
    set[float]: float,
    dict[float, None]: float,
    dict[str, int] | set[int]: int,
}
"""Types whose keys are only numbers: in MessagePack, at most 8 of such keys can have one hash."""

CHOSEN = {
    "dict of ints": (dict[int, None], dict.fromkeys),
    "dict of dicts of ints": (dict[str, dict[int, None]], lambda ints: {"a": dict.fromkeys(ints)}),
    "set of ints": (set[int], list),
    "set of optional ints": (set[int | None], list),
    "frozenset of ints": (frozenset[int], list),
    "set of anything": (set, list),
    "set of decimals": (set[Decimal], lambda ints: [str(each) for each in ints]),
    "dict of decimals": (dict[Decimal, None], lambda ints: {str(each): None for each in ints}),
    "set of UUIDs": (set[uuid.UUID], lambda ints: [str(uuid.UUID(int=each)) for each in ints]),
    "set of tuples": (set[tuple[int, ...]], lambda ints: [[each] for each in ints]),
    "set of frozensets": (set[frozenset[int]], lambda ints: [[each] for each in ints]),
    "set of named tuples": (set[Place], lambda ints: [[each, 0] for each in ints]),
    "set of Structs": (set[Spot], lambda ints: [{"x": each} for each in ints]),
    "set of dataclasses": (set[Corner], lambda ints: [{"x": each} for each in ints]),
    "set of floats": (set[float], lambda ints: [float(each) for each in ints]),
    "dict of floats": (dict[float, None], lambda ints: {f"{float(each)!r}": None for each in ints}),
    "a union": (dict[str, int] | set[int], list),
}


@pytest.mark.parametrize(("kind", "make"), CHOSEN.values(), ids=CHOSEN)
@pytest.mark.parametrize("codec", [Json, MessagePack])
def test_too_many_keys_of_one_hash_are_refused(codec: Any, kind: Any, make: Any) -> None:
    """More than `max_keys` keys of one hash are refused, in a dict or a set and of any type; fewer are decoded."""
    keys: Any = SAME
    if kind in KINDS and (codec is MessagePack or KINDS[kind] is float):
        keys = MANY
        make = dict.fromkeys if codec is MessagePack and kind == dict[float, None] else make
    elif codec is MessagePack:
        keys = [each % 2**63 for each in SAME]
    assert refused(codec(kind), sent(codec(kind), make(keys)))
    assert not refused(codec(kind), sent(codec(kind), make(keys[:100])))
    assert not refused(codec(kind, max_keys=5000), sent(codec(kind), make(keys)))
    assert not refused(codec(kind, max_keys=0), sent(codec(kind), make(keys)))


@pytest.mark.parametrize("kind", [dict[int, None], set[int], set[float]], ids=str)
@pytest.mark.parametrize("codec", [Json, MessagePack])
def test_five_times_as_many_short_integers_are_too_many(codec: Any, kind: Any) -> None:
    """Over 5 x `max_keys` short integers are refused: their searches can probe the same places without equal hashes."""
    make: Any = list if kind != dict[int, None] else dict.fromkeys
    assert refused(codec(kind), sent(codec(kind), make(MANY)))
    assert not refused(codec(kind), sent(codec(kind), make(MANY[:-2])))


FINE = {
    "short integers": (dict[int, list[int]], {each: [each] for each in PLAIN}),
    "set of short integers": (set[int], list(PLAIN)),
    "integers of 18 digits": (set[int], [10**17 + each for each in PLAIN]),
    "integers of 19 digits": (set[int], [10**18 + each for each in PLAIN]),
    "long integers": (dict[int, int], {2**63 + each: 1 for each in range(1000)}),
    "a thousand UUIDs": (
        Users,
        {
            "users": {str(uuid.UUID(int=each)): {"users": 1, "names": 2} for each in range(1000)},
            "names": ["a, b: c"] * 999,
        },
    ),
    "a thousand tuples": (set[tuple[str, int]], [["a", each] for each in range(330)]),
    "text with commas": (set[uuid.UUID] | str, 'a, b, [c], {d}: e\\"' * 1000),
    "few in a large message": (Ids, {"ids": [1, 2, 3], "ratios": [0.25] * 4000, "text": "0123456789" * 300}),
    "strings": (dict[str, int], {f"{each}": each for each in PLAIN}),
    "a set of strings": (set[str], [f"{each}" for each in PLAIN]),
    "a set of tuples of strings": (set[tuple[str, str]], [[f"{each}", ""] for each in PLAIN]),
    "names of an enum": (dict[Colour, int], {"red": 1}),
    "words": (set[Literal["a", "b"]], ["a"] * 5000),
    "days": (set[dt.date], [f"{1000 + each}-01-01" for each in PLAIN]),
}


@pytest.mark.parametrize(("kind", "value"), FINE.values(), ids=FINE)
@pytest.mark.parametrize("codec", [Json, MessagePack])
def test_ordinary_keys_are_not_counted(codec: Any, kind: Any, value: Any) -> None:
    """Short integers have distinct hashes, and hashes of strings have a seed, so these keys do not count."""
    assert not refused(codec(kind), sent(codec(kind), value))


@pytest.mark.parametrize("kind", [None, int, dict, dict[str, Any], list[float], Colour, dict[bytes, Place]], ids=str)
def test_json_without_such_keys_is_not_checked(kind: Any) -> None:
    """JSON of a type without such keys is decoded without a check; untyped JSON has only strings as keys."""
    assert json_guard(kind, MAX_KEYS, decode) is decode


@pytest.mark.parametrize("kind", [int, dict[str, str], list[float], Colour, dict[bytes, Place], set[str]], ids=str)
def test_messagepack_without_such_keys_is_not_checked(kind: Any) -> None:
    """MessagePack of a type without such keys is decoded without a check."""
    assert msgpack_guard(kind, MAX_KEYS, decode) is decode


def test_an_escaped_digit_of_a_key_counts() -> None:
    """A key counts as a number also if one of its digits is written as an escape."""
    keys = ",".join(f'"\\u003{str(each)[0]}{str(each)[1:]}":1' for each in SAME)
    assert refused(Json(dict[int, int]), b"{" + keys.encode() + b"}")


# Untyped MessagePack --------------------------------------------------------------------------------------------------

ARRAY_KEYS = {
    "an array": b"\x81\x91\x01\x02",
    "an empty array": b"\x81\x90\x02",
    "an array of 16 bits": b"\x81\xdc\x00\x01\x01\x02",
    "an array of 32 bits": b"\x81\xdd\x00\x00\x00\x01\x01\x02",
    "not the first": b"\x82\x01\x02\x91\x01\x02",
    "in a long map": b"\xde\x00\x01\x91\x01\x02",
    "in a longer map": b"\xdf\x00\x00\x00\x01\x91\x01\x02",
    "in a list": b"\x92\x80\x81\x91\x01\x02",
    "in a map": b"\x82\xa1a\x81\xa1b\x91\x01\x90\x01",
    "behind all kinds": b"\x9d\xc4\x01x\xc5\x00\x01x\xc6\x00\x00\x00\x01x\xd9\x01x\xda\x00\x01x\xdb\x00\x00\x00\x01x"
    b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x00\xc7\x01\x05x\xc8\x00\x01\x05x\xd8\x05"
    + b"x" * 16
    + b"\xd4\x05x\x81\x91\x01\x02",
}


@pytest.mark.parametrize("message", ARRAY_KEYS.values(), ids=ARRAY_KEYS)
def test_an_array_is_no_key(message: bytes) -> None:
    """An array as a key is refused wherever it is, unless the codec has max_keys=0."""
    assert msgspec.msgpack.decode(message)
    assert refused(MessagePack(), message)
    assert refused(MessagePack(list[Any] | dict[Any, Any]), message)
    assert not refused(MessagePack(max_keys=0), message)


def test_a_type_can_have_arrays_as_keys() -> None:
    """A type with tuples as keys decodes arrays as keys, and the parts of these keys count."""
    codec = MessagePack(dict[tuple[int, int], int])
    assert codec.decode(b"\x81\x92\x01\x02\x03") == {(1, 2): 3}
    assert not refused(codec, msgspec.msgpack.encode({(each, each): 1 for each in range(300)}))
    assert refused(codec, msgspec.msgpack.encode({(each, each): 1 for each in range(600)}))


KEYS = {
    "short integers": [struct.pack(">BH", 0xCD, each) for each in range(5001)],
    "integers": [struct.pack(">BQ", 0xCF, each) for each in range(2**62, 2**62 + 5001)],
    "negative integers": [struct.pack(">Bq", 0xD3, -(2**62) - each) for each in range(5001)],
    "floats": [struct.pack(">Bd", 0xCB, each) for each in range(5001)],
    "short floats": [struct.pack(">Bf", 0xCA, each) for each in range(5001)],
    "times": [struct.pack(">BBI", 0xD6, 0xFF, each) for each in range(1001)],
    "long times": [struct.pack(">BBQ", 0xD7, 0xFF, each) for each in range(1001)],
    "the longest times": [struct.pack(">BBBIq", 0xC7, 12, 0xFF, 0, each) for each in range(1001)],
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_numbers_and_times_count_as_keys(keys: list[bytes]) -> None:
    """Up to 5000 numbers or 1000 times are accepted as keys; as items of a list, they do not count."""

    def message(count: int) -> bytes:
        entries = b"".join(each + b"\xc0" for each in keys[:count])
        return (
            b"\x92\xdd" + struct.pack(">I", len(keys)) + b"".join(keys) + b"\xde" + struct.pack(">H", count) + entries
        )

    assert not refused(MessagePack(), message(len(keys) - 1))
    assert refused(MessagePack(), message(len(keys)))


@pytest.mark.parametrize(
    "value",
    [
        {each: each for each in PLAIN},
        {-each: [each] for each in PLAIN},
        {f"{each}": {"at": [each, 0.5, {"x": [2**63]}]} for each in PLAIN},
        [{"id": 2**62 + each, "tags": ["a"], b"k": None, None: 1, True: 0.5} for each in range(3000)],
        {"blob": bytes(range(256)) * 400},
        [[0.1] * 5000, {}],
    ],
)
def test_ordinary_values_are_decoded(value: Any) -> None:
    """Short integers, strings, bytes, booleans and None are accepted as keys, in any number."""
    assert MessagePack().decode(msgspec.msgpack.encode(value)) == value


def test_an_array_is_no_key_in_a_large_message() -> None:
    """In a large message, an array as a key is found before the message is decoded."""
    assert refused(MessagePack(), msgspec.msgpack.encode([b"x" * LARGE, {(1,): 2}]))
    assert not refused(MessagePack(), msgspec.msgpack.encode([b"x" * LARGE, {1: [2]}]))


def test_a_message_whose_keys_cannot_be_counted_is_refused() -> None:
    """A large message with a long map behind too many values is refused; one without a long map is decoded."""
    entries = b"".join(b"\xcd" + struct.pack(">H", each) + b"\x00" for each in range(16))
    large = b"\xdd" + struct.pack(">I", WORK + 2) + b"\x80" * (WORK + 1)
    assert MessagePack().decode(large + b"\x90") == [{}] * (WORK + 1) + [[]]
    with pytest.raises(UndecodableMessage, match="too many values to count the keys"):
        MessagePack().decode(large + b"\xde\x00\x10" + entries)


@pytest.mark.parametrize("key", [None, True, b"k", 1.5])
def test_keys_that_json_lacks_are_decoded_beside_arrays(key: Any) -> None:
    """A map with a key that JSON lacks, and an array as its value, is decoded."""
    value = {key: [1, 2]}
    assert MessagePack().decode(msgspec.msgpack.encode(value)) == value


values = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5) | st.integers(-9, 99), inner, max_size=20)
    ),
)
array_keys = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@pytest.mark.exhaustive
@given(values, array_keys, values)
def test_an_array_is_found_as_a_key_and_only_there(before: Any, key: Any, after: Any) -> None:
    """An array as a key is refused whatever values are around it, and an array elsewhere is not."""
    clean, wrong = [before, {1: [after]}], [before, {1: {key: after}}]
    assert MessagePack().decode(msgspec.msgpack.encode(clean)) == clean
    assert refused(MessagePack(), msgspec.msgpack.encode(wrong))


@pytest.mark.exhaustive
@given(st.binary(max_size=200))
def test_the_check_of_keys_accepts_malformed_messagepack(message: bytes) -> None:
    """The check of keys raises nothing for malformed MessagePack, which the decoder refuses."""
    try:
        value = msgspec.msgpack.decode(message)
    except Exception:  # noqa: BLE001 - any way of refusing it
        with pytest.raises(UndecodableMessage):
            MessagePack().decode(message)
    else:
        del value
