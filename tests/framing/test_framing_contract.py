"""The contract of every framing, with each of its options changed."""

from __future__ import annotations

import copy
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpapp.errors import MessageTooLong, TruncatedMessage, UnsendableMessage
from tcpapp.framing import (
    Blocks,
    Cobs,
    Delimited,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstrings,
    Raw,
    Slip,
    Varint,
    from_string,
)
from tests.examples import MANY
from tests.framing.generators import mixed
from tests.framing.streams import BOUNDED, FRAMINGS, MARKS, Outcome, cuts, ends, read, same, sendable, single, wide

each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=str)
each_bounded = pytest.mark.parametrize("framing", BOUNDED, ids=str)
BOUNDARY = [each for each in FRAMINGS if not isinstance(each, Raw)]
each_boundary = pytest.mark.parametrize("framing", BOUNDARY, ids=str)

LONG = 1 << 27
each_large = pytest.mark.parametrize(
    "framing",
    [
        Lines(max=LONG),
        Delimited(b"abab", max=LONG),
        LengthPrefixed(max=LONG),
        Varint(max=LONG),
        Netstrings(max=LONG),
        Fixed(1 << 26, max=LONG),
        Blocks(b"\x0b", b"\x1c\r", max=LONG),
        Slip(max=LONG),
        Cobs(max=LONG),
    ],
    ids=str,
)

some_bytes = st.lists(st.one_of(st.sampled_from(MARKS), st.integers(0, 255)), max_size=30).map(bytes)
some_messages = st.lists(some_bytes, max_size=8)


