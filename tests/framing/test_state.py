"""The byte form of a stream's state: numbers and bytes, one behind the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpapp.errors import InvalidState
from tcpapp.framing import Lines, state
from tcpapp.framing.state import MOST, OLDEST, VERSION, StateReader, StateWriter, lost, pack, unpack


def written(*values: int | bytes) -> bytes:
    """Return the form of these numbers and bytes."""
    writer = StateWriter()
    for value in values:
        if isinstance(value, bytes):
            writer.write_bytes(value)
        else:
            writer.write_number(value)
    return writer.joined()


def test_the_picture_is_that_of_a_dump() -> None:
    """The bytes in the docstring of the module are those of a framing that holds three bytes."""
    framing = Lines()
    framing.receive(b"one\nhel")
    picture = " ".join(line[4:22] for line in (state.__doc__ or "").splitlines() if line[:4] == "    ")
    pieces = [each[1:-1].encode() if each[0] == "'" else bytes.fromhex(each) for each in picture.split()]
    assert framing.dump() == b"".join(pieces)


# Numbers and bytes


@pytest.mark.parametrize(
    ("number", "form"),
    [(0, b"\0"), (1, b"\1\1"), (255, b"\1\xff"), (256, b"\2\1\0"), (MOST, b"\x09" + b"\xff" * 9)],
)
def test_a_number(number: int, form: bytes) -> None:
    """A number is its size in bytes, and its bytes, the highest first."""
    assert written(number) == form
    reader = StateReader(form)
    assert reader.read_number("bytes") == number
    reader.finish()


def test_bytes_are_copied_once() -> None:
    """Bytes stand behind their length, unescaped, and a `bytearray` is not copied before the state is joined."""
    assert written(b"hello\0") == b"\1\6hello\0"
    writer = StateWriter()
    held = bytearray(b"hello")
    writer.write_bytes(held)
    assert writer._pieces[-1] is held
    assert writer.joined() == written(b"hello")


@given(st.lists(st.integers(0, MOST) | st.binary(max_size=300) | st.booleans()))
def test_values_are_read_as_they_were_written(values: list[int | bytes]) -> None:
    """A reader returns the written numbers, flags and bytes in their order."""
    reader = StateReader(written(*values))
    for value in values:
        if isinstance(value, bytes):
            assert reader.read_bytes("piece", 300) == value
        elif isinstance(value, bool):
            assert reader.read_flag("flag") is value
        else:
            assert reader.read_number("number") == value
    reader.finish()


@pytest.mark.parametrize("number", [-1, MOST + 1, 1.5, None], ids=repr)
def test_a_number_that_has_no_form(number: object) -> None:
    """A number is whole, 0 or more, and bounded; the error says so."""
    with pytest.raises(InvalidState, match=rf"^{number}: a number in a state is whole, 0 to {MOST}$"):
        StateWriter().write_number(number)  # type: ignore[arg-type]  # that is what is tested


WRONG = {
    b"": "the state ends after 0 bytes, inside wanted; 1 more is needed",
    b"\1": "the state ends after 1 bytes, inside wanted; 1 more is needed",
    b"\3\1": "the state ends after 2 bytes, inside wanted; 2 more are needed",
    b"\x0a" + b"\1" * 10: "wanted: a number of 10 bytes; takes 0 to 9",
    b"\1\0": "wanted: a number that begins with a zero byte; takes its shortest form",
    b"\1\7": "wanted: 7; takes 0 to 6",
}


@pytest.mark.parametrize(("form", "text"), WRONG.items(), ids=repr)
def test_a_form_that_is_no_number(form: bytes, text: str) -> None:
    """Each number has one form, whole and in its range; the error names the number, and says what it takes."""
    with pytest.raises(InvalidState) as caught:
        StateReader(form).read_number("wanted", 6)
    assert str(caught.value) == text


def test_too_many_bytes() -> None:
    """Bytes over the most that are taken are refused before they are copied."""
    with pytest.raises(InvalidState, match=r"^bytes of rest: 4; takes 0 to 3$"):
        StateReader(b"\1\4").read_bytes("rest", 3)


def test_a_flag_is_0_or_1() -> None:
    """A flag that is any other number is refused."""
    with pytest.raises(InvalidState, match=r"^inside: 2; takes 0 to 1$"):
        StateReader(b"\1\2").read_flag("inside")


def test_unread_bytes_are_refused() -> None:
    """A state that is not read to its end is refused."""
    reader = StateReader(b"\0\0\0")
    reader.read_number("first")
    with pytest.raises(InvalidState, match=r"^2 bytes behind the end of the state; it ends after 1$"):
        reader.finish()


# The whole


PACKED = pack("Own(by=b'!')", b"own", b"held")


def test_the_parts_of_a_state() -> None:
    """The framing's own part and the held bytes are read as they were written."""
    assert unpack(PACKED, "Own(by=b'!')") == (b"own", b"held")


