"""
What a framing costs: memory that is bounded, and time that is linear in the bytes.

How it is measured, and what that cannot see:

- Memory: what Python's allocator hands out (`tracemalloc`) while a flood comes in that is never a whole message. It
  sees all that is kept, whatever `held` says; memory that a C extension takes for itself it does not see.
- Copies: the bytes allocated at the peak of each `receive`, added up, for one long message in many chunks. A buffer
  that is joined anew for every chunk shows; so this counts bytes that are copied, the same in every run. Bytes that are
  only looked at again do not show.
- Looking again: processor time, of four times the bytes against one time. Linear work takes four times as long,
  quadratic work sixteen times; the line is drawn at eight, the best of some attempts counts, and what takes less than
  `WORTH` seconds in all is not judged.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tcpapp.errors import InvalidFraming, UnreadableStream
from tcpapp.framing import Framing
from tcpapp.testing.oracles.streams import broken, in_pieces, like
from tcpapp.testing.strategies import sendable

__all__ = ["check_memory", "check_time"]

FLOOD = 1 << 18
"""Bytes of a flood, 256 KiB: so much more than `ROOM` that keeping it shows."""

NARROW = 1 << 10
"""The ``max`` in bytes that a flood is tried with; a framing that takes no such ``max`` keeps its own."""

ROOM = 1 << 16
"""Bytes that may be kept beside ``max``: the state, an error, and what the measuring takes."""

PIECE = 64
"""Bytes of a chunk: small, so that work done anew for every chunk shows."""

COPIED = 8
"""How often each byte may be copied on its way: into the buffer, as that grows, and out of it."""

TIMES = 8.0
"""How much longer four times the bytes may take: between 4 (linear) and 16 (quadratic)."""

WORTH = 0.05
"""Seconds of processor time under which nothing is judged: there, chance decides."""

ATTEMPTS = 3
"""How often a time is measured before it is believed to be too long."""


@contextmanager
def tracing() -> Iterator[None]:
    """Trace allocations; whoever traces already goes on with it."""
    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start()
    try:
        yield
    finally:
        if not already:
            tracemalloc.stop()


def resized(framing: Framing, size: int) -> Framing:
    """`framing` with a ``max`` of `size`, closing; itself where it cannot have that."""
    try:
        return like(framing, max=size, oversize="close")
    except InvalidFraming:
        return framing


def feed(state: Framing, chunks: list[bytes]) -> None:
    """Let `chunks` arrive until the stream fails, or is over."""
    try:
        for chunk in chunks:
            state.receive(chunk)
    except UnreadableStream:
        pass


def check_memory(framing: Framing) -> None:
    """Raise `AssertionError` where a flood that is no message is kept beyond ``max``."""
    narrow, wide = resized(framing, NARROW), resized(framing, FLOOD)
    body = b"y" * FLOOD
    floods = [wide.frame(body)] if sendable(wide, body) else []
    for oversize in ("close", "skip"):
        bounded = like(narrow, oversize=oversize)
        for flood in (*floods, body, b"\0" * FLOOD, b"9" * FLOOD, b"\xff" * FLOOD):
            chunks = in_pieces(flood, PIECE)
            with tracing():
                state = bounded.fresh()
                before, _ = tracemalloc.get_traced_memory()
                feed(state, chunks)
                kept = tracemalloc.get_traced_memory()[0] - before
            if kept > bounded.max + ROOM:
                promise = "no more is held than max and one chunk (as Python's allocator counts it)"
                raise broken(bounded, promise, max=bounded.max, flood=flood, flood_of=FLOOD, kept=kept)


def check_time(framing: Framing, messages: list[bytes] | None = None) -> None:
    """
    Raise `AssertionError` where the work for a byte grows with the bytes before it.

    Where `messages` are given, no others are sent: then it is tried with many of them, and not with a long one.
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


def check_copies(framing: Framing) -> None:
    """Count the bytes that are copied while one long message comes."""
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
        promise = "time is linear: a byte is copied a few times, however long the message is"
        raise broken(framing, promise, message_of=FLOOD, chunks=len(chunks), bytes_copied=copied)


def check_growth(framing: Framing, what: str, stream: Callable[[int], list[bytes]]) -> None:
    """Compare the time that four times the bytes take."""
    short, long = stream(1), stream(4)
    best_short = best_long = float("inf")
    for _ in range(ATTEMPTS):
        best_short = min(best_short, spent(framing, short))
        best_long = min(best_long, spent(framing, long))
        if best_long < WORTH or best_long <= TIMES * best_short:
            return
    promise = f"time is linear: {what}, four times the bytes in about four times the time"
    raise broken(framing, promise, times=round(best_long / best_short, 1), limit=TIMES)


def spent(framing: Framing, chunks: list[bytes]) -> float:
    """Seconds of this thread's processor time that reading `chunks` takes."""
    state = framing.fresh()
    started = time.thread_time()
    feed(state, chunks)
    return time.thread_time() - started
