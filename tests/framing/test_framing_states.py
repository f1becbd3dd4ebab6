"""The state of every framing as bytes: a stream that is dumped and loaded anywhere goes on as if it had not been."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpapp.errors import InvalidState, UnreadableStream
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
from tcpapp.framing.base import kind_of
from tcpapp.framing.state import MOST, VERSION, StateWriter, pack
from tests.examples import MANY
from tests.framing.streams import BOUNDED, FRAMINGS, MARKS, go_on, moved, read, sendable, single, wide
from tests.framing.test_framing_contract import chunks_of, some_bytes, some_messages, stream_of

each_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=str)
each_skipping = pytest.mark.parametrize("framing", [each for each in BOUNDED if each.oversize == "skip"], ids=str)


def streams_of(framing: Framing) -> list[bytes]:
    """Return streams: messages, messages around one over ``max``, bytes with a meaning, bytes without one."""
    stream, _ = stream_of(framing)
    over = wide(framing).frame(b"y" * 25) if framing in BOUNDED else b""
    return [stream, stream + over + stream, MARKS, b"\xf7" * 40]


def dumped(framing: Framing, stream: bytes) -> bytes:
    """Return the state of `framing` after `stream`."""
    state = framing.fresh()
    state.receive(stream)
    return state.dump()


# Dump and load


@pytest.mark.exhaustive
@each_framing
def test_moved_at_every_cut(framing: Framing) -> None:
    """Dumped and loaded at any place, or after every byte, a stream gives the same messages, failures and skips."""
    for stream in streams_of(framing):
        for place in range(len(stream) + 1):
            chunks = [stream[:place], stream[place:]]
            assert read(framing, chunks, moved) == read(framing, chunks)
        for chunks in (single(stream), [b"", *single(stream), b""]):
            assert read(framing, chunks, moved) == read(framing, chunks)


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_any_stream_moved_at_any_cuts(framing: Framing, data: st.DataObject) -> None:
    """Any bytes give the same outcome if they are dumped and loaded at any cuts, or after every byte."""
    pieces = data.draw(some_messages)
    framed = [wide(framing).frame(each) if sendable(wide(framing), [each]) else each for each in pieces]
    stream = b"".join(data.draw(st.lists(st.sampled_from([*framed, *pieces, b""]), max_size=8)))
    chunks = data.draw(chunks_of(stream))
    assert read(framing, chunks, moved) == read(framing, chunks)
    assert read(framing, single(stream), moved) == read(framing, single(stream))


@pytest.mark.exhaustive
@each_skipping
def test_moved_inside_a_skipped_message(framing: Framing) -> None:
    """The rest of a skipped message is skipped after the load, and counted once."""
    _, messages = stream_of(framing)
    whole, over = framing.frame_all(messages), wide(framing).frame(b"y" * 250)
    for place in range(1, len(over)):
        state = framing.fresh()
        state.receive(over[:place])
        state = moved(state)
        assert state.skipped == 0
        assert state.receive(over[place:] + whole) == messages
        assert state.skipped == 1


@each_skipping
def test_the_count_of_skipped_messages_is_moved(framing: Framing) -> None:
    """The count of skipped messages that was not reported yet is there after the load."""
    state = framing.fresh()
    state.receive(wide(framing).frame(b"y" * 250) * 3)
    assert moved(state).skipped == 3


@each_framing
def test_dumping_changes_nothing(framing: Framing) -> None:
    """A dumped framing goes on as one that was not dumped, and still has the same held bytes."""
    stream, _ = stream_of(framing)
    state, other = framing.fresh(), framing.fresh()
    for byte in single(stream):
        assert state.receive(byte) == other.receive(byte)
        held = state._held
        assert state.dump() == state.dump()
        assert state._held is held
    assert state.held == other.held


@each_framing
def test_a_small_state(framing: Framing) -> None:
    """A state has the framing's name, a few numbers, and the held bytes once, unescaped."""
    stream, _ = stream_of(framing)
    between = dumped(framing, stream)
    assert len(between) <= len(kind_of(framing)) + 20
    message = b"\xff\0" * 5000
    large = wide(framing)
    if sendable(large, [message]):
        state = large.fresh()
        state.receive(large.frame(message)[:9000])
        assert bytes(state.beginning) in state.dump()
        assert len(state.dump()) <= len(between) + state.held + 20


