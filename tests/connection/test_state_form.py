"""The byte form of a connection's state: sections, messages and facts, and the errors of invalid states."""

from __future__ import annotations

import json
from contextlib import suppress
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.connection.state_form import (
    LONGEST_TIME,
    MAGIC,
    MOST_FACTS,
    Facts,
    pack,
    pack_facts,
    pack_messages,
    unpack,
    unpack_facts,
    unpack_messages,
)
from tcpapp.errors import InvalidState

NAMES = ("facts", "unsent")


def sections(*, facts: bytes = b"{}", unsent: bytes = b"abc") -> dict[str, bytes]:
    """Return the two sections of these tests."""
    return {"facts": facts, "unsent": unsent}


# Sections ------------------------------------------------------------------------------------------------------------


def test_the_form_is_the_documented_one() -> None:
    """A packed state has the bytes that the docstring of the module shows."""
    expected = MAGIC + b"\x00\x03" + b"\x05facts\x00\x00\x00\x00\x00\x00\x00\x02{}"
    assert expected == pack(3, {"facts": b"{}"})


@given(st.integers(0, 65535), st.dictionaries(st.sampled_from(["facts", "inbox", "unsent"]), st.binary()))
def test_sections_are_read_as_they_were_written(version: int, given_sections: dict[str, bytes]) -> None:
    """Sections with any bytes, also empty ones, are read as they were written."""
    state = pack(version, given_sections)
    assert unpack(state, {version: tuple(given_sections)}) == (version, given_sections)


def test_a_version_has_its_own_sections() -> None:
    """A reader of two versions expects the sections of the version that the state has."""
    readable = {1: ("facts",), 2: ("facts", "unsent")}
    assert unpack(pack(1, {"facts": b"{}"}), readable) == (1, {"facts": b"{}"})
    assert unpack(pack(2, sections()), readable) == (2, sections())


@pytest.mark.parametrize("version", [0, 3, 65535])
def test_an_unknown_version_is_refused(version: int) -> None:
    """A state of an unknown version is refused, and the error names the readable versions."""
    with pytest.raises(InvalidState, match=rf"version {version}; this tcpapp reads version 1 or 2$"):
        unpack(pack(version, {}), {1: (), 2: ()})


@pytest.mark.parametrize("state", [b"", b"tcpapp", b"\x80\x04\x95pickle", MAGIC[:-1], MAGIC, MAGIC + b"\x00"])
def test_bytes_that_are_no_state_are_refused(state: bytes) -> None:
    """Bytes that do not begin with the mark of a state are refused, and the error shows them."""
    with pytest.raises(InvalidState, match="no state of a connection: it begins with"):
        unpack(state, {1: ()})


@pytest.mark.parametrize("left", range(1, len(pack(1, sections())) - len(MAGIC) - 2))
def test_a_state_that_was_cut_is_refused(left: int) -> None:
    """A state that is cut at any byte is refused, and the error names a section that is missing."""
    with pytest.raises(InvalidState, match=r"was cut|has no section"):
        unpack(pack(1, sections())[:-left], {1: NAMES})


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        pytest.param(b"\x00", "cut", id="a-byte"),
        pytest.param(b"\x06unsent" + bytes(8), "'unsent' twice", id="twice"),
        pytest.param(b"\x05other" + bytes(8), "unknown section 'other'; version 1 has facts, unsent", id="unknown"),
        pytest.param(b"\x02\xff\xfe" + bytes(8), r"unknown section '\\xff\\xfe'", id="no-text"),
        pytest.param(b"\x05other" + b"\xff" * 8, "unknown section 'other'", id="huge"),
    ],
)
def test_a_state_with_more_bytes_behind_it_is_refused(behind: bytes, words: str) -> None:
    """A state with more bytes, a repeated section or an unknown section is refused."""
    with pytest.raises(InvalidState, match=words):
        unpack(pack(1, sections()) + behind, {1: NAMES})


# Messages ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary()))
def test_messages_are_read_as_they_were_written(messages: list[bytes]) -> None:
    """Messages, also empty ones, are read as they were written, in their order."""
    assert messages == unpack_messages("inbox", pack_messages(messages), longest=1 << 20, most=1 << 20, size=1 << 20)


def test_messages_that_were_cut_are_refused() -> None:
    """Messages that are cut inside one of them are refused. A cut between two messages gives a shorter list."""
    packed = pack_messages([b"ab", b"", b"c"])
    for at in set(range(len(packed))) - {0, 10, 18}:
        with pytest.raises(InvalidState, match=r"inbox: .*cut"):
            unpack_messages("inbox", packed[:at], longest=9, most=9, size=9)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        pytest.param([b"abcd"], r"inbox: a message of 4 bytes; the framing's max is 3", id="long"),
        pytest.param([b""] * 5, r"inbox: more than 4 messages; at most 4 can wait", id="many"),
        pytest.param([b"abc", b"abc"], r"inbox: messages of 6 bytes; at most 5 bytes", id="large"),
    ],
)
def test_more_messages_than_a_connection_can_hold_are_refused(messages: list[bytes], words: str) -> None:
    """A message that is too long, too many messages, and too many bytes are refused, each with its limit."""
    with pytest.raises(InvalidState, match=words):
        unpack_messages("inbox", pack_messages(messages), longest=3, most=4, size=5)


def test_a_huge_length_is_refused() -> None:
    """A huge length is refused before memory is taken for it."""
    with pytest.raises(InvalidState, match="a message of 18446744073709551615 bytes"):
        unpack_messages("inbox", b"\xff" * 8, longest=3, most=4, size=5)


# Facts ---------------------------------------------------------------------------------------------------------------


