"""The parts that all framings share: the numbers, the checks, and the base class for a framing of a user."""

from __future__ import annotations

import pytest

from tcpapp.errors import InvalidFraming, InvalidState, TruncatedMessage
from tcpapp.framing import DEFAULT_MAX, Framing, Lines
from tcpapp.framing.base import HEADER, quoted
from tcpapp.framing.state import StateReader, StateWriter, pack


def test_default_max() -> None:
    """A message is at most 1 MiB by default."""
    assert DEFAULT_MAX == Lines().max == 1024 * 1024
    assert Lines().oversize == "close"


@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True, None], ids=repr)
def test_wrong_max(value: object) -> None:
    """`max` takes a whole number of bytes from 1 on, and the error says so."""
    with pytest.raises(InvalidFraming, match=rf"^max={value!r}: takes a whole number, 1 or more$"):
        Lines(max=value)


@pytest.mark.parametrize("value", ["drop", "", None, True], ids=repr)
def test_wrong_oversize(value: object) -> None:
    """`oversize` takes "close" or "skip", and the error says so."""
    with pytest.raises(InvalidFraming, match=rf"^oversize={value!r}: takes 'close' or 'skip'$"):
        Lines(oversize=value)


class Pairs(Framing):
    """Messages of two bytes."""

    __slots__ = ("sign",)

    def __init__(self, sign: bytes = b"!", *, max: int = 2) -> None:  # noqa: A002 - the public name
        self.sign = sign
        super().__init__(max=max)

    def receive(self, chunk: bytes) -> list[bytes]:
        self._check()
        chunk = self._with_held(chunk)
        even = len(chunk) // 2 * 2
        self._hold(chunk[even:])
        return [chunk[at : at + 2] for at in range(0, even, 2)]

    def frame(self, message: bytes) -> bytes:
        self._sendable(message)
        return message


def test_a_framing_of_a_user() -> None:
    """A framing of a user defines only `receive` and `frame`; the base class does the rest of the contract."""
    state = Pairs(b"?").fresh()
    assert state.sign == b"?"
    assert state.receive(b"abc") == [b"ab"]
    assert state.held == 1
    assert state == Pairs(b"?") != Pairs()
    assert repr(state) == "Pairs(sign=b'?')"
    assert state.frame_all([b"ab", b"cd"]) == b"abcd"
    with pytest.raises(TruncatedMessage):
        state.finish()


def test_a_fresh_state_has_max_and_oversize() -> None:
    """A fresh state has them also if the framing's ``__init__`` does not take them."""

    class Single(Framing):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__(max=1, oversize="skip")

        def receive(self, chunk: bytes) -> list[bytes]:
            return [chunk[at : at + 1] for at in range(len(chunk))]

        def frame(self, message: bytes) -> bytes:
            self._sendable(message)
            return message

    fresh = Single().fresh()
    assert (fresh.max, fresh.oversize) == (1, "skip")
    assert fresh.frame(b"x") == b"x"


class Counting(Pairs):
    """Drops every third message: its count is state of its own."""

    __slots__ = ("count",)

    def _start(self) -> None:
        super()._start()
        self.count = 0

    def receive(self, chunk: bytes) -> list[bytes]:
        messages = super().receive(chunk)
        before, self.count = self.count, self.count + len(messages)
        return [each for at, each in enumerate(messages, before + 1) if at % 3]


class Written(Counting):
    """Writes its count into its state, and refuses some counts."""

    __slots__ = ()

    def _write_state(self, state: StateWriter) -> None:
        super()._write_state(state)
        state.write_number(self.count)

    def _read_state(self, state: StateReader) -> None:
        super()._read_state(state)
        self.count = state.read_number("count")
        if self.count == 13:
            raise self._impossible("13 messages")
        if self.count == 14:
            raise ZeroDivisionError


def after(state: Pairs, stream: bytes) -> Pairs:
    """Return the framing after it has read `stream`."""
    state.receive(stream)
    return state


def test_the_state_of_a_framing_of_ones_own() -> None:
    """A framing with only held bytes needs nothing more for `dump` and `load`."""
    state = after(Pairs(b"?").fresh(), b"abc")
    other = Pairs(b"?")
    other.load(state.dump())
    assert (other.held, other.receive(b"d")) == (1, [b"cd"])
    for framing in (Pairs(), Counting(b"?")):
        with pytest.raises(InvalidState, match=r"^a state of Pairs\(sign=b'\?'\); here it is loaded into"):
            framing.load(state.dump())


def test_the_most_that_a_framing_of_ones_own_holds() -> None:
    """A framing can hold ``max`` and a header; with more held bytes it is neither dumped nor loaded."""
    state = Pairs()
    state._held = b"x" * (2 + HEADER)
    state.load(state.dump())
    state._held += b"x"
    hooks = "_write_state, _read_state and _most_held"
    text = (
        rf"^Pairs\(\) would not load its own state \(see its {hooks}\): {3 + HEADER} bytes held: no state of Pairs\(\)"
    )
    with pytest.raises(InvalidState, match=text):
        state.dump()


def test_state_of_its_own_is_not_lost() -> None:
    """A framing is not dumped while an attribute would be lost; the error names the attribute."""
    assert after(Counting(), b"").dump()
    with pytest.raises(
        InvalidState, match=r"^Counting\(\) would lose count: write it in _write_state, and read it in _read_state$"
    ):
        after(Counting(), b"ab").dump()


def test_state_in_a_dictionary_is_not_lost() -> None:
    """Attributes in a dictionary are found, too, also if a base class writes its own state."""

    class Later(Written):
        more = ""

    state = Later()
    state.more = "more"
    state.other = 1  # type: ignore[attr-defined]  # that is what is tested
    with pytest.raises(InvalidState, match="would lose more, other: "):
        state.dump()


def test_state_of_its_own_is_moved() -> None:
    """A framing that writes and reads its own state goes on where it was."""
    state, other = after(Written(), b"aabbc"), Written()
    other.load(state.dump())
    assert other.receive(b"cdd") == [b"dd"]


@pytest.mark.parametrize(("count", "error"), [(13, InvalidState), (14, ZeroDivisionError)])
def test_a_load_that_fails_leaves_a_fresh_framing(count: int, error: type[Exception]) -> None:
    """A framing is at the start of a stream after any error of its `_read_state`."""
    own = StateWriter()
    for number in (2, count):
        own.write_number(number)
    state = after(Written(), b"aab")
    with pytest.raises(error):
        state.load(pack("Written()", own.joined(), b"x"))
    assert (state.count, state.held, state.skipped) == (0, 0, 0)


def test_a_count_that_has_no_number_is_not_dumped() -> None:
    """A count that no state can have, set by other code, is refused."""
    state = Pairs()
    state.skipped = -1
    with pytest.raises(InvalidState, match=r"^-1: a number in a state is whole, 0 to"):
        state.dump()


def test_the_base_alone_is_no_framing() -> None:
    """A framing without `receive` and `frame` cannot be created."""
    with pytest.raises(TypeError, match="abstract"):
        Framing()


def test_quoted() -> None:
    """`quoted` escapes and cuts the bytes of a peer for the text of an error."""
    assert quoted(b"\x1b[2J\r\n") == r"b'\x1b[2J\r\n'"
    assert quoted(b"x" * 17) == "b'xxxxxxxxxxxxxxxx'…"
