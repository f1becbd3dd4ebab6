"""The parts that all framings share: the numbers, the checks, and the base class for a framing of a user."""

from __future__ import annotations

import pytest

from tcpapp.errors import InvalidFraming, TruncatedMessage
from tcpapp.framing import DEFAULT_MAX, Framing, Lines
from tcpapp.framing.base import quoted


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
    """Also where they are no arguments of the framing's ``__init__``."""

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


def test_the_base_alone_is_no_framing() -> None:
    """A framing without `receive` and `frame` cannot be created."""
    with pytest.raises(TypeError, match="abstract"):
        Framing()


def test_quoted() -> None:
    """`quoted` escapes and cuts the bytes of a peer for the text of an error."""
    assert quoted(b"\x1b[2J\r\n") == r"b'\x1b[2J\r\n'"
    assert quoted(b"x" * 17) == "b'xxxxxxxxxxxxxxxx'…"
