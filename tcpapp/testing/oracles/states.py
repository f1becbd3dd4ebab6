"""
Check the state of a framing as bytes: a stream continues in a loaded framing as it would have in the dumped one.

The samples and the drawn streams are dumped and loaded at each cut, and after every byte. If the framing can skip
messages, this is also done with a ``max`` that skips the longest sample. Wrong states are some states of a stream that
were cut at any place, got a byte after their end, or have another byte at one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpapp.errors import InvalidFraming, InvalidState, UnreadableStream
from tcpapp.framing import Framing
from tcpapp.testing import strategies
from tcpapp.testing.oracles.parsers import is_in_body, size_of
from tcpapp.testing.oracles.streams import broken, go_on, in_pieces, like, places, read, start

__all__ = ["check_states"]

LOOKED_AT = ("held", "beginning", "unfinished", "skipped", "failure")
"""The attributes of a framing that its connection reads."""

PIECES = 256
"""The most pieces of a stream, which is moved after each piece. A short stream is moved after every byte."""

WRONG = 8
"""How many states of a stream are changed and loaded. Each state gives hundreds of wrong ones."""


def check_states(framing: Framing, samples: Sequence[Any], one: st.SearchStrategy[Any], configured: settings) -> None:
    """Raise `AssertionError` if a stream does not continue after `load` as without it, or a wrong state does harm."""
    for bounded, stream in _streams(framing, samples):
        _check_dumped(bounded, _pieces(stream))
        for chunks in (*([stream[:place], stream[place:]] for place in places(stream)), _pieces(stream)):
            _check_moved(bounded, chunks)
    _check_failed(framing, samples)
    stream = _joined(framing, samples)
    for place in range(0, len(stream) + 1, 1 + len(stream) // WRONG):
        _check_wrong(framing, stream[:place], stream[place:])

    @configured
    @given(st.data(), strategies.streams(framing, one))
    def streams_are_moved(data: st.DataObject, stream: bytes) -> None:
        _check_moved(framing, data.draw(strategies.cuts(stream)))
        _check_moved(framing, _pieces(stream))

    streams_are_moved()


def _pieces(stream: bytes) -> list[bytes]:
    """Return the bytes of `stream` one by one, or at most `PIECES` pieces of a long stream."""
    return in_pieces(stream, 1 + len(stream) // PIECES)


def _joined(framing: Framing, messages: Sequence[Any]) -> bytes:
    return b"".join([framing.frame(each) for each in messages])


def _streams(framing: Framing, samples: Sequence[Any]) -> Iterator[tuple[Framing, bytes]]:
    """Yield framings with streams for them: messages, and messages of which the longest is skipped."""
    for messages in (*([each] for each in samples), samples):
        yield framing, _joined(framing, messages)
    with suppress(InvalidFraming):  # this framing cannot have that max, or does not skip
        yield like(framing, max=size_of(framing, samples[-1]) - 1, oversize="skip"), _joined(framing, [*samples] * 2)


# A stream that is moved


def _check_dumped(framing: Framing, chunks: Sequence[bytes]) -> None:
    """Dump a stream after each chunk, and continue it in the same framing."""
    expected, got = read(framing, chunks), read(framing, chunks, _dumped)
    if got != expected:
        raise broken(framing, "dump() does not change the framing", chunks=chunks, expected=expected, got=got)


def _dumped(framing: Framing, chunks: Sequence[bytes]) -> Framing:
    if is_in_body(framing):
        return framing
    first, second = _dump(framing, chunks), _dump(framing, chunks)
    if first != second:
        raise broken(framing, "dump() does not change the framing", chunks=chunks, first=first, second=second)
    return framing


def _dump(framing: Framing, chunks: Sequence[bytes]) -> bytes:
    try:
        state = framing.dump()
    except Exception as error:
        promise = "dump() returns the state of every stream that has not failed"
        raise broken(framing, promise, chunks=chunks, raised=error) from error
    if not isinstance(state, bytes):
        raise broken(framing, "dump() returns bytes", chunks=chunks, got=state)
    return state


def _check_moved(framing: Framing, chunks: Sequence[bytes]) -> None:
    """Dump and load a stream after each chunk, and continue it in the loaded framing."""
    expected, got = read(framing, chunks), read(framing, chunks, _moved)
    if got != expected:
        promise = "a stream goes on after dump() and load() as it would have without them"
        raise broken(framing, promise, chunks=chunks, expected=expected, got=got)


def _moved(framing: Framing, chunks: Sequence[bytes]) -> Framing:
    if is_in_body(framing):
        return framing
    state, loaded = _dump(framing, chunks), start(framing)
    try:
        loaded.load(state)
    except Exception as error:
        promise = "load() accepts each state that dump() returns"
        raise broken(framing, promise, chunks=chunks, state=state, raised=error) from error
    for name in LOOKED_AT:
        expected, got = getattr(framing, name), getattr(loaded, name)
        if expected != got:
            facts = {"chunks": chunks, "state": state, "attribute": name, "expected": expected, "got": got}
            raise broken(framing, "load() restores the attributes of the dumped framing", **facts)
    return loaded


def _check_failed(framing: Framing, samples: Sequence[Any]) -> None:
    """Dump a stream that ended inside a message: this must raise, because the failure would be lost."""
    state = start(framing)
    chunk = framing.frame(samples[-1])[:-1]
    with suppress(UnreadableStream):
        state.receive(chunk)
        state.finish()
    if state.failure is None:
        return
    raised: object = None
    try:
        state.dump()
    except InvalidState:
        return
    except Exception as error:  # noqa: BLE001 - a user's own framing can raise anything: it is reported
        raised = error
    raise broken(framing, "dump() raises InvalidState for a stream that has failed", chunks=[chunk], raised=raised)


# Wrong states


def _check_wrong(framing: Framing, before: bytes, rest: bytes) -> None:
    """Load states that differ a little from the state after `before`."""
    dumped = start(framing)
    dumped.receive(before)
    if is_in_body(dumped):
        return
    state = dumped.dump()
    for wrong in (*(state[:size] for size in places(state[:-1])), state + b"\0"):
        if _loaded(framing, wrong) is not None:
            promise = "load() raises InvalidState for a state that is cut or has bytes behind its end"
            raise broken(framing, promise, state=wrong, whole=state)
    for place in places(state[:-1]):
        for byte in {0, 0xFF, state[place] ^ 1} - {state[place]}:
            loaded = _loaded(framing, state[:place] + bytes([byte]) + state[place + 1 :])
            if loaded is not None:
                go_on(loaded, [rest])


def _loaded(framing: Framing, state: bytes) -> Framing | None:
    """Load `state`, and return the framing, or `None` if the state is refused in the right way."""
    loaded = start(framing)
    try:
        loaded.load(state)
    except InvalidState:
        found = {name: getattr(loaded, name) for name in LOOKED_AT}
        if found != {name: getattr(start(framing), name) for name in LOOKED_AT}:
            raise broken(framing, "after load() has raised, the framing is fresh", state=state, got=found) from None
        return None
    except Exception as error:
        raise broken(framing, "load() raises no other error than InvalidState", state=state, raised=error) from error
    return loaded
