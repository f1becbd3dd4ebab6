"""
The wants of a parser: what the generator of a framing asks for next, as it writes them.

`exactly` is a plain number. The others are kept for use again, so that a message makes no want.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import permutations
from typing import Final

from tcpapp.errors import InvalidFraming
from tcpapp.framing.base import marker, whole
from tcpapp.framing.want_types import UNLIMITED, Peek, Until, UntilAny

__all__ = ["exactly", "peek", "until", "until_any"]

KEPT: Final = 256
"""How many different wants are kept for use again: a protocol has a few, and their arguments can come from a peer."""

_KEPT: dict[tuple[bytes, int], Until] = {}


def exactly(n: int) -> int:
    """
    Ask for the next `n` bytes.

    ::

        data = yield exactly(5)

    More bytes than ``max`` allows are `MessageTooLong` at once, before they come. A negative `n` is a `MalformedFrame`.
    """
    return n


def until(delimiter: bytes, max: int = UNLIMITED) -> Until:  # noqa: A002 - the public name
    """
    Ask for all bytes before the next `delimiter`.

    ::

        line = yield until(b"\\r\\n", max=2048)

    The generator gets them without the delimiter, and reads on behind it. More than `max` bytes before it are
    `MessageTooLong`, as soon as that is known; without `max`, the ``max`` of the framing is the limit.
    """
    try:
        return _KEPT[delimiter, max]
    except KeyError:  # it is not there yet; a lookup that finds it is a third faster than `lru_cache`
        if len(_KEPT) >= KEPT:
            _KEPT.clear()
        want = _KEPT[delimiter, max] = Until(marker("delimiter", delimiter), whole("max", max, 0))
        return want


def until_any(delimiters: Iterable[bytes], max: int = UNLIMITED) -> UntilAny:  # noqa: A002 - the public name
    """
    Ask for all bytes before the next of some `delimiters`.

    ::

        word, end = yield until_any([b" ", b"\\r\\n"])

    The generator gets the bytes without the delimiter, and the delimiter. The delimiter that is whole first counts, and
    of two that end together the longer one: with ``b"\\n"`` and ``b"\\r\\n"``, a line has no CR at its end. `max` is as
    in `until`.
    """
    return _until_any(tuple(delimiters), max)


@lru_cache(maxsize=KEPT)
def _until_any(delimiters: tuple[bytes, ...], most: int) -> UntilAny:
    if not delimiters:
        raise InvalidFraming("delimiters=(): takes one or more")
    for each in delimiters:
        marker("delimiters", each)
    for first, other in permutations(delimiters, 2):
        if first in other[:-1]:
            raise InvalidFraming(f"delimiters: {other!r} is never whole, because {first!r} ends before it")
    return UntilAny(delimiters, whole("max", most, 0))


def peek(n: int) -> Peek:
    """
    Ask to see the next `n` bytes. They stay, and the next want begins with them.

    ::

        first = yield peek(1)

    As for `exactly`, they must come, and fit into ``max``.
    """
    return _peek(n)


@lru_cache(maxsize=KEPT)
def _peek(size: int) -> Peek:
    return Peek(size)
