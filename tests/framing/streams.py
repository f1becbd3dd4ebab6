"""The parts that the tests of the framings share: framings, streams, cuts of streams, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tcpapp.errors import UnreadableStream, UnsendableMessage
from tcpapp.framing import (
    Blocks,
    Cobs,
    Delimited,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstrings,
    Parser,
    Raw,
    Slip,
    Varint,
)
from tcpapp.framing.state import lost
from tests.framing.generators import mixed

FRAMINGS: tuple[Framing, ...] = (
    Raw(max=7),
    Lines(max=9),
    Lines(max=9, oversize="skip"),
    Lines(delimiter=b"\r\n", max=9),
    Lines(delimiter=b"\r\n", max=9, oversize="skip"),
    Lines(),
    Delimited(b"\x03", max=9),
    Delimited(b"abab", max=9),
    Delimited(b"abab", max=2, oversize="skip"),
    Delimited(b"aa", max=9, oversize="skip"),
    LengthPrefixed(1, max=9),
    LengthPrefixed(2, max=9, oversize="skip"),
    LengthPrefixed(3, "little"),
    LengthPrefixed(4),
    LengthPrefixed(8, max=9),
    LengthPrefixed(2, offset=2, adjust=-4, max=9),
    LengthPrefixed(2, offset=2, adjust=-4, max=9, oversize="skip"),
    LengthPrefixed(2, "little", offset=1, adjust=1, strip=3, max=9),
    LengthPrefixed(1, offset=1, strip=0, max=9),
    LengthPrefixed(1, strip=0, max=9, oversize="skip"),
    LengthPrefixed(1, adjust=4, strip=5, max=9),
    LengthPrefixed(1, adjust=4, strip=5, max=9, oversize="skip"),
    LengthPrefixed(1, strip=3, max=9, oversize="skip"),
    Varint(),
    Varint(max=9),
    Varint(max=200, oversize="skip"),
    Netstrings(),
    Netstrings(max=9),
    Netstrings(max=9, oversize="skip"),
    Fixed(3),
    Fixed(1, max=1),
    Blocks(b"\x0b", b"\x1c\r", max=9),
    Blocks(b"\x0b", b"\x1c\r", max=2, oversize="skip"),
    Blocks(b"aba", b"ab", max=9),
    Blocks(b"ab", b"ba", max=9, oversize="skip"),
    Slip(),
    Slip(max=9),
    Slip(max=9, oversize="skip"),
    Cobs(),
    Cobs(max=9),
    Cobs(max=9, oversize="skip"),
    mixed(),
)
"""Every framing, with each option changed; most have a small ``max``, which a short stream exceeds."""

BOUNDED = tuple(each for each in FRAMINGS if not isinstance(each, Raw | Fixed) and each.max < 10_000)
"""The framings whose ``max`` a stream of a test can exceed."""

MARKS = b"\r\n\x03ab0123456789:,\x00\x01\x02\x05\x09\x0b\x1c\x80\xc0\xdb\xdc\xdd\xff\xfe"
"""Bytes that have a meaning in one of the framings."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stream: its messages, its failure, if any, and how many messages were skipped."""

    messages: tuple[Any, ...]
    failure: type[UnreadableStream] | None
    skipped: int


def same_state(state: Framing) -> Framing:
    """Return the state itself: the stream goes on where it is."""
    return state


def moved(state: Framing) -> Framing:
    """Dump the state, load it into a fresh framing, and check that nothing differs. Return that framing."""
    dumped = state.dump()
    other = state.fresh()
    other.load(dumped)
    assert other == state
    assert lost(state, other) == []
    for each in ("held", "beginning", "unfinished", "skipped", "failure"):
        assert getattr(other, each) == getattr(state, each)
    assert other.dump() == state.dump() == dumped
    return other


def read(framing: Framing, chunks: Iterable[bytes], between: Callable[[Framing], Framing] = same_state) -> Outcome:
    """Return the outcome of the stream in `chunks`, which then ends; `between` gives the state to go on with."""
    return go_on(between(framing.fresh()), chunks, between)


def go_on(state: Framing, chunks: Iterable[bytes], between: Callable[[Framing], Framing] = same_state) -> Outcome:
    """Return the outcome of the rest of a stream, from `state` on."""
    messages: list[Any] = []
    failure: UnreadableStream | None = None
    try:
        for chunk in chunks:
            received = state.receive(chunk)
            assert isinstance(state, Parser) or all(type(each) is bytes and len(each) <= state.max for each in received)
            messages += received
            assert state.held <= state.max + len(chunk) + header_of(state)
            if state.failure is None:
                state = between(state)
        state.finish()
    except UnreadableStream as error:
        failure = error
    assert failure is state.failure
    assert state.held == 0
    return Outcome(tuple(messages), type(failure) if failure else None, state.skipped)


def header_of(framing: Framing) -> int:
    """Return how many bytes `framing` can hold beside ``max``, as its documentation says."""
    if isinstance(framing, LengthPrefixed):
        return framing.offset + framing.width
    return {Varint: 9, Netstrings: 20, Blocks: 3, Slip: 1}.get(type(framing), 4)


def ends(framing: Framing, chunks: Iterable[bytes]) -> UnreadableStream:
    """Return the error with which the stream in `chunks` ends."""
    state = framing.fresh()
    try:
        for chunk in chunks:
            state.receive(chunk)
        state.finish()
    except UnreadableStream as error:
        return error
    raise AssertionError("the stream was read to its end")


def single(stream: bytes) -> list[bytes]:
    """Return the stream cut into single bytes."""
    return [stream[at : at + 1] for at in range(len(stream))]


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """Give the stream whole, byte by byte, in pieces of two and three, and cut once and twice at every place."""
    yield [stream]
    for size in (1, 2, 3):
        yield [stream[at : at + size] for at in range(0, len(stream), size)]
    for first in range(len(stream) + 1):
        yield [stream[:first], stream[first:]]
        for second in range(first, min(first + 5, len(stream))):
            yield [stream[:first], stream[first:second], stream[second:]]


def same(framing: Framing, stream: bytes) -> Outcome:
    """Return the outcome of `stream`, and check that it is the same however the stream is cut."""
    expected = read(framing, [stream])
    for chunks in cuts(stream):
        assert expected == read(framing, chunks), chunks
    return expected


def wide(framing: Framing, max: int = 1 << 20) -> Framing:  # noqa: A002 - the public name
    """
    Return the same framing with a large ``max`` and oversize="close".

    This framing can send messages that are too long for `framing`.
    """
    options = {name: getattr(framing, name) for name in framing._defaults}
    if isinstance(framing, LengthPrefixed):
        max = min(max, framing._longest())  # noqa: A001 - the public name
    return type(framing)(**{**options, "max": max, "oversize": "close"})


def sendable(framing: Framing, messages: Iterable[bytes]) -> list[bytes]:
    """Return the `messages` that `framing` can send."""
    found = []
    for message in messages:
        try:
            framing.frame(message)
        except UnsendableMessage:
            continue
        found.append(message)
    return found
