"""Shared parts of the checks of a framing: streams in chunks, their outcomes, and the errors of the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from tcpapp.errors import UnreadableStream
from tcpapp.framing import Framing, LengthPrefixed, Parser, Raw
from tcpapp.framing.base import HEADER
from tcpapp.testing.oracles.parsers import arrived

__all__ = [
    "Outcome",
    "broken",
    "every_split",
    "few_splits",
    "go_on",
    "in_pieces",
    "like",
    "messages_of",
    "places",
    "read",
    "received_as",
    "start",
    "without_frames",
]

TRIED = 64
"""Streams of up to this many bytes are ended after each byte. The work grows with the square."""

SHOWN = 300
"""The most characters of a value in the error of a check."""


def broken(framing: object, promise: str, **facts: object) -> AssertionError:
    """Return the error for a broken `promise` of `framing`. The `facts` are the example that shows it."""
    lines = [f"{framing!r} breaks a promise: {promise}"]
    for name, fact in facts.items():
        lines.append(f"  {name.replace('_', ' ')}: {_shown(fact)}")
    error = AssertionError("\n".join(lines))
    vars(error)["promise"] = promise
    return error


def without_frames(error: AssertionError) -> AssertionError:
    """
    Return an error without the calls of the kit and of Hypothesis that led to it. Its text has all that the test needs.

    Any other error, such as an error of a user's strategy, is unchanged.
    """
    if "promise" in vars(error):
        vars(error).pop("__notes__", None)  # notes of Hypothesis about a function of the kit
        error.__traceback__ = None
    return error


def _shown(fact: object) -> str:
    """Return a text as it is, and any other value as its ``repr``, cut."""
    if isinstance(fact, str):
        return fact.rstrip()
    text = repr(fact)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stream: its messages, the class of its failure, and the number of skipped messages."""

    messages: tuple[Any, ...]
    failure: type[UnreadableStream] | None
    skipped: int


def like(framing: Framing, **options: Any) -> Framing:
    """
    Return a framing with the options of `framing`, changed by `options`. Raises `InvalidFraming` if they are
    impossible.
    """
    kept = {name: getattr(framing, name) for name in framing._defaults}
    return type(framing)(**(kept | {name: value for name, value in options.items() if name in kept}))


def received_as(framing: Framing, message: Any) -> Any:
    """
    Return the form in which `message` arrives: unchanged, or with the part of the header that a `LengthPrefixed` keeps.
    """
    if isinstance(framing, LengthPrefixed) and framing.strip < framing.offset + framing.width:
        return framing.frame(message)[framing.strip :]
    return message


def messages_of(framing: Framing, chunks: Sequence[bytes]) -> list[Any]:
    """Return the whole messages in these chunks, up to a failure of the stream."""
    state = framing.fresh()
    messages: list[Any] = []
    for chunk in chunks:
        try:
            messages += state.receive(chunk)
        except UnreadableStream:
            break
    return messages


def start(framing: Framing) -> Framing:
    """Return a fresh state of `framing`. Raises `AssertionError` if it gives none."""
    try:
        state = framing.fresh()
    except Exception as error:
        raise broken(framing, "fresh() returns a framing for a new stream", raised=error) from error
    if (state.held, state.skipped, state.failure) != (0, 0, None) or state != framing:
        found = {"held": state.held, "skipped": state.skipped, "failure": state.failure, "itself": state}
        raise broken(framing, "fresh() returns an equal framing that has received no byte", got=found)
    return state


def stay(state: Framing, _chunks: Sequence[bytes]) -> Framing:
    """Return `state` itself, which continues to read the stream."""
    return state


Between = Callable[[Framing, Sequence[bytes]], Framing]
"""A function that gets the framing between two chunks, and all chunks, and returns the framing that reads on."""


def read(framing: Framing, chunks: Sequence[bytes], between: Between = stay) -> Outcome:
    """
    Read a stream that arrives in `chunks` and then ends, and return its outcome.

    `between` is called before the first chunk, and after each chunk that did not end the stream. Raises
    `AssertionError` for a broken promise. These are another error than `UnreadableStream`, a message that is not bytes
    or is over ``max``, more held bytes than ``max`` and the chunk, and a failure that is not raised again.
    """
    return go_on(between(start(framing), chunks), chunks, between)


