"""
A memcached server: ``twistd tcpapp --app memcached --listen tcp:11211``.

It has the classic commands of the text protocol, for any client of memcached. The items are in the memory of this
process, at most 64 MiB of them: for a new item, the one goes that was not used for the longest time.

It shows the second form of app: an object, which serves all connections with the same items.
"""

from __future__ import annotations

import time
from math import inf
from typing import Any, NamedTuple

from tcpapp.apps.cache import Cache
from tcpapp.apps.commands import Commands, number
from tcpapp.connection.connection import Connection
from tcpapp.connection.protocol import protocol_of
from tcpapp.framing.memcached import MemcachedMessage

__all__ = ["Memcached", "memcached"]

MONTH = 60 * 60 * 24 * 30
"""The longest expiry in seconds from now; a larger number is a time of the UNIX clock (protocol.txt)."""

AT_ONCE = 64 * 1024
"""The most bytes of values in one message. The items of a larger reply are sent one by one, as a client takes them."""

SECONDS = 2**40
"""What an expiry is less than, so that it can be added to a time."""

BAD_FORMAT = b"CLIENT_ERROR bad command line format"
TOO_LARGE = b"SERVER_ERROR object too large for cache"
NOT_FOUND = b"NOT_FOUND"

commands = Commands()


class Request(NamedTuple):
    """A command: the words behind its name, its data, when it came (seconds of the clock), and its connection."""

    name: bytes
    words: tuple[bytes, ...]
    data: bytes
    now: float
    connection: Connection


