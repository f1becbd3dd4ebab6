"""The state of a connection as bytes: any bytes are a state that fits the settings, or are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp import Limits
from tcpapp.connection.connection_state import (
    LARGEST_CHUNK,
    READABLE,
    VERSION,
    ConnectionState,
    pack_state,
    unpack_state,
)
from tcpapp.connection.deadline_state import DeadlineState, Wait
from tcpapp.connection.outbox_state import OutboxState
from tcpapp.connection.settings import Settings
from tcpapp.connection.state_form import LONGEST_TIME, pack, pack_messages, unpack
from tcpapp.connection.throttle_state import MOST_TOKENS, ThrottleState
from tcpapp.errors import InvalidState
from tcpapp.framing import from_string
from tcpapp.limits import Timeouts
from tcpapp.proxy_protocol import Header, HeaderReader, frame
from tests.connection.moves import Moving, shout

HEADER = HeaderReader().receive(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n")
OPTIONS: dict[str, Any] = {
    "timeouts": Timeouts(heartbeat=20, max_age=300),
    "heartbeat": b"ping",
    "limits": Limits(message_rate=10, byte_rate=1000, messages_per_turn=2),
}
SECONDS = st.floats(0, LONGEST_TIME)
COUNTS = st.integers(0, 2**63 - 1)
AGES = st.none() | SECONDS
TOKENS = st.none() | st.floats(-MOST_TOKENS, MOST_TOKENS)


def held_by(spec: str, chunk: bytes) -> bytes:
    """Return the state of a framing that has got this chunk."""
    framing = from_string(spec).fresh()
    framing.receive(chunk)
    return framing.dump()


WAITS = st.dictionaries(
    st.sampled_from(["first_message", "max_age", "message_rate", "byte_rate", "send_progress"]),
    st.builds(Wait, SECONDS, SECONDS),
)
STATES = st.builds(
    ConnectionState,
    codec=st.none(),
    paused=st.booleans(),
    has_requested=st.booleans(),
    deadlines=st.builds(
        DeadlineState,
        waits=WAITS,
        timer=AGES,
        unfinished=AGES,
        peer_silent=SECONDS,
        both_silent=SECONDS,
        received=SECONDS,
        sent=AGES,
        began=SECONDS,
        heartbeat=SECONDS,
        missed=COUNTS,
        read_paused=st.booleans(),
        pressure=AGES,
        was_handling=st.booleans(),
        peer_spoke=st.booleans(),
        wants_all=st.booleans(),
    ),
    throttle=st.builds(ThrottleState, st.lists(st.binary(max_size=20), max_size=5), TOKENS, TOKENS),
    framing=st.binary(max_size=20).map(lambda held: held_by("line", held.replace(b"\n", b""))),
    inbox=st.lists(st.binary(max_size=20).map(lambda message: message.replace(b"\n", b"")), max_size=5),
    outbox=st.builds(OutboxState, st.binary(max_size=100), COUNTS),
    received=st.tuples(COUNTS, COUNTS),
    sent=st.tuples(COUNTS, COUNTS),
    proxy=st.sampled_from([None, HEADER]),
    app=st.just(b""),
)
"""Any state of a connection of lines."""


# What is written is read ---------------------------------------------------------------------------------------------


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: ConnectionState) -> None:
    """Each part of a state is read as it was written."""
    assert unpack_state(pack_state(state), Settings(shout)) == state


@given(STATES)
def test_a_connection_goes_on_from_any_valid_state(state: ConnectionState) -> None:
    """A connection with any valid numbers in its state can be used, ends, and leaves no timer and no counted byte."""
    state = replace(state, throttle=replace(state.throttle, pending=[b"a", b"b"]))
    goes_on(Moving(shout, **OPTIONS), pack_state(state))


def goes_on(moving: Moving, state: bytes) -> None:
    """Load `state` into a new connection, use the connection, and check that nothing is left."""
    process = moving.next_process()
    process.protocol.load(state)
    process.transport.connect(process.protocol)
    process.protocol.dataReceived(b"hello\n")
    process.transport.turn()
    process.connection.resume()
    for _ in range(10):
        process.clock.advance(1)
    process.connection.abort()
    process.transport.turn()
    assert process.factory.settings.memory_budget.total == 0
    assert [each for each in process.clock.getDelayedCalls() if each.func.__qualname__.startswith("Deadlines")] == []


def written(**changes: Any) -> bytes:
    """Return the state of a connection of lines, with some sections changed."""
    _, sections = unpack(pack_state(EXAMPLE), READABLE)
    return pack(VERSION, {**sections, **changes})


EXAMPLE = ConnectionState(
    codec=None,
    paused=True,
    has_requested=False,
    deadlines=DeadlineState(
        waits={"max_age": Wait(99.5, 120.0)},
        timer=1.5,
        unfinished=0.25,
        peer_silent=4.0,
        both_silent=4.0,
        received=0.25,
        sent=None,
        began=20.5,
        heartbeat=1e9,
        missed=0,
        read_paused=False,
        pressure=None,
        was_handling=False,
        peer_spoke=True,
        wants_all=True,
    ),
    throttle=ThrottleState([b"two", b""], None, -3.0),
    framing=held_by("line", b"thr"),
    inbox=[b"one"],
    outbox=OutboxState(b"zero\n", 1),
    received=(4, 20),
    sent=(5, 25),
    proxy=HEADER,
)

FACTS = (
    b'{"codec":null,"paused":true,"has_requested":false,"deadlines":{"waits":{"max_age":{"left":99.5,"of":120.0}},'
    b'"timer":1.5,"unfinished":0.25,"peer_silent":4.0,"both_silent":4.0,"received":0.25,"sent":null,"began":20.5,'
    b'"heartbeat":1000000000.0,"missed":0,"read_paused":false,"pressure":null,"was_handling":false,"peer_spoke":true,'
    b'"wants_all":true},"throttle":{"message_tokens":null,"byte_tokens":-3.0},"unsent_messages":1,'
    b'"received":{"messages":4,"bytes":20},"sent":{"messages":5,"bytes":25}}'
)


def section(name: bytes, content: bytes) -> bytes:
    """Return a section with this name and content, in bytes."""
    return bytes([len(name)]) + name + len(content).to_bytes(8, "big") + content


VERSION_1 = b"".join(
    [
        b"tcpapp-state\n\x00\x01",
        section(b"facts", FACTS),
        section(b"framing", held_by("line", b"thr")),
        section(b"pending", b"\0\0\0\0\0\0\0\x03two\0\0\0\0\0\0\0\0"),
        section(b"inbox", b"\0\0\0\0\0\0\0\x03one"),
        section(b"unsent", b"zero\n"),
        section(b"proxy", b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"),
        section(b"app", b""),
    ]
)


def test_version_1_has_its_documented_bytes() -> None:
    """Version 1 of a state has exactly these bytes, so that another release can read it."""
    assert unpack_state(VERSION_1, Settings(shout)) == EXAMPLE
    assert pack_state(EXAMPLE) == VERSION_1


def test_the_current_version_and_the_one_before_are_read() -> None:
    """A release reads the version that it writes and the version before, and no other."""
    assert set(READABLE) == {max(1, VERSION - 1), VERSION}


# What is refused -----------------------------------------------------------------------------------------------------


def refused(state: bytes, words: str, **options: Any) -> None:
    """Check that `state` is refused with these words."""
    with pytest.raises(InvalidState, match=words):
        unpack_state(state, Settings(shout, **options))


def test_a_state_of_another_framing_is_refused() -> None:
    """A state of another framing is refused, because its unfinished bytes mean something else."""
    refused(pack_state(EXAMPLE), r"framing: a state of Lines\(\).*LengthPrefixed", framing="int32")


def test_a_state_of_another_codec_is_refused() -> None:
    """A state of another codec is refused, because the peer still uses the old one."""
    refused(pack_state(EXAMPLE), r"facts: codec=None: takes the codec of this factory, 'json'$", codec="json")
    refused(pack_state(replace(EXAMPLE, codec="json")), r"codec='json': takes the codec of this factory, None$")
    assert unpack_state(pack_state(replace(EXAMPLE, codec="json")), Settings(shout, codec="json")).codec == "json"


def test_more_than_the_limits_of_the_new_process_is_refused() -> None:
    """A state with more messages or bytes than the new limits allow is refused, and the error names the limit."""
    small: dict[str, Any] = {"limits": Limits(inbox_high=640, inbox_low=0, write_high=10, max_unsent=100)}
    spec = "line:max=1000"
    state = replace(EXAMPLE, inbox=[], framing=held_by(spec, b"thr"))
    most = 640 + 1000 + LARGEST_CHUNK
    for name in ("inbox", "pending"):
        fits = [b"x" * 1000] * (most // 1000)
        for messages, words in (
            (fits, None),
            ([*fits, fits[0]], rf"^{name}: messages of {len(fits) * 1000 + 1000} bytes; at most {most} bytes"),
            ([b"x" * 1001], rf"^{name}: a message of 1001 bytes; the framing's max is 1000$"),
            ([b""] * (LARGEST_CHUNK + 11), rf"^{name}: more than {LARGEST_CHUNK + 10} messages"),
        ):
            changed = {
                "inbox": replace(state, inbox=messages),
                "pending": replace(state, throttle=replace(state.throttle, pending=messages)),
            }[name]
            if words is None:
                assert unpack_state(pack_state(changed), Settings(shout, spec, **small)) == changed
            else:
                refused(pack_state(changed), words, framing=spec, **small)
    assert unpack_state(pack_state(replace(state, outbox=OutboxState(b"x" * 2110, 1))), Settings(shout, spec, **small))
    refused(
        pack_state(replace(state, outbox=OutboxState(b"x" * 2111, 1))),
        r"^unsent: 2111 bytes; at most 2110 can wait in this connection \(max_unsent and one write\)$",
        framing=spec,
        **small,
    )
    refused(written(framing=held_by("line", b"x" * 20_000)), "framing: ", framing="line:max=10")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        pytest.param({"framing": b""}, r"^framing: ", id="framing"),
        pytest.param({"pending": b"\0"}, r"^pending: it was cut", id="pending"),
        pytest.param({"inbox": pack_messages([b"a"])[:-1]}, r"^inbox: it was cut", id="inbox"),
        pytest.param({"proxy": b"PROXY"}, r"^proxy: 5 bytes, and not one whole PROXY header$", id="half-a-header"),
        pytest.param({"proxy": b"GET / HTTP/1.1\r\n"}, r"^proxy: ", id="no-header"),
        pytest.param({"proxy": b"PROXY UNKNOWN\r\nmore"}, r"^proxy: 19 bytes, and not one whole", id="more"),
        pytest.param({"app": b"saved"}, r"^app: the app's own state cannot be loaded by this tcpapp", id="app"),
        pytest.param({"facts": b"{}"}, r"^facts: has no 'codec'$", id="facts"),
        pytest.param(
            {"facts": FACTS.replace(b"{", b'{"more":1,', 1)}, r"^facts: has an unknown 'more'$", id="more-facts"
        ),
        pytest.param({"facts": FACTS.replace(b"null", b"1", 1)}, r"^facts: codec=1: takes a text$", id="no-text"),
    ],
)
def test_a_section_that_is_wrong_is_named(sections: dict[str, bytes], words: str) -> None:
    """The error of an invalid section names the section and what is wrong."""
    refused(written(**sections), words)


def test_a_proxy_header_is_read_as_it_was_written() -> None:
    """A PROXY header without a peer, and a header of version 2, are read as they were written."""
    for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"):
        read = HeaderReader().receive(header)
        assert isinstance(read, Header)
        assert unpack_state(written(proxy=frame(read)), Settings(shout)).proxy == read


# Whatever the bytes are ----------------------------------------------------------------------------------------------


def examples() -> list[bytes]:
    """Return states of connections that have messages and bytes in every part."""
    moving = Moving(shout, peer_reads=False, **OPTIONS)
    moving.says(b"y" * 70_000 + b"\nhello\n")
    moving.says(b"a\nb\nc\nd\ne")
    paused = Moving(shout, **OPTIONS)
    paused.connection.pause()
    paused.says(b"one\ntwo\nthr")
    return [VERSION_1, moving.protocol.dump(), paused.protocol.dump()]


EXAMPLES = examples()
NUMBERS = st.one_of(
    st.sampled_from([-1, 2**31, 2**63, 2**64, 10**30, -(10**30), 1e308, -1e308, 1e9, 1e9 + 1]),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


def goes_on_or_is_refused(state: bytes) -> None:
    """Check that `load` accepts the state, and the connection works, or raises `InvalidState` and nothing else."""
    with suppress(InvalidState):
        goes_on(Moving(shout, **OPTIONS), state)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_state_that_was_cut_is_refused(state: bytes, data: st.DataObject) -> None:
    """A state that is cut at any byte is refused."""
    left = data.draw(st.integers(0, len(state) - 1) | st.integers(max(0, len(state) - 300), len(state) - 1))
    refused(state[:left], ".", **OPTIONS)


@given(st.sampled_from(EXAMPLES), st.binary(min_size=1, max_size=40))
def test_a_state_with_more_bytes_behind_it_is_refused(state: bytes, more: bytes) -> None:
    """A state with any bytes behind its end is refused."""
    refused(state + more, ".", **OPTIONS)


@given(
    st.sampled_from(EXAMPLES), st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), min_size=1, max_size=3)
)
def test_a_state_with_other_bits_is_loaded_or_refused(state: bytes, flips: list[tuple[int, int]]) -> None:
    """A state with some flipped bits is loaded, with other messages at most, or is refused."""
    changed = bytearray(state)
    for place, bits in flips:
        changed[place % len(changed)] ^= bits
    goes_on_or_is_refused(bytes(changed))


@given(st.data(), NUMBERS)
def test_a_state_with_other_facts_is_loaded_or_refused(data: st.DataObject, number: Any) -> None:
    """A state with any fact replaced is loaded or refused, also with numbers that no machine has."""
    facts = json.loads(FACTS)
    place = facts
    while True:
        name = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[name], dict) or data.draw(st.booleans()):
            break
        place = place[name]
    place[name] = number
    goes_on_or_is_refused(written(facts=json.dumps(facts).encode()))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(state: bytes) -> None:
    """Random bytes are refused, because they do not begin as a state does."""
    refused(state, ".")
