"""
Checks of the costs of a framing: bounded memory, and time that is linear in the bytes.

The measurements, and their limits:

- Memory: the bytes that Python's allocator gives out (`tracemalloc`) during a flood that is never a whole message. It
  counts everything that is kept, whatever `held` says. It does not count memory that a C extension allocates itself.
- Copies: the sum of the bytes allocated at the peak of each `receive`, for one long message in many chunks. It finds a
  buffer that is joined again for every chunk. The number is the same in every run. It does not include bytes that are
  only scanned again.
- Scanning again: the processor time for four times the bytes, compared with the time for the bytes. Linear work takes
  four times as long, and quadratic work sixteen times. The limit is eight times, and the best of some attempts counts.
  Less than `WORTH` seconds in total are not judged.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tcpapp.errors import InvalidFraming, UnreadableStream
from tcpapp.framing import Framing, Parser
from tcpapp.testing.oracles.streams import broken, in_pieces, like
from tcpapp.testing.strategies import sendable

__all__ = ["check_memory", "check_time"]

FLOOD = 1 << 18
"""The bytes of a flood: 256 KiB, so many more than `ROOM` that keeping them is noticed."""

NARROW = 1 << 10
"""The ``max`` in bytes during a flood. A framing that does not accept this ``max`` keeps its own."""

ROOM = 1 << 16
"""The most bytes that can be kept in addition to ``max``: the state, an error, and the memory of the measurement."""

PIECE = 64
"""The bytes of a chunk: few, so that work that is repeated for every chunk is noticed."""

COPIED = 8
"""The most copies of each byte: into the buffer, when the buffer grows, and out of it."""

TIMES = 8.0
"""The limit for the time of four times the bytes, compared with the bytes: between 4 (linear) and 16 (quadratic)."""

WORTH = 0.05
"""Seconds of processor time. Shorter times are not judged, because they depend on chance."""

ATTEMPTS = 3
"""The number of measurements before a time counts as too long."""


@contextmanager
def tracing() -> Iterator[None]:
    """Trace allocations. A trace that already runs continues after the block."""
    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start()
    try:
        yield
    finally:
        if not already:
            tracemalloc.stop()


def resized(framing: Framing, size: int) -> Framing:
    """Return `framing` with a ``max`` of `size` and ``oversize="close"``; `framing` itself if it cannot have them."""
    try:
        return like(framing, max=size, oversize="close")
    except InvalidFraming:
        return framing


def feed(state: Framing, chunks: list[bytes]) -> None:
    """Give `chunks` to the framing until the stream fails, or ends."""
    try:
        for chunk in chunks:
            state.receive(chunk)
    except UnreadableStream:
        pass


def check_memory(framing: Framing) -> None:
    """Raise `AssertionError` if more than ``max`` bytes of a flood that is no message are kept."""
    narrow, wide = resized(framing, NARROW), resized(framing, FLOOD)
    body = b"y" * FLOOD
    floods = [wide.frame(body)] if sendable(wide, body) else []
    for oversize in ("close",) if isinstance(framing, Parser) else ("close", "skip"):
        bounded = like(narrow, oversize=oversize)
        for flood in (*floods, body, b"\0" * FLOOD, b"9" * FLOOD, b"\xff" * FLOOD):
            chunks = in_pieces(flood, PIECE)
            with tracing():
                state = bounded.fresh()
                before, _ = tracemalloc.get_traced_memory()
                feed(state, chunks)
                kept = tracemalloc.get_traced_memory()[0] - before
            if kept > bounded.max + ROOM:
                promise = "a framing holds at most max bytes and one chunk (as Python's allocator counts it)"
                raise broken(bounded, promise, max=bounded.max, flood=flood, flood_of=FLOOD, kept=kept)


def check_time(framing: Framing, messages: list[Any] | None = None) -> None:
    """
    Raise `AssertionError` if the work for a byte grows with the number of bytes before it.

    If `messages` are given, no others are sent. Then many messages are used instead of a long one.
    """
    wide = resized(framing, 4 * FLOOD)
    if messages is None and sendable(wide, b"y" * 4 * FLOOD):
        check_copies(wide)

        def long_message(times: int) -> list[bytes]:
            return in_pieces(wide.frame(b"y" * (FLOOD * times)), PIECE)

        check_growth(wide, "one long message in many chunks", long_message)
    some = [b"yyyyyyyy", b"y", b"y" * getattr(wide, "size", 0)] if messages is None else messages
    one = next((each for each in some if sendable(wide, each)), None)
    if one is not None:
        frame = wide.frame(one)

        def many_messages(times: int) -> list[bytes]:
            return [frame * (FLOOD * times // len(frame))]

        check_growth(wide, "many messages in one chunk", many_messages)
        if isinstance(framing, Parser):
            check_growth(wide, "many messages in many chunks", lambda times: in_pieces(many_messages(times)[0], PIECE))


def check_copies(framing: Framing) -> None:
    """Raise `AssertionError` if too many bytes are copied while one long message comes."""
    chunks = in_pieces(framing.frame(b"y" * FLOOD), FLOOD // 256)
    state = framing.fresh()
    copied = 0
    with tracing():
        for chunk in chunks:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            state.receive(chunk)
            copied += tracemalloc.get_traced_memory()[1] - before
    if copied > COPIED * FLOOD + ROOM:
        promise = "time is linear: each byte is copied at most a few times, however long the message is"
        raise broken(framing, promise, message_of=FLOOD, chunks=len(chunks), bytes_copied=copied)


def check_growth(framing: Framing, what: str, stream: Callable[[int], list[bytes]]) -> None:
    """Raise `AssertionError` if four times the bytes take much more than four times as long."""
    short, long = stream(1), stream(4)
    best_short = best_long = float("inf")
    for _ in range(ATTEMPTS):
        best_short = min(best_short, spent(framing, short))
        best_long = min(best_long, spent(framing, long))
        if best_long < WORTH or best_long <= TIMES * best_short:
            return
    promise = f"time is linear: for {what}, four times the bytes take about four times as long"
    raise broken(framing, promise, times=round(best_long / best_short, 1), limit=TIMES)


def spent(framing: Framing, chunks: list[bytes]) -> float:
    """Return the seconds of this thread's processor time that reading `chunks` takes."""
    state = framing.fresh()
    started = time.thread_time()
    feed(state, chunks)
    return time.thread_time() - started