@st.composite
def chunks_of(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Draw a cut of this stream into chunks."""
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[first:last] for first, last in zip([0, *places], [*places, len(stream)], strict=True)]


def some_of(framing: Framing) -> list[bytes]:
    """Return a few messages that `framing` can send."""
    size = framing.size if isinstance(framing, Fixed) else 0
    kept = framing.offset + framing.width - framing.strip if isinstance(framing, LengthPrefixed) else 0
    candidates = [b"hello", b"", b"x", b"\0\0", b"hi\0", b"z" * size, b"h" * max(0, kept), b"\xc0\xdb!", b"aba"]
    return sendable(framing, candidates)


def stream_of(framing: Framing) -> tuple[bytes, list[bytes]]:
    """Return a short stream of `framing`, and its messages."""
    stream = framing.frame_all(some_of(framing))
    return stream, list(read(framing, [stream]).messages)


# Cuts


@pytest.mark.exhaustive
@each_boundary
def test_any_cut(framing: Framing) -> None:
    """A stream gives the same messages however it is cut."""
    stream, messages = stream_of(framing)
    assert len(messages) == len(some_of(framing)) > 0
    assert same(framing, stream) == Outcome(tuple(messages), None, 0)


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(framing=st.sampled_from(BOUNDARY), data=st.data())
def test_sent_messages_are_received_unchanged(framing: Framing, data: st.DataObject) -> None:
    """Any messages that can be sent are received unchanged, however their stream is cut."""
    size = framing.size if isinstance(framing, Fixed) else None
    one = some_bytes if size is None else st.binary(min_size=size, max_size=size)
    messages = sendable(framing, data.draw(st.lists(one, max_size=8)))
    stream = b"".join([framing.frame(message) for message in messages])
    outcome = read(framing, data.draw(chunks_of(stream)))
    assert outcome.failure is None
    assert outcome.skipped == 0
    if isinstance(framing, LengthPrefixed) and framing.strip < framing.offset + framing.width:
        assert [len(each) for each in outcome.messages] == [len(each) for each in messages]
        body = framing.offset + framing.width - framing.strip
        assert [each[body:] for each in outcome.messages] == [each[body:] for each in messages]
    else:
        assert list(outcome.messages) == messages
    assert framing.frame_all(messages) == stream


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_garbage(framing: Framing, data: st.DataObject) -> None:
    """Any bytes give messages or `UnreadableStream`, and the same outcome however they are cut."""
    pieces = data.draw(some_messages)
    framed = [wide(framing).frame(each) if sendable(wide(framing), [each]) else each for each in pieces]
    mixed = data.draw(st.lists(st.sampled_from([*framed, *pieces, b""]), max_size=8))
    stream = b"".join(mixed)
    outcomes = [read(framing, chunks) for chunks in ([stream], single(stream), data.draw(chunks_of(stream)))]
    if isinstance(framing, Raw):
        assert {b"".join(outcome.messages) for outcome in outcomes} == {stream}
    else:
        assert outcomes[0] == outcomes[1] == outcomes[2]


@each_framing
def test_empty_chunk(framing: Framing) -> None:
    """An empty chunk gives no message, and changes nothing at any place of the stream."""
    stream, messages = stream_of(framing)
    spaced = [piece for byte in single(stream) for piece in (b"", byte, b"")]
    assert framing.fresh().receive(b"") == []
    if not isinstance(framing, Raw):
        assert list(read(framing, spaced).messages) == messages


# The end


@pytest.mark.exhaustive
@each_boundary
def test_every_prefix(framing: Framing) -> None:
    """A stream that ends between two messages is whole; a stream that ends anywhere else is truncated."""
    stream, messages = stream_of(framing)
    whole = {len(framing.frame_all(some_of(framing)[:count])) for count in range(len(messages) + 1)}
    for size in range(len(stream) + 1):
        outcomes = {read(framing, chunks) for chunks in ([stream[:size]], single(stream[:size]))}
        assert len(outcomes) == 1
        (outcome,) = outcomes
        assert list(outcome.messages) == messages[: len(outcome.messages)]
        if not isinstance(framing, Slip):  # SLIP's first END belongs to no packet
            assert (outcome.failure is None) == (size in whole)
        assert outcome.failure in (None, TruncatedMessage)


@pytest.mark.exhaustive
@each_boundary
def test_truncated_says_how_much_came(framing: Framing) -> None:
    """`TruncatedMessage` has the number of bytes that had arrived, the same however the stream is cut."""
    stream, _ = stream_of(framing)
    for size in range(len(stream)):
        values = set()
        for chunks in ([stream[:size]], single(stream[:size])):
            state = framing.fresh()
            for chunk in chunks:
                state.receive(chunk)
            values.add(state.held)
            with suppress(TruncatedMessage):
                state.finish()
            if state.failure is not None:
                values.add(state.failure.value)
                assert f"{state.failure.value} bytes had arrived" in str(state.failure)
        assert len(values) == 1


@each_boundary
def test_failure_is_terminal(framing: Framing) -> None:
    """After a failure, `receive` and `finish` raise the same error again, and nothing is held."""
    if framing == Fixed(1, max=1):
        pytest.skip("cannot fail")
    state = framing.fresh()
    state.receive(framing.frame(some_of(framing)[0])[:-1])
    with pytest.raises(TruncatedMessage) as caught:
        state.finish()
    assert state.failure is caught.value
    for call in (lambda: state.receive(b""), lambda: state.receive(b"hello"), state.finish):
        with pytest.raises(TruncatedMessage) as again:
            call()
        assert again.value is caught.value
    assert state.held == 0


def test_raising_again_does_not_grow() -> None:
    """A failure that is raised again and again has only the traceback of the last time."""
    state = LengthPrefixed(max=1)
    for _ in range(50):
        with pytest.raises(MessageTooLong):
            state.receive(b"\0\0\0\2")
    depth, trace = 0, state.failure.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    assert depth < 6


# max


def limit_of(framing: Framing) -> bytes:
    """Return a message of exactly ``max`` bytes."""
    return b"y" * framing.max


@pytest.mark.exhaustive
@each_bounded
def test_exactly_max(framing: Framing) -> None:
    """A message of exactly ``max`` bytes is sent and received, however it is cut."""
    stream = framing.frame(limit_of(framing))
    outcome = same(framing, stream * 2)
    assert [len(message) for message in outcome.messages] == [framing.max] * 2
    assert (outcome.failure, outcome.skipped) == (None, 0)


@each_bounded
def test_one_over_max_is_not_sent(framing: Framing) -> None:
    """A message of one byte more than ``max`` cannot be sent, alone or among others."""
    message = limit_of(framing) + b"y"
    for send in (framing.frame, lambda message: framing.frame_all([limit_of(framing), message])):
        with pytest.raises(UnsendableMessage, match=rf"{framing.max + 1} bytes; at most {framing.max} \(max\)"):
            send(message)


@pytest.mark.exhaustive
@each_bounded
def test_one_over_max_is_not_received(framing: Framing) -> None:
    """A message of one byte more than ``max`` ends the stream or is skipped; earlier messages are delivered."""
    good, bad = framing.frame(limit_of(framing)), wide(framing).frame(limit_of(framing) + b"y")
    outcome = same(framing, good + bad + good)
    if framing.oversize == "close":
        assert ([len(each) for each in outcome.messages], outcome.failure) == ([framing.max], MessageTooLong)
    else:
        assert [len(each) for each in outcome.messages] == [framing.max] * 2
        assert (outcome.failure, outcome.skipped) == (None, 1)


@each_bounded
def test_too_long_says_so(framing: Framing) -> None:
    """`MessageTooLong` has the length of the message and the limit, and its text has both."""
    framing = wide(framing, max=9)
    stream = wide(framing).frame(limit_of(framing) + b"y")
    for chunks in cuts(stream):
        error = ends(framing, chunks)
        assert isinstance(error, MessageTooLong)
        assert f"at most {framing.max} (max) are accepted" in str(error)
        assert (error.value, error.limit) == (framing.max + 1, framing.max)


@each_bounded
def test_nothing_of_a_message_over_max_is_buffered(framing: Framing) -> None:
    """While a message far over ``max`` arrives, at most ``max`` bytes and a mark are held."""
    stream = wide(framing).frame(b"y" * 250)
    state = framing.fresh()
    try:
        for byte in single(stream):
            assert state.receive(byte) == []
            assert state.held <= framing.max + 4
    except MessageTooLong:
        assert framing.oversize == "close"
    else:
        assert (framing.oversize, state.skipped) == ("skip", 1)
        state.finish()


@pytest.mark.parametrize("framing", [each for each in BOUNDED if each.oversize == "skip"], ids=str)
def test_end_inside_a_skipped_message(framing: Framing) -> None:
    """A stream that ends inside a skipped message is truncated, and this message does not count as skipped."""
    stream = wide(framing).frame(b"y" * 250)[:-1]
    outcome = same(framing, stream)
    assert outcome == Outcome((), TruncatedMessage, 0)
    state = framing.fresh()
    state.receive(stream)
    with pytest.raises(TruncatedMessage) as caught:
        state.finish()
    assert 245 <= caught.value.value <= 253


def test_skipped_counts_on_from_a_set_value() -> None:
    """`skipped` counts on from the value that was set."""
    state = Lines(max=1, oversize="skip")
    state.receive(b"long\nlong\n")
    assert state.skipped == 2
    state.skipped = 0
    state.receive(b"long\n")
    assert state.skipped == 1


def test_messages_before_the_fault_come_first() -> None:
    """When a chunk has whole messages before a fault, `receive` returns them, and the next call raises."""
    state = Lines(max=3)
    assert state.receive(b"one\ntwo\nthree\nfour\n") == [b"one", b"two"]
    assert isinstance(state.failure, MessageTooLong)
    with pytest.raises(MessageTooLong) as caught:
        state.finish()
    assert caught.value is state.failure


# Sending


@each_framing
@pytest.mark.parametrize(
    "message",
    ["hello", 5, None, bytearray(b"hello"), memoryview(b"hello"), [b"x"]],
    ids=lambda each: type(each).__name__,
)
def test_only_bytes_are_sent(framing: Framing, message: object) -> None:
    """A message that is not `bytes` is not sent, and the error says what to give instead."""
    for send in (framing.frame, lambda message: framing.frame_all([b"ok!", message])):
        with pytest.raises(UnsendableMessage) as caught:
            send(message)
    with pytest.raises(UnsendableMessage, match=f"not {type(message).__name__}: .*codec") as caught:
        framing.frame(message)
    assert ("encode it" in str(caught.value)) == isinstance(message, str)


@each_framing
def test_framed_together(framing: Framing) -> None:
    """`frame_all` gives the bytes of `frame` for each message, joined; without messages it gives no bytes."""
    messages = some_of(framing)
    assert framing.frame_all(messages) == b"".join([framing.frame(message) for message in messages])
    assert framing.frame_all(messages[:1]) == framing.frame(messages[0])
    assert framing.frame_all([]) == b""


class Text(bytes):
    """A subclass of `bytes`."""


@each_framing
def test_kinds_of_bytes(framing: Framing) -> None:
    """A message of a subclass of `bytes` is sent as `bytes` is."""
    message = some_of(framing)[0]
    assert framing.frame_all([Text(message)] * 2) == framing.frame(message) * 2


# State and configuration


@each_framing
def test_fresh_state(framing: Framing) -> None:
    """`fresh` gives the same configuration at the start of a stream, whatever the framing has read."""
    stream, messages = stream_of(framing)
    used = framing.fresh()
    used.receive(stream[:-1])
    used.skipped = 3
    other = used.fresh()
    assert other == used == framing
    assert (other.held, other.skipped, other.failure) == (0, 0, None)
    if not isinstance(framing, Raw):
        assert other.receive(stream) == messages


@each_framing
def test_small_state(framing: Framing) -> None:
    """The state of a connection has slots only, and holds nothing before the first byte and between messages."""
    state = framing.fresh()
    assert not hasattr(state, "__dict__")
    assert sys.getsizeof(state) <= 160
    assert state._held == b""
    stream, _ = stream_of(framing)
    for byte in single(stream):
        state.receive(byte)
    assert state._held is framing.fresh()._held


@each_framing
def test_spec_of_a_framing(framing: Framing) -> None:
    """`str` of a framing is a spec of an equal framing; `repr` is a call that makes one."""
    assert from_string(str(framing)) == framing
    assert eval(repr(framing), {**globals(), "mixed": mixed}) == framing
    assert hash(from_string(str(framing))) == hash(framing)
    assert str(framing.fresh()) == str(framing)


def test_framings_differ() -> None:
    """Framings are equal only if they have the same class and the same configuration."""
    assert len(set(FRAMINGS)) == len(FRAMINGS)
    assert Lines() != Lines(delimiter=b"\n")
    assert Lines(delimiter=b"\n") != Delimited(b"\n")
    assert Varint() != "varint"
    assert LengthPrefixed() == LengthPrefixed(4, "big", 0, 0, 4)


@each_boundary
def test_copies(framing: Framing) -> None:
    """A deep copy of a framing reads on where the original stands in the stream."""
    stream, messages = stream_of(framing)
    for size in range(len(stream)):
        state = framing.fresh()
        before = state.receive(stream[:size])
        assert before + copy.deepcopy(state).receive(stream[size:]) == messages


# Cost


@pytest.mark.exhaustive
@each_large
@pytest.mark.parametrize("size", [1, 2, 100])
def test_unfinished_input_is_compact(framing: Framing, size: int) -> None:
    """The held bytes of an unfinished message grow in one `bytearray`, which is little larger than the bytes."""
    stream = (framing if isinstance(framing, Fixed) else wide(framing)).frame(
        bytes(framing.size) if isinstance(framing, Fixed) else b"x" * 20_000
    )[:15_000]
    state = framing.fresh()
    state.receive(stream[:100])
    state.receive(stream[100:200])
    store = state._held
    assert isinstance(store, bytearray)
    for at in range(200, len(stream), size):
        assert state.receive(stream[at : at + size]) == []
        assert state._held is store
    assert state.held <= len(stream) <= state.held + 100
    assert sys.getsizeof(store) <= 1.2 * len(stream) + 200


@pytest.mark.exhaustive
@each_large
def test_64_mib_in_pieces_of_64_kib(framing: Framing) -> None:
    """A message of 64 MiB takes less than 3 seconds of CPU; joining the buffer for each piece would take twenty."""
    message = b"x" * (1 << 26)
    stream = framing.frame(message)
    state = framing.fresh()
    started = time.process_time()
    got = [each for at in range(0, len(stream), 65536) for each in state.receive(stream[at : at + 65536])]
    spent = time.process_time() - started
    assert got == [message]
    assert spent < 3
