"""
The costs of a framing: bounded memory, and time that is linear in the bytes.

The measurements, and their limits:

- Memory: what Python's allocator hands out (`tracemalloc`) during a flood that is never a whole message. It sees
  everything that is kept, whatever `held` says; it does not see memory that a C extension allocates itself.
- Copies: the bytes allocated at the peak of each `receive`, added up, for one long message in many chunks. It finds a
  buffer that is joined again for every chunk. It counts copied bytes, the same in every run. It does not see bytes that
  are only scanned again.
- Scanning again: processor time, for four times the bytes against one time. Linear work takes four times as long, and
  quadratic work sixteen times. The line is drawn at eight, and the best of some attempts counts. Less than `WORTH`
  seconds in total are not judged.
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
"""Bytes of a flood, 256 KiB: so much more than `ROOM` that keeping them shows."""

NARROW = 1 << 10
"""The ``max`` in bytes for a flood; a framing that does not accept this ``max`` keeps its own."""

ROOM = 1 << 16
"""Bytes that may be kept beside ``max``: the state, an error, and the memory of the measurement."""

PIECE = 64
"""Bytes of a chunk: small, so that work repeated for every chunk shows."""

COPIED = 8
"""How often each byte may be copied: into the buffer, when that grows, and out of it."""

TIMES = 8.0
"""How much longer four times the bytes may take: between 4 (linear) and 16 (quadratic)."""

WORTH = 0.05
"""Seconds of processor time under which nothing is judged: they depend on chance."""

ATTEMPTS = 3
"""How often a time is measured before it counts as too long."""


@contextmanager
def tracing() -> Iterator[None]:
    """Trace allocations; a trace that already runs goes on."""
    already = tracemalloc.is_tracing()
    if not already:
        tracemalloc.start()
    try:
        yield
    finally:
        if not already:
            tracemalloc.stop()


def resized(framing: Framing, size: int) -> Framing:
    """`framing` with a ``max`` of `size`, closing; `framing` itself if it cannot have that."""
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
    """Raise `AssertionError` if bytes of a flood that is no message are kept beyond ``max``."""
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
                promise = "a framing holds at most max bytes and one chunk (as Python's allocator counts it)"
                raise broken(bounded, promise, max=bounded.max, flood=flood, flood_of=FLOOD, kept=kept)


def check_time(framing: Framing, messages: list[bytes] | None = None) -> None:
    """
    Raise `AssertionError` if the work for a byte grows with the bytes before it.

    If `messages` are given, no others are sent: then many of them are used instead of a long one.
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
        promise = "time is linear: each byte is copied at most a few times, however long the message is"
        raise broken(framing, promise, message_of=FLOOD, chunks=len(chunks), bytes_copied=copied)


def check_growth(framing: Framing, what: str, stream: Callable[[int], list[bytes]]) -> None:
    """Compare the times for the bytes and for four times the bytes."""
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
    """Seconds of this thread's processor time that reading `chunks` takes."""
    state = framing.fresh()
    started = time.thread_time()
    feed(state, chunks)
    return time.thread_time() - started
