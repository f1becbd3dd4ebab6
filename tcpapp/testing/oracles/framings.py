"""`check_framing`: checks that a framing keeps the promises of every framing (see `tcpapp.framing.Framing`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tcpapp.errors import InvalidFraming, MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Fixed, Framing, LengthPrefixed, Parser, Raw
from tcpapp.testing import strategies
from tcpapp.testing.oracles.costs import check_memory, check_time
from tcpapp.testing.oracles.parsers import bodies_in, different, framed_by, size_of
from tcpapp.testing.oracles.states import check_states
from tcpapp.testing.oracles.streams import (
    Outcome,
    broken,
    every_split,
    few_splits,
    in_pieces,
    like,
    places,
    read,
    received_as,
    without_frames,
)

__all__ = ["check_framing"]

SHORT = 9
"""The most bytes of a stream that is cut in every way: 256 ways for the longest."""

LARGEST = 1 << 20
"""The largest ``max`` that is tested: 1 MiB, the default. A smaller one replaces a larger one."""

OPTIONS = {"database": None, "deadline": None, "report_multiple_bugs": False, "print_blob": False}
"""Settings for Hypothesis: the error shows one smallest example, and the time of an example is not limited."""

SOME = 6
"""The messages of a strategy that are tested one by one and together. All splits of six short ones take a second."""

NOT_BYTES = ("text", 5, None, bytearray(b"hello"), memoryview(b"hello"), [b"x"])


def check_framing(
    make: Callable[[], Framing],
    messages: Iterable[Any] | st.SearchStrategy[Any] | None = None,
    *,
    frame: Callable[[Any], bytes] | None = None,
    examples: int | None = None,
    costs: bool = True,
    states: bool = True,
) -> None:
    """
    Check the framing that `make` returns, one of tcpapp's or your own, against the promises of every framing.

    - A framed message is received unchanged, however the stream is cut: every split of short streams, few cuts of
      longer ones, random cuts of random streams.
    - A stream can end between two messages, and never inside one.
    - A message of ``max`` bytes is received. One byte more cannot be sent, and ends the stream or is skipped.
    - Any bytes give only messages or `UnreadableStream`. After a failure every call raises it again.
    - `frame` and `frame_all` agree, and accept only bytes. `fresh` returns a new state.
    - `dump` returns the state at any place of a stream, and a framing that `load` returns continues the stream in the
      same way. Wrong states are refused, or do no harm (`states`; see `tcpapp.testing.oracles.states`).
    - Memory is bounded, and time is linear (`costs`; see `tcpapp.testing.oracles.costs` for the measurements).

    The arguments:

    - `messages`: the messages to send, as a collection or a strategy; `None`: some messages that this framing can send.
      If they are given, no others are sent. Then the limit is tested with a ``max`` as long as the longest message, and
      one byte less. Time is tested with many messages instead of a long one. A parser needs them (bodies: ``Body.of``).
    - `frame`: for a parser, the function from a message to its bytes, as the peer sends it; `None`: the parser's own.
      ``check_framing(memcached, requests, frame=memcached("client").frame)`` checks a server's side.
    - `examples`: how many streams are drawn; `None`: the number of Hypothesis's loaded profile.
    - `states`: whether states are checked; `False` for a framing whose connections never move to another process.
    - `costs`: whether memory and time are checked.

    Raises `AssertionError` with the broken promise and the smallest example that was found.
    """
    __tracebackhide__ = True
    try:
        _check(make, messages, frame, examples, costs, states)
    except AssertionError as error:
        raise without_frames(error)  # noqa: B904  # it is the same error


def _check(
    make: Callable[[], Framing],
    messages: Iterable[Any] | st.SearchStrategy[Any] | None,
    frame: Callable[[Any], bytes] | None,
    examples: int | None,
    costs: bool,
    states: bool,
) -> None:
    framing = make()
    if not isinstance(framing, Framing):
        raise broken(framing, "make() returns a Framing")
    if isinstance(framing, Parser) and messages is None:
        raise TypeError(f"messages=None: takes some messages of {framing!r}, because those of a parser are any values")
    framing = framed_by(framing, frame)
    own: list[Any] | None = None
    if isinstance(messages, st.SearchStrategy):
        own, one = _drawn(framing, messages), messages
    elif messages is None:
        one = strategies.messages(framing)
    else:
        own = list(messages)
        one = st.sampled_from(own)
    samples = _samples(framing, own)
    _check_sending(framing, samples)
    _check_splits(framing, samples)
    _check_fresh(framing, samples)
    _check_prefixes(framing, samples)
    if own is None:
        _check_limit(framing)
    elif bounded := [each for each in samples if not bodies_in(each)]:
        _check_limit_by(framing, bounded)
    count = {} if examples is None else {"max_examples": examples}
    configured = settings(**OPTIONS, **count, suppress_health_check=list(HealthCheck))  # type: ignore[arg-type]  # one dictionary of settings of several types
    _check_streams(framing, one, configured)
    if states:
        check_states(framing, samples, one, configured)
    if costs:
        check_memory(framing)
        check_time(framing, None if own is None else samples)


def _drawn(framing: Framing, messages: st.SearchStrategy[Any]) -> list[Any]:
    """Return some messages of a strategy, the same in every run: the shortest of the drawn ones."""
    found: list[Any] = []

    @settings(**OPTIONS, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # type: ignore[arg-type]  # as above
    @given(messages)
    def draw(message: Any) -> None:
        found.append(message)

    draw()
    return different(framing, found)[:SOME]


def _samples(framing: Framing, given_messages: list[Any] | None) -> list[Any]:
    """Return the messages that are tested one by one, the shortest first. Raises `AssertionError` if there are none."""
    size = framing.size if isinstance(framing, Fixed) else 0
    kept = framing.offset + framing.width - framing.strip if isinstance(framing, LengthPrefixed) else 0
    some = [b"", b"x", b"\0\0", b"hi\0", b"aba", b"hello", b"\xc0\xdb!", b"z" * size, b"h" * max(0, kept)]
    wanted = some if given_messages is None else given_messages
    found = different(framing, wanted)
    refused = [each for each in wanted if each not in found]
    if not found or (given_messages is not None and refused):
        raise broken(framing, "frame() accepts each of these messages (messages=…)", not_sent=refused)
    return found


def _stream(framing: Framing, messages: list[Any]) -> bytes:
    return b"".join([framing.frame(each) for each in messages])


def _expected(framing: Framing, messages: list[Any]) -> Outcome:
    arrived = [received_as(framing, each) for each in messages]
    return Outcome((b"".join(arrived),) if isinstance(framing, Raw) else tuple(arrived), None, 0)


# Sending


def _check_sending(framing: Framing, samples: list[Any]) -> None:
    for count in range(len(samples) + 1):
        some = samples[:count]
        one_by_one, together = _stream(framing, some), framing.frame_all(some)
        if one_by_one != together:
            promise = "frame_all() returns the joined results of frame() for each message"
            raise broken(framing, promise, messages=some, frame=one_by_one, frame_all=together)
    for message in () if isinstance(framing, Parser) else NOT_BYTES:
        _refuses(framing, message, "frame() and frame_all() raise UnsendableMessage for a message that is not bytes")


def _refuses(framing: Framing, message: Any, promise: str) -> None:
    raised: object = None
    for send in (framing.frame, lambda each: framing.frame_all([each])):
        try:
            send(message)
        except UnsendableMessage:
            continue
        except Exception as error:  # noqa: BLE001 - a user's own framing can raise anything: it is reported
            raised = error
        raise broken(framing, promise, message=message, raised=raised)


# Receiving


def _check_splits(framing: Framing, samples: list[Any]) -> None:
    for messages in (*([each] for each in samples), *([each, each] for each in samples), samples):
        stream = _stream(framing, messages)
        expected = _expected(framing, messages)
        whole = read(framing, [stream])
        if whole != expected:
            promise = "frame() and receive() give each message back unchanged"
            raise broken(framing, promise, messages=messages, stream=stream, expected=expected, got=whole)
        for chunks in every_split(stream) if len(stream) <= SHORT else few_splits(stream):
            _same(framing, stream, chunks, whole, messages=messages)


def _same(framing: Framing, stream: bytes, chunks: list[bytes], expected: Outcome, **facts: Any) -> None:
    got = read(framing, chunks)
    if got != expected:
        promise = "a stream gives the same messages and the same error, however it is cut"
        raise broken(framing, promise, **facts, stream=stream, chunks=chunks, expected=expected, got=got)


def _check_fresh(framing: Framing, samples: list[Any]) -> None:
    stream = _stream(framing, samples)
    used = framing.fresh()
    used.receive(stream[:-1])
    got = read(used, [stream])
    if got != _expected(framing, samples):
        raise broken(framing, "fresh() returns a framing that shares no state with this one", stream=stream, got=got)


def _check_prefixes(framing: Framing, samples: list[Any]) -> None:
    """Check a stream that ends after each of its bytes, or at many `places` of a long stream."""
    if isinstance(framing, Raw):
        return
    for messages in (*([each] for each in samples), samples):
        ends = list(accumulate(len(framing.frame(each)) for each in messages))
        stream, expected = _stream(framing, messages), _expected(framing, messages).messages
        for size in places(stream):
            got = read(framing, [stream[:size]])
            _same(framing, stream[:size], in_pieces(stream[:size], 1), got)
            whole = sum(end <= size for end in ends)
            facts = {"stream": stream[:size], "got": got}
            if not whole <= len(got.messages) or expected[: len(got.messages)] != got.messages:
                raise broken(framing, "receive() returns a message as soon as all its bytes have arrived", **facts)
            if (size == 0 or size in ends) and got.failure is not None:
                raise broken(framing, "finish() accepts a stream that ends between two messages", **facts)
            promise = "finish() raises TruncatedMessage for a stream that ends inside a message"
            if got.failure not in (None, TruncatedMessage):
                raise broken(framing, promise, **facts)
            inside = size not in (0, *ends) and whole == len(got.messages)
            if inside and got.failure is None and _lost(framing, stream[size : ends[whole]], expected[whole]):
                raise broken(framing, promise, **facts)


def _lost(framing: Framing, rest: bytes, message: Any) -> bool:
    """Return whether `rest` alone does not give `message`: a part came before it (a frame can begin with a mark)."""
    return read(framing, [rest]).messages != (message,)


def _check_limit(framing: Framing) -> None:
    try:
        bounded = framing if framing.max <= LARGEST else like(framing, max=SHORT)
    except InvalidFraming:  # a Fixed with a size over LARGEST
        return
    wide = _wider(bounded)
    full, over = b"y" * bounded.max, b"y" * (bounded.max + 1)
    _check_over(bounded, wide, over, _check_full(bounded, wide, full))


def _check_limit_by(framing: Framing, own: list[Any]) -> None:
    """Test the limit with the longest of these messages: with a ``max`` of its length, and with one byte less."""
    longest = own[-1]
    size = size_of(framing, longest)
    wide = like(framing, oversize="close")
    with suppress(InvalidFraming):  # no message is as short
        _check_full(like(framing, max=size), wide, longest)
        shorter = [each for each in own if size_of(framing, each) < size]
        _check_over(like(framing, max=size - 1), wide, longest, shorter)


def _check_full(bounded: Framing, wide: Framing, full: Any) -> list[Any]:
    """
    Check that a message of ``max`` bytes, if one is possible by `wide`, is received. Returns the received messages.
    """
    if not strategies.sendable(wide, full):
        return []
    if not strategies.sendable(bounded, full):
        raise broken(bounded, "frame() accepts a message of max bytes", max=bounded.max)
    promise = "receive() returns a message of max bytes"
    _limited(bounded, bounded.frame(full) * 2, _expected(bounded, [full, full]), promise)
    return [full]


def _check_over(bounded: Framing, wide: Framing, over: Any, before: list[Any]) -> None:
    """
    Check that a message of one byte more cannot be sent. Received after the messages `before`, it must end the stream
    or be skipped.
    """
    _refuses(bounded, over, "frame() and frame_all() raise UnsendableMessage for a message longer than max")
    if not strategies.sendable(wide, over) or isinstance(bounded, Raw):
        return
    arrived = _expected(bounded, before).messages
    if bounded.oversize == "skip":
        outcome, after = Outcome(arrived * 2, None, 1), _stream(bounded, before)
        promise = "receive() skips a message one byte longer than max, and returns the next one"
    else:
        outcome, after = Outcome(arrived, MessageTooLong, 0), b""
        promise = "receive() raises MessageTooLong for a message one byte longer than max"
    _limited(bounded, _stream(bounded, before) + wide.frame(over) + after, outcome, promise)


def _wider(framing: Framing) -> Framing:
    """Return `framing` with ``oversize="close"`` and a larger ``max`` than its own, if it accepts a larger one."""
    for most in (4 * framing.max + 4, framing.max + 1):
        with suppress(InvalidFraming):  # its length field cannot announce so many bytes
            return like(framing, max=most, oversize="close")
    return framing


def _limited(framing: Framing, stream: bytes, expected: Outcome, promise: str) -> None:
    ways = few_splits(stream) if len(stream) <= 64 else iter([[stream], in_pieces(stream, len(stream) // 50)])
    for chunks in ways:
        got = read(framing, chunks)
        if got != expected:
            raise broken(framing, promise, max=framing.max, stream=stream, chunks=chunks, expected=expected, got=got)


# Streams that Hypothesis draws


def _check_streams(framing: Framing, one: st.SearchStrategy[Any], configured: settings) -> None:
    @configured
    @given(st.data(), st.lists(one, max_size=8))
    def messages_come(data: st.DataObject, messages: list[Any]) -> None:
        stream = _stream(framing, messages)
        chunks = data.draw(strategies.cuts(stream))
        got, expected = read(framing, chunks), _expected(framing, messages)
        if got != expected:
            promise = "frame() and receive() give each message back unchanged"
            raise broken(framing, promise, messages=messages, chunks=chunks, expected=expected, got=got)

    @configured
    @given(st.data(), strategies.streams(framing, one))
    def garbage_comes(data: st.DataObject, stream: bytes) -> None:
        whole = read(framing, [stream])
        _same(framing, stream, in_pieces(stream, 1), whole)
        _same(framing, stream, data.draw(strategies.cuts(stream)), whole)

    messages_come()
    garbage_comes()
