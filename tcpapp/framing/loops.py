"""
The loops over single messages, or single replies, of the framings with a length before the message.

They are functions, apart from their framings, because they are compiled from a source of their own, ``loops.pyx``,
which does the same. Each handles as many frames as are whole and of the common form. It stops at the first other frame,
which the framing handles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

__all__ = [
    "Pack",
    "Unpack",
    "cut_counted",
    "cut_netstrings",
    "cut_varints",
    "find_in",
    "frame_counted",
    "frame_varints",
    "size_of",
    "total_length",
]

Unpack = Callable[[bytes, int], tuple[int]]
"""Reads a length from a chunk, at a place."""
Pack = Callable[[int], bytes]
"""Writes one."""

find_in = bytes.find
"""Where these bytes have those, at the first place between two places; -1 if nowhere."""

size_of = int
"""The number of bytes that a want asks for. The compiled function cuts a number that no stream has to 2**61."""


def total_length(messages: list[Any]) -> int:
    """The number of bytes that `messages` have together; -1 if one of them has no length."""
    try:
        return sum(map(len, messages))
    except TypeError:
        return -1


# A length of fixed width ---------------------------------------------------------------------------------------------

ALIKE: Final = 3
"""
A run is looked for after this many more messages of the same length at the beginning of a chunk: records and heartbeats
have one length.
"""

RUNS = (64, 16, 8, 4)
"""How many frames of a run are cut at once."""

LONGEST_IN_RUN: Final = 1024
"""The longest message, in bytes, for which a run pays: with longer ones, copying them takes most of the time."""


@lru_cache(maxsize=128)
def _run(width: int, length: int, frames: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """The struct that reads the messages of this many `frames`, of `length` bytes each, and skips their heads."""
    return struct.Struct(f"{width}x{length}s" * frames).unpack_from


@lru_cache(maxsize=128)
def _columns(head: bytes, frames: int) -> list[bytes]:
    """Each byte of the head repeated for `frames` frames: what their heads must be, read column by column."""
    return [bytes([byte]) * frames for byte in head]


def cut_counted(
    chunk: bytes, start: int, width: int, most: int, unpack: Unpack, pack: Pack, alike: int, messages: list[bytes]
) -> tuple[int, int]:
    """
    Cut frames with a length of `width` bytes and a message of up to `most` bytes, from `start` on, into `messages`.

    Returns where the first frame starts that is not whole, or too long, and the length of the messages in a run; -1
    without a run. `alike` is that length for the previous chunk.
    """
    last = len(chunk) - width
    size = len(chunk)
    before, seen = alike, 0
    if alike >= 0:  # the previous chunk was such a run
        begun = start
        start = _cut_run(chunk, start, width, alike, pack, messages)
        if start == begun:
            alike = -1
    while start <= last:
        (length,) = unpack(chunk, start)
        begin = start + width
        end = begin + length
        if length > most or end > size:
            break
        messages.append(chunk[begin:end])
        start = end
        if length == before:
            seen += 1
            if seen == ALIKE:
                seen = 0
                start = _cut_run(chunk, end, width, length, pack, messages)
                if start == end:
                    break
                alike = length
        elif before < 0:
            before = length
        else:
            break  # the lengths are mixed: the others of the chunk pay for no comparison
    return _cut_each(chunk, start, width, most, unpack, messages) if start <= last else start, alike


def _cut_each(chunk: bytes, start: int, width: int, most: int, unpack: Unpack, messages: list[bytes]) -> int:
    """Cut frames of any lengths, one by one; returns where they end."""
    last = len(chunk) - width
    size = len(chunk)
    while start <= last:
        (length,) = unpack(chunk, start)
        begin = start + width
        end = begin + length
        if length > most or end > size:
            break
        messages.append(chunk[begin:end])
        start = end
    return start


def _cut_run(chunk: bytes, start: int, width: int, length: int, pack: Pack, messages: list[bytes]) -> int:
    """Cut frames of one `length` from `start` on, several at once, while they are alike; returns where they end."""
    if length > LONGEST_IN_RUN:
        return start
    frame, head = width + length, pack(length)
    for frames in RUNS:
        step = frames * frame
        stop = len(chunk) - step
        if start > stop:
            continue
        unpack, columns = _run(width, length, frames), _columns(head, frames)
        while start <= stop:
            end = start + step
            if [chunk[at:end:frame] for at in range(start, start + width)] != columns:
                break
            messages += unpack(chunk, start)
            start = end
    return start


def frame_counted(messages: list[Any], most: int, pack: Pack) -> bytes | None:
    """Each of `messages` behind its length; `None` if one is not bytes, or longer than `most`."""
    first = -1
    for message in messages:
        if type(message) is not bytes:
            return None
        length = len(message)
        if length != first:
            if first >= 0:
                return _frame_unlike(messages, most, pack)
            if length > most:
                return None
            first = length
    return pack(first).join([b"", *messages]) if messages else b""


def _frame_unlike(messages: list[Any], most: int, pack: Pack) -> bytes | None:
    """`frame_counted` for messages of different lengths."""
    pieces: list[bytes] = []
    for message in messages:
        if type(message) is not bytes or len(message) > most:
            return None
        pieces.append(pack(len(message)))
        pieces.append(message)
    return b"".join(pieces)


# A varint ------------------------------------------------------------------------------------------------------------

_SHORT = [bytes([length]) for length in range(0x80)]
"""The encoded lengths of one byte."""


def cut_varints(chunk: bytes, start: int, most: int, messages: list[bytes]) -> int:
    """
    Cut messages behind a varint of one or two bytes (up to 16 KiB: nearly all) from `start` on.

    Returns where the first frame starts that has a longer one, or that is not whole, malformed, or over `most`.
    """
    size = len(chunk)
    while start < size:
        length, begin = chunk[start], start + 1
        if length > 0x7F:
            if begin >= size or not 0 < chunk[begin] <= 0x7F:
                break
            length += (chunk[begin] << 7) - 0x80
            begin += 1
        end = begin + length
        if length > most or end > size:
            break
        messages.append(chunk[begin:end])
        start = end
    return start


def frame_varints(messages: list[Any], most: int, pack: Pack) -> bytes | None:
    """Each of `messages` behind its length, as a varint; `None` if one is not bytes, or longer than `most`."""
    pieces: list[bytes] = []
    for message in messages:
        if type(message) is not bytes:
            return None
        length = len(message)
        if length > most:
            return None
        pieces.append(_SHORT[length] if length <= 0x7F else pack(length))
        pieces.append(message)
    return b"".join(pieces)


# A decimal number ----------------------------------------------------------------------------------------------------

_LENGTHS = {b"%d" % length: length for length in range(1000)}
"""The shorter lengths of netstrings, encoded."""


def cut_netstrings(chunk: bytes, start: int, most: int, messages: list[bytes]) -> int:
    """
    Cut netstrings of less than 1,000 bytes from `start` on.

    Returns where the first one starts that is longer, not whole, malformed, or over `most`.
    """
    size, find, length_of = len(chunk), chunk.find, _LENGTHS.get
    while start < size:
        colon = find(b":", start, start + 4)
        if colon < 0:
            break
        length = length_of(chunk[start:colon])
        if length is None or length > most:
            break
        comma = colon + 1 + length
        if comma >= size or chunk[comma] != 0x2C:
            break
        messages.append(chunk[colon + 1 : comma])
        start = comma + 1
    return start
