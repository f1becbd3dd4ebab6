"""Records of one size."""

from __future__ import annotations

import pytest

from tcpapp.errors import InvalidFraming, TruncatedMessage, UnsendableMessage
from tcpapp.framing import Fixed
from tests.framing.streams import Outcome, same


def test_records() -> None:
    """The stream is cut into records of `size` bytes, and is truncated if it ends inside a record."""
    assert same(Fixed(5), b"hellothere").messages == (b"hello", b"there")
    assert same(Fixed(5), b"hellothe") == Outcome((b"hello",), TruncatedMessage, 0)
    assert same(Fixed(1), b"abc").messages == (b"a", b"b", b"c")


def test_sending() -> None:
    """A record is sent unchanged; a message of another size is not sent."""
    assert Fixed(5).frame_all([b"hello", b"there"]) == b"hellothere"
    for wrong in (b"", b"hell", b"hello!"):
        for send in (Fixed(5).frame, lambda wrong: Fixed(5).frame_all([b"hello", wrong])):
            with pytest.raises(UnsendableMessage, match=f"a message of {len(wrong)} bytes; a record has 5"):
                send(wrong)


@pytest.mark.parametrize("size", [0, -1, "5", 1.0, None, True], ids=repr)
def test_wrong_size(size: object) -> None:
    """`size` takes a whole number of bytes from 1 on, and the error says so."""
    with pytest.raises(InvalidFraming, match=f"^size={size!r}: takes a whole number, 1 or more$"):
        Fixed(size)


def test_size_over_max() -> None:
    """A `size` over ``max`` is refused, because no record could ever be accepted."""
    assert Fixed(10, max=10).size == 10
    with pytest.raises(InvalidFraming, match=r"^size=11: takes at most max=10 bytes$"):
        Fixed(11, max=10)
