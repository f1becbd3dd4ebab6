"""The keys of a MessagePack message, which are counted by the headers of its values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tcpapp.codecs.msgpack_keys import FOUND, NAMED, REFUSED, UNCOUNTED, WORK, Rules, count_keys


def table(**kinds: int) -> bytes:
    """Return a table of the 256 headers: how much a short string, a short integer and a short array count."""
    made = bytearray(256)
    for header in range(256):
        if 0xA0 <= header < 0xC0:
            made[header] = kinds.get("strings", 0)
        elif header < 0x80:
            made[header] = kinds.get("integers", 0)
        elif 0x90 <= header < 0xA0:
            made[header] = kinds.get("arrays", 0)
    return bytes(made)


NONE = table()
MANY = dict.fromkeys(range(16), 0)
"""A map that is long enough that its keys are counted."""


@pytest.mark.parametrize(
    ("value", "keys", "items", "count"),
    [
        ({**MANY, "a": 1, "b": {**MANY, "c": 2}}, table(strings=5), NONE, 15),
        ({**MANY, "a": "x", "b": ["y"]}, table(strings=1), NONE, 2),
        ({**MANY, "a": "x", "id": {"few": {**MANY, "b": 1}}, "c": ["y"]}, table(strings=NAMED | 1), NONE, 3),
        ({"a": MANY, "b": [MANY]}, table(strings=1, integers=1), NONE, 32),
        ([1, 2, [3, 4, {5: 6}]], NONE, table(integers=1), 4),
        ([1, 2, [3, 4, MANY]], table(integers=1), table(integers=1), 20),
        (7, NONE, table(integers=1), 0),
        ([[], {}, {1: []}], NONE, table(arrays=1), 1),
        ({1: 2, (3,): 4}, table(arrays=REFUSED), NONE, FOUND),
        ([(3,)], table(arrays=REFUSED), NONE, 0),
    ],
)
def test_keys_and_items_are_counted(value: Any, keys: bytes, items: bytes, count: int) -> None:
    """`count_keys` counts the keys of maps by one table of headers, and the items of arrays by another."""
    assert count == count_keys(msgspec.msgpack.encode(value), Rules(keys, items, frozenset([b"\xa2id"]), b"", 100))


def test_counting_ends_over_the_most() -> None:
    """The count ends when it exceeds the limit, and the rest of the message is not read."""
    assert count_keys(b"\x93\x01\x02\x03", Rules(NONE, table(integers=1), frozenset(), b"", 1)) == 2


@pytest.mark.parametrize(
    "message", [b"", b"\x91", b"\xdb\xff", b"\xc7", b"\xdd\xff\xff\xff\xff\x01", b"\x01\x81\x01", b"\xc4"]
)
def test_a_message_that_is_cut_short_ends_the_count(message: bytes) -> None:
    """The count ends at the end of a truncated message, and at the end of the value if more bytes follow."""
    assert count_keys(message, Rules(table(integers=1), NONE, frozenset(), b"", 9)) == 0


@pytest.mark.parametrize(("rest", "count"), [(b"\x01", 0), (b"\xde\x00\x01\x01\x01", UNCOUNTED)])
def test_counting_ends_after_a_bounded_number_of_values(rest: bytes, count: int) -> None:
    """After `WORK` values the count ends, with `UNCOUNTED` if a long map can still follow."""
    message = b"\xdd" + (WORK + 10).to_bytes(4, "big") + b"\x01" * (WORK + 9) + rest
    assert count == count_keys(message, Rules(table(integers=1), NONE, frozenset(), b"\xde\xdf", 9))
