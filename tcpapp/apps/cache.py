"""What `memcached` and `redis` keep their items in: a bounded number of bytes, for a bounded time."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import NamedTuple

__all__ = ["LARGEST", "MAX_BYTES", "Cache", "Item"]

MAX_BYTES = 64 * 1024 * 1024
"""The most bytes of all items: the default of memcached (``-m 64``)."""

ITEM_COST = 300
"""Bytes that count for an item in addition to its key and value: its objects, and its place in the table."""

LARGEST = 1024 * 1024 - 1024
"""The most bytes of a value: a reply with it still fits into the framing's ``max``, by default 1 MiB."""


class Item(NamedTuple):
    """
    A value, and its `flags`. It `expires` at a time of the clock, in seconds, or never (`None`).

    `unique` is a number that no other value has had.
    """

    value: bytes
    expires: float | None
    flags: bytes
    unique: int


class Cache:
    """
    Items by their keys, at most `max_bytes` of them. For a new item, the items go that were not used for the
    longest time.

    Every call takes the time, `now`: an item is gone from the time on when it expires.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._items: OrderedDict[bytes, Item] = OrderedDict()
        self._unique = count(1)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: bytes, now: float) -> Item | None:
        """The item, which is now the last used one."""
        item = self._items.get(key)
        if item is None:
            return None
        if item.expires is not None and item.expires <= now:
            self._remove(key)
            return None
        self._items.move_to_end(key)
        return item

    def put(self, key: bytes, value: bytes, *, expires: float | None = None, flags: bytes = b"0") -> bool:
        """Keep `value` in place of the item that is there. Returns `False` for a value that is too large to be kept."""
        cost = self._cost(key, value)
        if len(value) > LARGEST or cost > self.max_bytes:
            return False
        self._remove(key)
        self._items[key] = Item(value, expires, flags, next(self._unique))
        self.bytes += cost
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._items)))
        return True

    def expire(self, key: bytes, expires: float | None, now: float) -> bool:
        """Let the item expire at another time. Returns whether it is there."""
        item = self.get(key, now)
        if item is not None:
            self._items[key] = item._replace(expires=expires)
        return item is not None

    def delete(self, key: bytes, now: float) -> bool:
        """Remove the item. Returns whether it was there."""
        found = self.get(key, now) is not None
        self._remove(key)
        return found

    def clear(self) -> None:
        """Remove all items."""
        self._items.clear()
        self.bytes = 0

    def _remove(self, key: bytes) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self.bytes -= self._cost(key, item.value)

    @staticmethod
    def _cost(key: bytes, value: bytes) -> int:
        return len(key) + len(value) + ITEM_COST
