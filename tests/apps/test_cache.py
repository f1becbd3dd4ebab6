"""The items of a cache: how many bytes they have, when they expire, and which one goes for a new one."""

from __future__ import annotations

import pytest

from tcpapp.apps.cache import ITEM_COST, LARGEST, MAX_BYTES, Cache


def test_an_item_is_kept_until_it_is_deleted() -> None:
    """A value is there with its flags, and a number that each change makes another one."""
    cache = Cache()
    assert cache.put(b"a", b"1", flags=b"7")
    first = cache.get(b"a", 0)
    assert first is not None
    assert (first.value, first.expires, first.flags) == (b"1", None, b"7")
    cache.put(b"a", b"1")
    second = cache.get(b"a", 0)
    assert second is not None
    assert second.unique > first.unique
    assert cache.delete(b"a", 0)
    assert cache.get(b"a", 0) is None
    assert not cache.delete(b"a", 0)
    assert (len(cache), cache.bytes) == (0, 0)


def test_an_item_is_gone_when_it_expires() -> None:
    """From its time on an item is not there, and does not count."""
    cache = Cache()
    cache.put(b"a", b"1", expires=10.0)
    assert cache.get(b"a", 9.9) is not None
    assert cache.get(b"a", 10.0) is None
    assert (len(cache), cache.bytes) == (0, 0)
    cache.put(b"a", b"1", expires=10.0)
    assert not cache.delete(b"a", 10.0)


def test_the_time_of_an_item_can_change() -> None:
    """An item can expire at another time, or never, and is not changed by that."""
    cache = Cache()
    cache.put(b"a", b"1", expires=10.0)
    before = cache.get(b"a", 0)
    assert before is not None
    assert cache.expire(b"a", 20.0, 5)
    assert cache.get(b"a", 15) == before._replace(expires=20.0)
    assert cache.expire(b"a", None, 15)
    assert cache.get(b"a", 1e9) is not None
    assert not cache.expire(b"b", 20.0, 5)


def test_the_bytes_of_all_items_are_bounded() -> None:
    """The items that were not used for the longest time go for a new one, and the count of bytes is exact."""
    cost = 1 + 9 + ITEM_COST
    cache = Cache(3 * cost)
    for key in (b"a", b"b", b"c"):
        cache.put(key, b"x" * 9)
    assert cache.bytes == 3 * cost
    cache.get(b"a", 0)
    cache.put(b"d", b"x" * 9)
    assert [key for key in (b"a", b"b", b"c", b"d") if cache.get(key, 0)] == [b"a", b"c", b"d"]
    assert cache.bytes == 3 * cost
    cache.put(b"e", b"x" * (9 + 2 * cost))
    assert (len(cache), cache.bytes) == (1, 3 * cost)
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_changed_item_counts_once() -> None:
    """A value in place of another counts in place of it."""
    cache = Cache()
    cache.put(b"a", b"x" * 100)
    cache.put(b"a", b"x")
    assert cache.bytes == 2 + ITEM_COST


@pytest.mark.parametrize(("max_bytes", "size"), [(MAX_BYTES, LARGEST + 1), (1000, 1000 - ITEM_COST)])
def test_a_value_that_is_too_large_is_not_kept(max_bytes: int, size: int) -> None:
    """A value over `LARGEST` or over all the bytes is refused, and the item before stays."""
    cache = Cache(max_bytes)
    assert cache.put(b"a", b"1")
    assert not cache.put(b"a", b"x" * size)
    assert cache.put(b"b", b"x" * (size - 1))
    assert max_bytes < MAX_BYTES or cache.get(b"a", 0) is not None