def go_on(state: Framing, chunks: Sequence[bytes], between: Between = stay) -> Outcome:
    """Read the rest of a stream with `state`, and return its outcome, as `read` does."""
    messages: list[Any] = []
    failure: UnreadableStream | None = None
    for chunk in (*chunks, None):
        try:
            got = _step(state, chunk)
        except UnreadableStream as error:
            failure = error
            break
        except Exception as error:
            promise = f"{'finish' if chunk is None else 'receive'}() raises no other error than UnreadableStream"
            raise broken(state, promise, chunks=chunks, raised=error) from error
        _check(state, chunks, chunk or b"", got)
        messages += got
        if state.failure is None and chunk is not None:
            state = between(state, chunks)
    if failure is not None:
        _check_failed(state, chunks, failure)
    if isinstance(state, Raw):  # its messages are the chunks, so only the joined bytes are the same
        messages = [b"".join(messages)]
    return Outcome(tuple(arrived(state, messages)), type(failure) if failure else None, state.skipped)


def _step(state: Framing, chunk: bytes | None) -> list[Any]:
    if chunk is None:
        state.finish()
        return []
    return state.receive(chunk)


def _check(state: Framing, chunks: Sequence[bytes], chunk: bytes, got: list[Any]) -> None:
    if not isinstance(state, Parser):  # whose messages are any values
        _check_messages(state, chunks, got)
    header = state.offset + state.width if isinstance(state, LengthPrefixed) else HEADER
    if state.held > state.max + len(chunk) + header:
        promise = "a framing holds at most max bytes and one chunk"
        raise broken(state, promise, chunks=chunks, max=state.max, chunk_of=len(chunk), held=state.held)


def _check_messages(state: Framing, chunks: Sequence[bytes], got: list[Any]) -> None:
    if not isinstance(got, list) or not all(isinstance(each, bytes) for each in got):
        raise broken(state, "receive() returns a list of bytes", chunks=chunks, got=got)
    if long := [each for each in got if len(each) > state.max]:
        promise = "receive() returns no message longer than max"
        raise broken(state, promise, chunks=chunks, max=state.max, message_of=len(long[0]))


def _check_failed(state: Framing, chunks: Sequence[bytes], failure: UnreadableStream) -> None:
    if state.failure is not failure:
        raise broken(state, "failure is the error that ended the stream", chunks=chunks, failure=state.failure)
    for again in (b"a", None):
        try:
            _step(state, again)
        except UnreadableStream as error:
            if error is failure:
                continue
        promise = "after an error, receive() and finish() raise the same error again"
        raise broken(state, promise, chunks=chunks, failed_with=failure)


def in_pieces(stream: bytes, size: int) -> list[bytes]:
    """Return `stream` in chunks of `size` bytes."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def places(stream: bytes) -> list[int]:
    """
    Return the places where `stream` is ended: after every byte of a short stream; near both ends and at some other
    places of a long one.
    """
    size = len(stream)
    if size <= TRIED:
        return [*range(size + 1)]
    few = TRIED // 4
    return sorted({*range(few), *range(few, size, size // few), *range(size - few, size + 1)})


def every_split(stream: bytes) -> Iterator[list[bytes]]:
    """
    Yield every way to cut `stream`, the ways with few cuts first. There are 2 to the power of its length minus one.
    """
    for count in range(len(stream)):
        for places in combinations(range(1, len(stream)), count):
            yield [stream[first:last] for first, last in pairwise([0, *places, len(stream)])]


def few_splits(stream: bytes) -> Iterator[list[bytes]]:
    """
    Yield `stream` whole, cut once at each of its `places` (with an empty chunk, too), cut twice closely, and in pieces.
    """
    yield [stream]
    for first in places(stream):
        yield [stream[:first], stream[first:]]
    for first in places(stream):
        for second in range(first, min(first + 4, len(stream))):
            yield [stream[:first], stream[first:second], stream[second:]]
    for size in (1, 2, 3):
        yield in_pieces(stream, size)