def facts(**values: Any) -> Facts:
    """Return these values, written as facts and read again."""
    return unpack_facts(pack_facts(values))


@given(st.floats(0, LONGEST_TIME), st.integers(0, 2**63 - 1), st.booleans())
def test_facts_are_read_as_they_were_written(seconds: float, count: int, flag: bool) -> None:
    """Numbers, flags, texts, None and inner facts are read as they were written. Floats keep their exact value."""
    found = facts(left=seconds, count=count, flag=flag, text="ä", none=None, nobody=None, inner={"flag": flag})
    assert found.seconds("left") == seconds
    assert found.seconds_or_none("none") is None
    assert found.count("count") == count
    assert found.flag("flag") is flag
    assert (found.text_or_none("text"), found.text_or_none("nobody")) == ("ä", None)
    inner = found.facts("inner")
    assert inner.flag("flag") is flag
    inner.end()
    found.end()


def test_seconds_can_be_none() -> None:
    """`seconds_or_none` reads None or a number of seconds, and refuses any other value."""
    assert facts(left=1.5).seconds_or_none("left") == 1.5
    with pytest.raises(InvalidState, match="left"):
        facts(left="soon").seconds_or_none("left")


def test_a_signed_number_is_read_within_its_bounds() -> None:
    """`number_or_none` reads None or a number between two bounds, and refuses a number outside them."""
    assert facts(tokens=-3.5).number_or_none("tokens", -10, 10) == -3.5
    assert facts(tokens=None).number_or_none("tokens", -10, 10) is None
    with pytest.raises(InvalidState, match=r"tokens=-11: takes a number from -10 to 10"):
        facts(tokens=-11).number_or_none("tokens", -10, 10)


WRONG: list[Any] = [-1, -0.5, inf, nan, 1e300, 10**400, "1", True, None, [], {}]


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_only_a_number_within_bounds_is_a_number_of_seconds(value: Any) -> None:
    """`seconds` refuses texts, flags, None, numbers below 0, and numbers that are too large."""
    with pytest.raises(InvalidState, match=r"^facts: (left=.*: takes seconds, 0 to 1000000000|.*no JSON)"):
        unpack_facts(json.dumps({"left": value}).encode()).seconds("left")


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, 2**63, "1", True, None, [], {}], ids=str)
def test_only_a_whole_number_is_a_count(value: Any) -> None:
    """`count` refuses any value that is no whole number from 0 to 2**63 - 1."""
    with pytest.raises(InvalidState, match=r"^facts: count=.*: takes a whole number from 0 to 9223372036854775807$"):
        facts(count=value).count("count")


@pytest.mark.parametrize("value", [0, 1, "true", None, [], {}], ids=str)
def test_only_true_and_false_are_flags(value: Any) -> None:
    """`flag` refuses any value but true and false, also 0 and 1."""
    with pytest.raises(InvalidState, match=r"^facts: flag=.*: takes true or false$"):
        facts(flag=value).flag("flag")


@pytest.mark.parametrize("value", [0, True, [], {}], ids=str)
def test_only_a_text_is_a_text(value: Any) -> None:
    """`text_or_none` refuses a value of JSON that is neither a text nor null."""
    with pytest.raises(InvalidState, match=r"^facts: name=.*: takes a text$"):
        facts(name=value).text_or_none("name")


@pytest.mark.parametrize("value", [0, "{}", None, []], ids=str)
def test_only_an_object_holds_facts(value: Any) -> None:
    """`facts` refuses a value of JSON that is no object."""
    with pytest.raises(InvalidState, match=r"^facts: inner=.*: takes an object$"):
        facts(inner=value).facts("inner")


def test_a_fact_that_is_missing_is_named() -> None:
    """The error of a missing fact names the fact, and the facts that should have it."""
    with pytest.raises(InvalidState, match=r"^facts: inner has no 'left'$"):
        facts(inner={}).facts("inner").seconds("left")


def test_a_fact_that_is_unknown_is_named() -> None:
    """The error of an unknown fact names the fact, because a later version can need it."""
    found = facts(inner={"left": 1, "other": 2, "third": 3}).facts("inner")
    found.seconds("left")
    with pytest.raises(InvalidState, match=r"^facts: inner has an unknown 'other'$"):
        found.end()


@pytest.mark.parametrize(
    "section",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 10_000,
        b'{"a":' + b"1" * 5000 + b"}",
    ],
    ids=["empty", "cut", "list", "null", "no-utf8", "nan", "twice", "deep", "long-number"],
)
def test_a_section_that_holds_no_facts_is_refused(section: bytes) -> None:
    """A section of facts that is no valid JSON object is refused, also with repeated names, NaN, or deep nesting."""
    with pytest.raises(InvalidState, match=r"^facts: "):
        unpack_facts(section)


def test_facts_have_a_limit_of_length() -> None:
    """A section of facts over `MOST_FACTS` bytes is refused."""
    with pytest.raises(InvalidState, match=rf"^facts: {MOST_FACTS + 1} bytes; at most {MOST_FACTS}"):
        unpack_facts(b" " * (MOST_FACTS + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_facts_or_refused(section: bytes) -> None:
    """Any bytes are facts or raise `InvalidState`, and no other error."""
    with suppress(InvalidState):
        unpack_facts(section)


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(section: bytes) -> None:
    """Any bytes are messages or raise `InvalidState`, and no other error."""
    with suppress(InvalidState):
        unpack_messages("inbox", section, longest=100, most=100, size=100)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_state_or_refused(tail: bytes) -> None:
    """Any bytes behind a version are a state or raise `InvalidState`, and no other error."""
    with suppress(InvalidState):
        unpack(MAGIC + b"\x00\x01" + tail, {1: NAMES})
