"""
Hypothesis strategies for tests of streams: messages, streams, cuts, and schedules of network events.

Every strategy shrinks towards fewer and shorter messages, fewer cuts, fewer events. This module and
`tcpapp.testing.oracles` need Hypothesis (``pip install 'tcpapp[testing]'``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Fixed, Framing, LengthPrefixed

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(f"{__name__} needs Hypothesis: pip install 'tcpapp[testing]'") from error

__all__ = [
    "Abort",
    "Advance",
    "Deliver",
    "Event",
    "HalfClose",
    "Leave",
    "Read",
    "Reset",
    "Stall",
    "cuts",
    "messages",
    "schedules",
    "sendable",
    "streams",
]

MARKS = b"\r\n\x03ab0123456789:,\x00\x01\x02\x05\x09\x0b\x1c\x80\xc0\xdb\xdc\xdd\xff\xfe"
"""Bytes that have a meaning in some framing. Random bytes alone would rarely contain them."""

LONGEST = 30
"""The most bytes of a drawn message by default: enough for cuts within header, body and end."""

# Network events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deliver:
    """Bytes of the peer arrive as one chunk."""

    data: bytes


@dataclass(frozen=True)
class HalfClose:
    """The peer closes its writing side (FIN), and continues to read."""


@dataclass(frozen=True)
class Leave:
    """The peer closes both sides."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset: bytes under way are lost."""


@dataclass(frozen=True)
class Stall:
    """The peer accepts no more bytes until `Read`."""


@dataclass(frozen=True)
class Read:
    """The peer accepts bytes again."""


@dataclass(frozen=True)
class Advance:
    """Time passes: this many `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Abort:
    """Our own side cuts the connection."""


Event = Deliver | HalfClose | Leave | Reset | Abort | Stall | Read | Advance

# Strategies ----------------------------------------------------------------------------------------------------------


def sendable(framing: Framing, message: Any) -> bool:
    """Return whether `framing` can send `message`."""
    try:
        framing.frame(message)
    except UnsendableMessage:
        return False
    return True


def messages(framing: Framing, longest: int = LONGEST) -> st.SearchStrategy[bytes]:
    """
    Return a strategy of messages that `framing` can send. If their length varies, they have at most `longest` bytes.
    """
    least, most = 0, min(longest, framing.max)
    if isinstance(framing, Fixed):
        least = most = framing.size
    elif isinstance(framing, LengthPrefixed):
        least = max(0, framing.offset + framing.width - framing.strip)
        most = max(least, most)
    marked = st.lists(st.sampled_from(MARKS), min_size=least, max_size=most).map(bytes)
    drawn = (
        st.binary(min_size=least, max_size=most) | marked
        if most <= LONGEST
        else st.binary(min_size=least, max_size=most)
    )
    return drawn.filter(lambda message: sendable(framing, message))


@st.composite
def streams(draw: st.DrawFn, framing: Framing, one: st.SearchStrategy[Any] | None = None) -> bytes:
    """
    Draw any bytes of a peer: whole frames, beginnings of frames, and bytes that are no frame.

    `one` is the strategy for the messages of whole frames; `None` is `messages` of this framing.
    """
    whole = (messages(framing) if one is None else one).map(framing.frame)
    begun = st.builds(lambda frame, size: frame[:size], whole, st.integers(0, LONGEST))
    noise = st.lists(st.sampled_from(MARKS), max_size=LONGEST).map(bytes) | st.binary(max_size=LONGEST)
    return b"".join(draw(st.lists(whole | begun | noise, max_size=8)))


@st.composite
def cuts(draw: st.DrawFn, stream: bytes, most: int = 8) -> list[bytes]:
    """
    Draw chunks of `stream`, which is cut at no more than `most` places. Joined, the chunks are the stream; some can be
    empty.
    """
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=most)))
    return [stream[first:last] for first, last in pairwise([0, *places, len(stream)])]


@st.composite
def schedules(
    draw: st.DrawFn,
    stream: bytes | st.SearchStrategy[bytes],
    *,
    seconds: float = 3600.0,
    others: Collection[Event] = (Stall(), Read()),
) -> list[Event]:
    """
    Draw the network events of a whole connection: `stream` arrives in chunks, and the connection ends at any moment.

    Between the chunks, time passes (at most `seconds` at once) and `others` happen. The schedule ends with `Leave`,
    `Reset` or `Abort`, with or without a `HalfClose` before that, possibly before all bytes are delivered.
    """
    data: Any = draw(stream) if isinstance(stream, st.SearchStrategy) else stream
    waits = st.builds(Advance, st.floats(0, seconds) | st.sampled_from([0.0, 1.0, 10.0, 60.0]))
    happens: Any = waits | st.sampled_from([*others]) if others else waits
    between = st.lists(happens, max_size=2)
    events: list[Event] = []
    for chunk in draw(cuts(data)):
        events += [Deliver(chunk)] if chunk else []
        events += draw(between)
    events = events[: draw(st.integers(0, len(events)) | st.just(len(events)))]
    if draw(st.booleans()):
        events += [HalfClose(), *draw(between)]
    ends: list[Event] = [Leave(), Reset(), Abort()]
    return [*events, draw(st.sampled_from(ends))]