@pytest.mark.parametrize("version", [0, VERSION + 1, 255])
def test_another_version(version: int) -> None:
    """A version that this code does not read is refused, by its number."""
    assert max(1, VERSION - 1) == OLDEST
    text = rf"^a state of version {version}; this version of tcpapp reads {OLDEST} to {VERSION}$"
    with pytest.raises(InvalidState, match=text):
        unpack(bytes([version]) + PACKED[1:], "Own(by=b'!')")


def test_another_framing() -> None:
    """The state of another framing is refused; the error shows both."""
    with pytest.raises(InvalidState) as caught:
        unpack(PACKED, "Own()")
    assert str(caught.value) == "a state of Own(by=b'!'); here it is loaded into Own()"


def test_another_framing_is_shown_escaped_and_cut() -> None:
    """The error shows at most one line of another framing's name, whatever bytes it has."""
    with pytest.raises(InvalidState) as caught:
        unpack(pack("\n\x1b" + "x" * 5000, b"", b""), "Own()")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_name_of_any_characters() -> None:
    """A name that is no UTF-8 is compared as it is."""
    assert unpack(pack("Own(by='\udcff')", b"", b""), "Own(by='\udcff')") == (b"", b"")


def test_every_truncation_and_every_longer_state() -> None:
    """A state that is cut anywhere, or has one byte more, is refused."""
    for size in range(len(PACKED)):
        with pytest.raises(InvalidState):
            unpack(PACKED[:size], "Own(by=b'!')")
    with pytest.raises(InvalidState, match=r"^1 bytes behind the end"):
        unpack(PACKED + b"\0", "Own(by=b'!')")


def test_an_empty_state() -> None:
    """A state without a byte is refused: its version is missing."""
    with pytest.raises(InvalidState, match=r"^the state ends after 0 bytes, inside the version; 1 more is needed$"):
        unpack(b"", "Own()")


@pytest.mark.parametrize("value", ["text", None, bytearray(PACKED), memoryview(PACKED)], ids=type)
def test_a_state_is_bytes(value: object) -> None:
    """Any other type is refused, and the error names it."""
    with pytest.raises(InvalidState, match=rf"^a state is bytes, not {type(value).__name__}$"):
        unpack(value, "Own()")  # type: ignore[arg-type]  # that is what is tested


# Attributes that differ


class Slotted:
    """A class with attributes in slots: one is private, and one is never set."""

    __slots__ = ("__private", "never", "value")

    def __init__(self, value: object, private: object = None) -> None:
        self.value = value
        self.__private = private


class Open(Slotted):
    """A class whose instances can have more attributes, in a dictionary."""


def test_attributes_that_differ_are_named() -> None:
    """Attributes that differ between two states are named: in slots, in private slots, and in a dictionary."""
    first, second = Open([1], 5), Open([1], 5)
    assert lost(first, second) == []
    second.value = [2]
    first.more = 3  # type: ignore[attr-defined]  # that is what is tested
    assert lost(first, second) == ["more", "value"]
    assert lost(Slotted(1, 2), Slotted(1, 3)) == ["_Slotted__private"]


def test_the_same_object_does_not_differ() -> None:
    """A value that both states share does not differ, even if it is not equal to itself."""
    nan = float("nan")
    assert lost(Slotted(nan), Slotted(nan)) == []