# Refused


@each_framing
def test_a_failed_stream_is_not_dumped(framing: Framing) -> None:
    """The error has the text of the failure; a failed framing can load the state of another stream."""
    fresh = framing.fresh().dump()
    state = framing.fresh()
    state.failure = UnreadableStream("some bytes")
    with pytest.raises(InvalidState, match=r"^a stream that has failed cannot be dumped: some bytes$"):
        state.dump()
    state.load(fresh)
    assert state.failure is None


def test_a_failure_that_was_not_raised_yet() -> None:
    """A framing with a failure that the next call will raise is not dumped."""
    state = Lines(max=3)
    assert state.receive(b"one\nlonger\n") == [b"one"]
    with pytest.raises(InvalidState, match="failed"):
        state.dump()


@pytest.mark.exhaustive
@each_framing
def test_a_state_of_another_framing(framing: Framing) -> None:
    """Only a framing of the same class and options loads the state; ``max`` and ``oversize`` can differ."""
    state = framing.fresh().dump()
    for other in FRAMINGS:
        fresh = other.fresh()
        if kind_of(other) == kind_of(framing):
            fresh.load(state)
        else:
            with pytest.raises(InvalidState) as caught:
                fresh.load(state)
            assert str(caught.value) == f"a state of {kind_of(framing)}; here it is loaded into {kind_of(other)}"
    assert "max" not in kind_of(framing)


@pytest.mark.exhaustive
@each_framing
def test_every_truncation_is_refused(framing: Framing) -> None:
    """A state that is cut anywhere, or has one byte more, is refused."""
    stream, _ = stream_of(framing)
    state = dumped(framing, stream[:-1])
    for wrong in [*(state[:size] for size in range(len(state))), state + b"\0"]:
        refuses(framing, wrong)


@each_framing
@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version_is_refused(framing: Framing, version: int) -> None:
    """Version 0 and unknown higher versions are refused."""
    refuses(framing, bytes([version]) + framing.fresh().dump()[1:])


def refuses(framing: Framing, state: bytes) -> None:
    """Check that `load` raises `InvalidState`, also inside a message, and that the framing is fresh afterwards."""
    other = framing.fresh()
    stream, _ = stream_of(framing)
    other.receive(stream[:-1])
    with pytest.raises(InvalidState):
        other.load(state)
    is_fresh(other)


def is_fresh(framing: Framing) -> None:
    """Check that the framing is at the start of a stream."""
    assert framing.dump() == framing.fresh().dump()
    assert (framing.held, framing.unfinished, framing.skipped, framing.failure) == (0, False, 0, None)


def loads(framing: Framing, state: bytes, stream: bytes) -> bool:
    """
    Return whether `framing` loads this `state`.

    If so, check that it dumps the same state again, and reads `stream` within bounds. If not, check that `load` raises
    `InvalidState` and that the framing is fresh afterwards.
    """
    other = framing.fresh()
    refused = None
    try:
        other.load(state)
    except InvalidState as error:
        refused = error
    if refused is not None:
        assert str(refused).isprintable()
        is_fresh(other)
        return False
    assert other.dump() == state
    go_on(other, single(stream))
    return True


@st.composite
def states(draw: st.DrawFn, framing: Framing) -> bytes:
    """Draw a state of the right framing, with any numbers and any held bytes."""
    writer = StateWriter()
    numbers = st.integers(0, 40) | st.integers(0, MOST) | st.sampled_from([1 << 64, 255, 254])
    for number in draw(st.lists(numbers, min_size=1, max_size=6)):
        writer.write_number(number)
    return pack(kind_of(framing), writer.joined(), draw(some_bytes))


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_any_state(framing: Framing, data: st.DataObject) -> None:
    """A state of any numbers and held bytes is refused, or its stream goes on within bounds."""
    loads(framing, data.draw(states(framing)), data.draw(some_bytes))


