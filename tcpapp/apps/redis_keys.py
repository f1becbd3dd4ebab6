"""The commands of `redis` on keys: strings, counters, and when they expire."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from tcpapp.apps.cache import LARGEST, Cache, Item
from tcpapp.apps.commands import Commands, number
from tcpapp.framing.resp import ErrorReply, SimpleString

__all__ = ["OK", "Keys", "Refused", "commands"]

OK = SimpleString(b"OK")
SYNTAX = b"ERR syntax error"
NO_INTEGER = b"ERR value is not an integer or out of range"
TOO_LARGE = b"ERR a value or reply is over %d bytes" % LARGEST

LATEST = 2**53
"""The most milliseconds of an expiry: integers up to here are exact as floats."""

INTEGER = 2**63
"""What the amount of a counter is less than: it is a number of 64 bits with a sign."""

commands = Commands()


class Refused(Exception):
    """A command that cannot be run. Its text is the error of the reply."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.reply = ErrorReply(text)


class Keys:
    """The items of a `cache` at one time, `now`, and the commands on them."""

    def __init__(self, cache: Cache, now: float) -> None:
        self.cache = cache
        self.now = now

    def find(self, key: bytes) -> Item | None:
        """The item of this key."""
        return self.cache.get(key, self.now)

    def put(self, key: bytes, value: bytes, expires: float | None = None) -> None:
        """Keep a value."""
        if not self.cache.put(key, value, expires=expires):
            raise Refused(TOO_LARGE)

    # Strings

    @commands.add(b"GET", least=1)
    def get(self, key: bytes) -> bytes | None:
        """Reply with the value of a key."""
        item = self.find(key)
        return None if item is None else item.value

    @commands.add(b"SET", least=2, most=6)
    def set(self, key: bytes, value: bytes, *options: bytes) -> Any:
        """Keep a value, if it is new (``NX``) or not (``XX``); ``GET`` replies with the value before."""
        item, wanted = self.find(key), _Options(options, self.now)
        refused = (wanted.only_new and item is not None) or (wanted.only_old and item is None)
        if not refused:
            kept = item.expires if item is not None and wanted.keep_expiry else wanted.expires
            self.put(key, value, kept)
        if wanted.get:
            return None if item is None else item.value
        return None if refused else OK

    @commands.add(b"SETNX", least=2)
    def set_new(self, key: bytes, value: bytes) -> int:
        """Keep a value if the key is new."""
        return int(self.set(key, value, b"NX") is OK)

    @commands.add(b"SETEX", least=3)
    def set_for_seconds(self, key: bytes, seconds: bytes, value: bytes) -> Any:
        """Keep a value for some seconds."""
        return self.set(key, value, b"EX", seconds)

    @commands.add(b"PSETEX", least=3)
    def set_for_milliseconds(self, key: bytes, milliseconds: bytes, value: bytes) -> Any:
        """Keep a value for some milliseconds."""
        return self.set(key, value, b"PX", milliseconds)

    @commands.add(b"GETSET", least=2)
    def get_and_set(self, key: bytes, value: bytes) -> Any:
        """Keep a value, and reply with the value before."""
        return self.set(key, value, b"GET")

    @commands.add(b"GETDEL", least=1)
    def get_and_delete(self, key: bytes) -> bytes | None:
        """Remove a key, and reply with its value."""
        value = self.get(key)
        self.cache.delete(key, self.now)
        return value

    @commands.add(b"MGET", least=1, most=inf)
    def get_many(self, *keys: bytes) -> list[bytes | None]:
        """Reply with the values of keys."""
        values, size = [], 0
        for key in keys:
            value = self.get(key)
            size += len(value or b"")
            if size > LARGEST:
                raise Refused(TOO_LARGE)
            values.append(value)
        return values

    @commands.add(b"MSET", least=2, most=inf)
    def set_many(self, *words: bytes) -> SimpleString:
        """Keep values."""
        if len(words) % 2:
            raise Refused(b"ERR wrong number of arguments for 'mset' command")
        for key, value in zip(words[::2], words[1::2], strict=True):
            self.put(key, value)
        return OK

    @commands.add(b"APPEND", least=2)
    def append(self, key: bytes, value: bytes) -> int:
        """Add to the end of a value."""
        item = self.find(key)
        whole = value if item is None else item.value + value
        self.put(key, whole, None if item is None else item.expires)
        return len(whole)

    @commands.add(b"STRLEN", least=1)
    def length(self, key: bytes) -> int:
        """Reply with the length of a value."""
        return len(self.get(key) or b"")

    # Counters

    @commands.add(b"INCR", least=1)
    def increment(self, key: bytes) -> int:
        """Add 1 to a counter."""
        return self._count(key, 1)

    @commands.add(b"DECR", least=1)
    def decrement(self, key: bytes) -> int:
        """Subtract 1 from a counter."""
        return self._count(key, -1)

    @commands.add(b"INCRBY", least=2)
    def increment_by(self, key: bytes, amount: bytes) -> int:
        """Add to a counter."""
        return self._count(key, _integer(amount))

    @commands.add(b"DECRBY", least=2)
    def decrement_by(self, key: bytes, amount: bytes) -> int:
        """Subtract from a counter."""
        return self._count(key, -_integer(amount))

    def _count(self, key: bytes, amount: int) -> int:
        item = self.find(key)
        value = amount if item is None else _integer(item.value) + amount
        if not -INTEGER <= value < INTEGER:
            raise Refused(b"ERR increment or decrement would overflow")
        self.put(key, b"%d" % value, None if item is None else item.expires)
        return value

    # Keys

    @commands.add(b"DEL", b"UNLINK", least=1, most=inf)
    def delete(self, *keys: bytes) -> int:
        """Remove keys, and reply with how many of them were there."""
        return sum([self.cache.delete(key, self.now) for key in keys])

    @commands.add(b"EXISTS", b"TOUCH", least=1, most=inf)
    def exists(self, *keys: bytes) -> int:
        """Reply with how many of these keys are there."""
        return sum([self.find(key) is not None for key in keys])

    @commands.add(b"TYPE", least=1)
    def type(self, key: bytes) -> SimpleString:
        """Reply with the type of a key."""
        return SimpleString(b"none" if self.find(key) is None else b"string")

    @commands.add(b"EXPIRE", least=2)
    def expire(self, key: bytes, seconds: bytes) -> int:
        """Let a key expire after some seconds."""
        return int(self.cache.expire(key, self.now + _integer(seconds, LATEST // 1000), self.now))

    @commands.add(b"PEXPIRE", least=2)
    def expire_milliseconds(self, key: bytes, milliseconds: bytes) -> int:
        """Let a key expire after some milliseconds."""
        return int(self.cache.expire(key, self.now + _integer(milliseconds, LATEST) / 1000, self.now))

    @commands.add(b"PERSIST", least=1)
    def persist(self, key: bytes) -> int:
        """Let a key never expire."""
        item = self.find(key)
        return int(item is not None and item.expires is not None and self.cache.expire(key, None, self.now))

    @commands.add(b"TTL", least=1)
    def seconds_left(self, key: bytes) -> int:
        """Reply with the seconds until a key expires."""
        left = self.milliseconds_left(key)
        return left if left < 0 else (left + 500) // 1000

    @commands.add(b"PTTL", least=1)
    def milliseconds_left(self, key: bytes) -> int:
        """Reply with the milliseconds until a key expires: -1 if never, -2 if it is not there."""
        item = self.find(key)
        if item is None:
            return -2
        return -1 if item.expires is None else round(1000 * (item.expires - self.now))

    @commands.add(b"DBSIZE")
    def size(self) -> int:
        """Reply with the number of keys."""
        return len(self.cache)

    @commands.add(b"FLUSHDB", b"FLUSHALL", most=1)
    def flush(self, *how: bytes) -> SimpleString:
        """Remove all keys."""
        self.cache.clear()
        return OK


class _Options:
    """The options of ``SET``."""

    def __init__(self, words: Sequence[bytes], now: float) -> None:
        self.only_new = self.only_old = self.get = self.keep_expiry = False
        self.expires: float | None = None
        left = [*words]
        while left:
            self._take(left.pop(0).upper(), left, now)
        if self.only_new + self.only_old > 1 or (self.keep_expiry and self.expires is not None):
            raise Refused(SYNTAX)

    def _take(self, option: bytes, left: list[bytes], now: float) -> None:
        flag = {b"NX": "only_new", b"XX": "only_old", b"GET": "get", b"KEEPTTL": "keep_expiry"}.get(option)
        if flag is not None:
            setattr(self, flag, True)
        elif option in (b"EX", b"PX") and left and self.expires is None:
            time = _integer(left.pop(0), LATEST // 1000)
            if time <= 0:
                raise Refused(b"ERR invalid expire time in 'set' command")
            self.expires = now + (time if option == b"EX" else time / 1000)
        else:
            raise Refused(SYNTAX)


def _integer(word: bytes, below: int = INTEGER) -> int:
    value = number(word, -below, below - 1)
    if value is None:
        raise Refused(NO_INTEGER)
    return value
