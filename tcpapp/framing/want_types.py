"""
The kinds of wants: how the bytes that a parser asks for are found in what has come.

A want is small, and can be used again and again, since it keeps nothing. They have a module of their own because
they are compiled, with the reader that uses them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from types import GeneratorType
from typing import Any, Final, Protocol

from typing_extensions import override

from tcpapp.errors import MalformedFrame, MessageTooLong
from tcpapp.framing.base import quoted

__all__ = ["UNLIMITED", "Peek", "Place", "Until", "UntilAny", "Want", "no_want", "take_exactly"]

UNLIMITED: Final = 1 << 62
"""The `max` of an `until` without one: the ``max`` of the framing bounds it."""

ROUGH: Final = 4096
"""From this many bytes on, a piece of a `bytearray` is copied once and not twice: by a view, which costs to make."""


class Place(Protocol):
    """Where a want is looked for: `at` this place of the bytes that have come, from which the message `begin`s."""

    begin: int
    at: int
    searched: int
    """No delimiter begins before this place."""
    max: int
    """The most bytes of the message."""


class Want(ABC):
    """What a generator yields, and gets the bytes for."""

    __slots__ = ()

    @abstractmethod
    def take(self, buffer: bytes | bytearray, place: Place) -> Any:
        """
        The bytes that are wanted, and `place` behind them; `None` while they have not all come.

        Raises `UnreadableStream` as soon as it is known that they are too long.
        """


def no_want(yielded: object) -> str:
    """How an error names what was `yielded`, which is no want."""
    if isinstance(yielded, GeneratorType):
        return f"a generator, {yielded.__name__}() (write: yield from {yielded.__name__}())"
    return f"{yielded!r:.80}"


def take_exactly(size: int, buffer: bytes | bytearray, place: Place) -> bytes | None:
    """The next `size` bytes; `None` while they have not all come."""
    at = place.at
    end = at + size
    if size < 0:
        raise MalformedFrame(f"exactly({size}): takes a number of bytes, 0 or more")
    if end - place.begin > place.max:
        raise _too_long(end - place.begin, place.max, "is announced")
    if end > len(buffer):
        return None
    place.at = end
    return _piece(buffer, at, end)


class Until(Want):
    """All bytes before a delimiter; see `until`."""

    __slots__ = ("delimiter", "length", "mark", "max")

    def __init__(self, delimiter: bytes, most: int) -> None:
        self.delimiter = delimiter
        self.length = len(delimiter)
        self.mark = delimiter[-1:]
        self.max = most

    @override
    def take(self, buffer: bytes | bytearray, place: Place) -> bytes | None:
        at, length = place.at, self.length
        stop = _stop(place, self.max + length)
        end = buffer.find(self.delimiter, place.searched, stop)
        if end >= 0:
            place.at = end + length
            return _piece(buffer, at, end)
        _go_on(len(buffer), stop, self.max, length, place, quoted(self.delimiter))
        return None

    @override
    def __repr__(self) -> str:
        return f"until({self.delimiter!r}{_max(self.max)})"


class UntilAny(Want):
    """All bytes before one of some delimiters; see `until_any`."""

    __slots__ = ("_find", "delimiters", "longest", "max")

    def __init__(self, delimiters: tuple[bytes, ...], most: int) -> None:
        self.delimiters = delimiters
        self.longest = max(map(len, delimiters))
        self.max = most
        self._find = re.compile(b"|".join(map(re.escape, sorted(delimiters, key=len, reverse=True))), re.DOTALL).search

    @override
    def take(self, buffer: bytes | bytearray, place: Place) -> tuple[bytes, bytes] | None:
        at = place.at
        stop = _stop(place, self.max + self.longest)
        found = self._find(buffer, place.searched, stop)
        if found is not None and found.start() - at <= self.max:
            place.at = found.end()
            return _piece(buffer, at, found.start()), bytes(found[0])
        named = " or ".join([quoted(each) for each in self.delimiters[:4]])
        _go_on(len(buffer), stop, self.max, self.longest, place, named)
        return None

    @override
    def __repr__(self) -> str:
        return f"until_any({list(self.delimiters)!r}{_max(self.max)})"


class Peek(Want):
    """The next bytes, which stay; see `peek`."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    @override
    def take(self, buffer: bytes | bytearray, place: Place) -> bytes | None:
        at = place.at
        data = take_exactly(self.size, buffer, place)
        place.at = at
        return data

    @override
    def __repr__(self) -> str:
        return f"peek({self.size})"


def _stop(place: Place, most: int) -> int:
    """Where the search ends: behind a delimiter that is as far away as it can be."""
    return min(place.at + most, place.begin + place.max)


def _go_on(size: int, stop: int, most: int, longest: int, place: Place, named: str) -> None:
    """No delimiter has come in `size` bytes: note where it can begin, unless it comes too late in any case."""
    if size < stop:
        place.searched = max(place.at, size - longest + 1)
    elif stop == place.begin + place.max:
        raise _too_long(place.max + 1, place.max, "has come")
    else:
        text = f"more than {most} bytes have come without {named}; at most {most} (max of the want) are accepted"
        raise MessageTooLong(text, value=most + 1, limit=most)


def _too_long(size: int, most: int, seen: str) -> MessageTooLong:
    text = f"a message of {size} bytes {seen}; at most {most} (max) are accepted"
    return MessageTooLong(text, value=size, limit=most)


def _piece(buffer: bytes | bytearray, at: int, end: int) -> bytes:
    """The bytes between two places of `buffer`."""
    if type(buffer) is bytes:
        return buffer[at:end]
    return bytes(buffer[at:end]) if end - at < ROUGH else bytes(memoryview(buffer)[at:end])


def _max(most: int) -> str:
    return "" if most == UNLIMITED else f", max={most}"