@pytest.mark.exhaustive
@settings(max_examples=MANY)
@given(framing=st.sampled_from(FRAMINGS), data=st.data())
def test_a_state_that_was_changed_on_the_way(framing: Framing, data: st.DataObject) -> None:
    """A state with bytes changed, cut out or put in is refused, or its stream goes on within bounds."""
    state = bytearray(dumped_of(framing, data.draw(some_bytes)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(state)))
        state[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    loads(framing, bytes(state), data.draw(some_bytes))


def dumped_of(framing: Framing, stream: bytes) -> bytes:
    """Return the state after `stream`; after its first half, and so on, if it cannot be read."""
    try:
        return dumped(framing, stream)
    except (InvalidState, UnreadableStream):
        return dumped_of(framing, stream[: len(stream) // 2])


@pytest.mark.exhaustive
@given(framing=st.sampled_from(FRAMINGS), state=st.binary(max_size=60))
def test_bytes_that_are_no_state(framing: Framing, state: bytes) -> None:
    """Any bytes are refused, or are a state."""
    loads(framing, state, b"")


# Another max, another oversize


def test_another_max() -> None:
    """A state can be loaded with a longer ``max``, and with a shorter one if the message is within it."""
    for made in (Lines, LengthPrefixed, Varint, Netstrings, Slip):
        state = dumped(made(max=20), made(max=20).frame(b"hello")[:-1])
        for most in (5, 30):
            other = made(max=most)
            other.load(state)
            assert other.receive(made(max=20).frame(b"hello")[-1:]) == [b"hello"]


def test_a_max_that_is_too_short() -> None:
    """A state inside a message that is longer than ``max`` is refused; the error shows the framing."""
    for made in (Lines, LengthPrefixed, Varint, Netstrings, Slip):
        state = dumped(made(max=20), made(max=20).frame(b"hello")[:-1])
        with pytest.raises(InvalidState, match=r"no state of \w+\(max=3\); load it into a framing of the same max"):
            made(max=3).load(state)


@each_skipping
def test_a_skipped_message_is_not_accepted_later(framing: Framing) -> None:
    """A state inside a skipped message is refused by a framing that would accept that message, or would close."""
    state = dumped(framing, wide(framing).frame(b"y" * 250)[:-1])
    with pytest.raises(InvalidState, match="no state of"):
        wide(framing).load(state)
    options = {name: getattr(framing, name) for name in framing._defaults}
    with pytest.raises(InvalidState, match="no state of"):
        type(framing)(**{**options, "oversize": "close"}).load(state)


def test_specs_that_differ_in_their_form() -> None:
    """A state is loaded by a framing of another spec if both specs give the same options."""
    for first, second in (("int32", "length"), ("mllp", r"blocks:start=\x0b:end=\x1c\r"), ("line", "line:max=50")):
        from_string(second).load(from_string(first).dump())


# States that no stream leads to


def state_of(framing: Framing, *numbers: int, held: bytes = b"") -> bytes:
    """Return a state with these numbers behind a count of 0 skipped messages."""
    writer = StateWriter()
    for number in (0, *numbers):
        writer.write_number(number)
    return pack(kind_of(framing), writer.joined(), held)


CLOSE, SKIP = Lines(max=3), Lines(max=3, oversize="skip")
WORDS, HL7 = Delimited(b"abab", max=9), Blocks(b"aba", b"ab", max=9)
SHORT, LONG = LengthPrefixed(2, max=9), LengthPrefixed(2, max=9, oversize="skip")
KEPT, BEHIND = LengthPrefixed(1, strip=0, max=9), LengthPrefixed(1, adjust=4, strip=5, max=9)
ODD = LengthPrefixed(1, offset=1, max=9)

POSSIBLE = [
    (CLOSE, [0], b"abc\r"),
    (SKIP, [4], b"\r"),
    (WORDS, [0], b"x" * 9 + b"aba"),
    (HL7, [0, 0], b"ab"),
    (HL7, [0, 1], b"x" * 9 + b"a"),
    (Blocks(b"a" * 99, b"ab", max=2), [0, 0], b"a" * 98),
    (Fixed(3), [4, 0, 0], b"ab"),
    (SHORT, [0, 0, 0, 10], b"\0"),
    (SHORT, [10, 0, 0, 0], b"x" * 8),
    (LONG, [1001, 1000, 1, 0], b""),
    (KEPT, [6, 0, 0, 0], b"\5"),
    (BEHIND, [6, 4, 0, 0], b""),
    (BEHIND, [1, 1, 0, 0], b""),
    (ODD, [0, 0, 0, 0], b"x"),
    (LengthPrefixed(1, offset=200, max=9), [0, 0, 0, 0], b"x" * 200),
    (Varint(), [0, 0, 0], b"\x80\x80"),
    (Netstrings(), [0, 0, 0], b"12"),
    (Netstrings(), [7, 0, 0], b"hello"),
    (Slip(max=9), [0, 1], b"x" * 9),
    (Slip(max=9, oversize="skip"), [10, 1], b""),
    (Cobs(max=9), [0, 5, 1], b"abc"),
    (Cobs(max=9), [0, 1, 0], b""),
]
"""States at the bounds: the numbers of each, and the held bytes."""

IMPOSSIBLE = [
    (Raw(), [], b"x"),  # holds nothing
    (CLOSE, [0], b"abcd"),  # over max
    (CLOSE, [0], b"abcd\r"),
    (CLOSE, [0], b"a\nb"),  # two lines
    (CLOSE, [4], b""),  # skips nothing
    (SKIP, [3], b""),  # not over max
    (SKIP, [4], b"x"),  # holds a part of what is skipped
    (SKIP, [4], b"\n"),  # has ended
    (WORDS, [0], b"xababx"),
    (WORDS, [0], b"x" * 10 + b"aba"),
    (HL7, [0, 2], b""),  # a flag is 0 or 1
    (HL7, [0, 0], b"x"),  # begins no message
    (HL7, [0, 0], b"aba"),  # has begun one
    (Blocks(b"aba", b"ab", max=9, oversize="skip"), [10, 0], b""),  # skips between two messages
    (HL7, [0, 1], b"xab"),  # has ended
    (Fixed(3), [0, 0, 0], b"a"),  # held, and nothing is wanted
    (Fixed(3), [4, 0, 0], b""),  # the other way round
    (Fixed(3), [4, 0, 0], b"abc"),  # whole
    (Fixed(3), [3, 0, 0], b"a"),  # of another size
    (SHORT, [0, 1, 0, 0], b""),  # discards in no message
    (SHORT, [0, 0, 0, 0], b"\0\1"),  # a whole header
    (SHORT, [0, 0, 0, 0], b"\0\x0a"),  # and of a message over max
    (SHORT, [0, 0, 0, 0], b"\0\1x"),  # a whole frame
    (SHORT, [11, 0, 0, 0], b""),  # over max
    (SHORT, [11, 10, 1, 0], b""),  # skips nothing
    (SHORT, [10, 0, 0, 0], b"x" * 9),  # whole
    (SHORT, [10, 1, 0, 0], b""),  # discards from a message that is not skipped
    (SHORT, [0, 0, 0, 11], b""),  # a run of messages over max
    (LengthPrefixed(2), [0, 0, 0, 1026], b""),  # or over the longest in a run
    (LONG, [1001, 0, 1, 0], b""),  # all of it was discarded
    (LONG, [1001, 1001, 1, 0], b""),  # more than all of it
    (LONG, [1001, 1000, 1, 0], b"x"),  # holds a part of what is skipped
    (LONG, [1001, 1000, 0, 0], b""),  # says that it is not skipped
    (LONG, [6, 5, 1, 0], b""),  # says that it is
    (KEPT, [6, 0, 0, 0], b""),  # without the header that it keeps
    (BEHIND, [6, 5, 0, 0], b""),  # discards more than is to be stripped
    (BEHIND, [6, 2, 0, 0], b"x"),  # has a part of the message before that
    (ODD, [0, 0, 0, 1], b"x"),  # has no runs
    (Varint(), [0, 0, 0], b"\x80\0"),  # malformed
    (Varint(), [0, 0, 0], b"\5"),  # whole
    (Netstrings(), [0, 0, 0], b"1x"),
    (Netstrings(max=9), [0, 0, 0], b"10"),  # over max already
    (Slip(max=9), [0, 0], b"x" * 10),
    (Slip(max=9), [0, 2], b""),
    (Slip(max=9, oversize="skip"), [10, 0], b"x"),
    (Slip(max=9, oversize="skip"), [9, 0], b""),
    (Cobs(), [0, 256, 0], b"x" * 255),  # no byte
    (Cobs(max=9), [0, 5, 5], b""),  # more than its block
    (Cobs(max=9), [0, 5, 1], b"ab"),  # less than of its block
    (Cobs(max=9), [0, 0, 0], b"x"),  # held, and no block
    (Cobs(max=9, oversize="skip"), [10, 0, 0], b""),  # skips, and no block
]
"""States with a number out of range, with values that contradict each other, or with too many held bytes."""


@pytest.mark.parametrize(("framing", "numbers", "held"), POSSIBLE, ids=repr)
def test_a_state_that_a_stream_leads_to(framing: Framing, numbers: list[int], held: bytes) -> None:
    """A possible state is loaded, and dumped again unchanged."""
    assert loads(framing, state_of(framing, *numbers, held=held), b"hello")


@pytest.mark.parametrize(("framing", "numbers", "held"), IMPOSSIBLE, ids=repr)
def test_a_state_that_no_stream_leads_to(framing: Framing, numbers: list[int], held: bytes) -> None:
    """An impossible state is refused, and the framing is fresh afterwards."""
    refuses(framing, state_of(framing, *numbers, held=held))


@each_framing
def test_numbers_too_few_and_too_many(framing: Framing) -> None:
    """A state with a number too few, or too many, is refused."""
    count = len(framing_numbers(framing))
    refuses(framing, state_of(framing, *[0] * count))
    refuses(framing, pack(kind_of(framing), b"\0" * (count - 1), b""))
    is_fresh(framing)


def framing_numbers(framing: Framing) -> bytes:
    """Return the part of a fresh framing's state that it writes itself: each of its numbers is 0."""
    writer = StateWriter()
    framing.fresh()._write_state(writer)
    return writer.joined()


def test_the_error_says_what_is_in_the_state() -> None:
    """The error has the numbers of the state, and says which framing can load it."""
    texts = {
        state_of(SHORT, 0, 0, 0, 0, held=b"\0\1x"): "3 bytes held and 0 to discard of a header, which is not skipped",
        state_of(SHORT, 11, 9, 1, 0): "0 bytes held and 9 to discard of a message of 10, which is skipped",
    }
    for state, text in texts.items():
        with pytest.raises(InvalidState) as caught:
            SHORT.fresh().load(state)
        right = "load it into a framing of the same max and oversize"
        assert str(caught.value) == f"{text}: no state of LengthPrefixed(width=2, max=9); {right}"


def test_held_bytes_over_max_are_refused_at_once() -> None:
    """Held bytes over ``max`` are refused, and the error says how many there are."""
    with pytest.raises(InvalidState, match=r"^1000 bytes held: no state of LengthPrefixed\(max=9\); load it into"):
        LengthPrefixed(max=9).load(state_of(LengthPrefixed(max=9), 0, 0, 0, 0, held=b"x" * 1000))