class Memcached:
    """All items, and the commands on them. For another number of bytes: ``Memcached(Cache(2**30))``."""

    def __init__(self, cache: Cache | None = None) -> None:
        self.cache = Cache() if cache is None else cache
        self.hits = self.misses = 0
        self._flush_at = inf

    def received(self, message: MemcachedMessage, connection: Connection) -> Any:
        """Reply to a request, unless it ends with ``noreply``."""
        if type(message) is not MemcachedMessage:
            raise TypeError("the app memcached takes the messages of the framing memcached: --framing memcached")
        now = protocol_of(connection).clock.seconds()
        if self._flush_at <= now:
            self.cache.clear()
            self._flush_at = inf
        name, *words = message.words
        quiet = words[-1:] == [b"noreply"]
        if quiet:
            words.pop()
        command = commands.find(name)
        if command is None:
            return b"ERROR"
        if not command.least <= len(words) <= command.most:
            return BAD_FORMAT
        reply = command.run(self, Request(name, tuple(words), message.data or b"", now, connection))
        return None if quiet else reply

    # Retrieval

    @commands.add(b"get", b"gets", least=1, most=inf)
    def get(self, request: Request) -> Any:
        """Reply with the items that are there."""
        return self._items(request, request.words, unique=request.name == b"gets")

    @commands.add(b"gat", b"gats", least=2, most=inf)
    def get_and_touch(self, request: Request) -> Any:
        """Reply with the items that are there, and let them expire at another time."""
        expiry, *keys = request.words
        if (seconds := number(expiry, -SECONDS, SECONDS)) is None:
            return BAD_FORMAT
        reply = self._items(request, tuple(keys), unique=request.name == b"gats")
        for key in keys:
            self.cache.expire(key, _expires(seconds, request.now), request.now)
        return reply

    def _items(self, request: Request, keys: tuple[bytes, ...], *, unique: bool) -> Any:
        items, size = [], 0
        for key in keys:
            item = self.cache.get(key, request.now)
            if item is None:
                self.misses += 1
                continue
            self.hits += 1
            words = (b"VALUE", key, item.flags, b"%d" % item.unique) if unique else (b"VALUE", key, item.flags)
            items.append(MemcachedMessage(words, item.value))
            size += len(item.value)
        if size <= AT_ONCE:
            return MemcachedMessage((b"END",), None, tuple(items))
        return (line for line in (*items, b"END"))

    # Storage

    @commands.add(b"set", b"add", b"replace", least=3)
    def store(self, request: Request) -> bytes:
        """Keep an item: in any case, only a new one, or only in place of another."""
        key, flags, expiry = request.words
        there = request.name != b"set" and self.cache.get(key, request.now) is not None
        if there is (request.name == b"add") and request.name != b"set":
            return b"NOT_STORED"
        return self._put(request, key, request.data, flags, expiry)

    @commands.add(b"cas", least=4)
    def compare_and_store(self, request: Request) -> bytes:
        """Keep an item if it has not changed since the client got it."""
        key, flags, expiry, unique = request.words
        item = self.cache.get(key, request.now)
        if item is None:
            return NOT_FOUND
        if number(unique, 0, 2**64 - 1) != item.unique:
            return b"EXISTS"
        return self._put(request, key, request.data, flags, expiry)

    @commands.add(b"append", b"prepend", least=3)
    def extend(self, request: Request) -> bytes:
        """Add data to an item, whose flags and expiry stay."""
        item = self.cache.get(request.words[0], request.now)
        if item is None:
            return b"NOT_STORED"
        value = item.value + request.data if request.name == b"append" else request.data + item.value
        kept = self.cache.put(request.words[0], value, expires=item.expires, flags=item.flags)
        return b"STORED" if kept else TOO_LARGE

    def _put(self, request: Request, key: bytes, value: bytes, flags: bytes, expiry: bytes) -> bytes:
        seconds = number(expiry, -SECONDS, SECONDS)
        if seconds is None or number(flags, 0, 2**32 - 1) is None:
            return BAD_FORMAT
        kept = self.cache.put(key, value, expires=_expires(seconds, request.now), flags=flags)
        return b"STORED" if kept else TOO_LARGE

    # Other commands on an item

    @commands.add(b"incr", b"decr", least=2)
    def count(self, request: Request) -> bytes:
        """Add to a counter, or subtract from it."""
        key, word = request.words
        amount, item = number(word, 0, 2**64 - 1), self.cache.get(key, request.now)
        if amount is None:
            return b"CLIENT_ERROR invalid numeric delta argument"
        if item is None:
            return NOT_FOUND
        before = number(item.value, 0, 2**64 - 1)
        if before is None:
            return b"CLIENT_ERROR cannot increment or decrement non-numeric value"
        value = b"%d" % ((before + amount) % 2**64 if request.name == b"incr" else max(0, before - amount))
        self.cache.put(key, value, expires=item.expires, flags=item.flags)
        return value

    @commands.add(b"touch", least=2)
    def touch(self, request: Request) -> bytes:
        """Let an item expire at another time."""
        seconds = number(request.words[1], -SECONDS, SECONDS)
        if seconds is None:
            return BAD_FORMAT
        there = self.cache.expire(request.words[0], _expires(seconds, request.now), request.now)
        return b"TOUCHED" if there else NOT_FOUND

    @commands.add(b"delete", least=1, most=2)
    def delete(self, request: Request) -> bytes:
        """Remove an item."""
        if request.words[1:] not in ((), (b"0",)):
            return BAD_FORMAT
        return b"DELETED" if self.cache.delete(request.words[0], request.now) else NOT_FOUND

    # Commands on the server

    @commands.add(b"flush_all", most=1)
    def flush(self, request: Request) -> bytes:
        """Remove all items, now or after some seconds."""
        seconds = number(request.words[0], 0, MONTH) if request.words else 0
        if seconds is None:
            return BAD_FORMAT
        if seconds:
            self._flush_at = request.now + seconds
        else:
            self.cache.clear()
        return b"OK"

    @commands.add(b"stats", most=1)
    def stats(self, request: Request) -> MemcachedMessage:
        """Reply with the numbers of this cache."""
        numbers = {
            b"version": b"tcpapp",
            b"curr_items": b"%d" % len(self.cache),
            b"bytes": b"%d" % self.cache.bytes,
            b"limit_maxbytes": b"%d" % self.cache.max_bytes,
            b"get_hits": b"%d" % self.hits,
            b"get_misses": b"%d" % self.misses,
        }
        lines = [MemcachedMessage((b"STAT", *each)) for each in (() if request.words else numbers.items())]
        return MemcachedMessage((b"END",), None, tuple(lines))

    @commands.add(b"version", b"verbosity", b"mn", most=1)
    def say(self, request: Request) -> bytes:
        """Reply to a command without an effect."""
        return {b"version": b"VERSION tcpapp", b"verbosity": b"OK", b"mn": b"MN"}[request.name]

    @commands.add(b"quit")
    def quit(self, request: Request) -> None:
        """Close the connection."""
        request.connection.close()


def _expires(seconds: int, now: float) -> float | None:
    """When an item expires, from the number that a client sent."""
    if seconds == 0:
        return None
    if seconds > MONTH:
        return now + seconds - time.time()
    return now + max(0, seconds)


memcached = Memcached()
