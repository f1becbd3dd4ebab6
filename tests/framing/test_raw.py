"""Chunks as they come."""

from __future__ import annotations

import pytest

from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Raw


def test_chunk_is_message() -> None:
    """Each chunk is a message; an empty one is none, and the stream may end anywhere."""
    state = Raw()
    assert state.receive(b"hello") == [b"hello"]
    assert state.receive(b"") == []
    state.finish()


def test_chunk_is_not_copied() -> None:
    """A chunk is handed on as the object it came as."""
    chunk = b"hello" * 100
    assert Raw().receive(chunk)[0] is chunk


@pytest.mark.parametrize(("size", "slices"), [(4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
def test_chunk_over_max(size: int, slices: list[int]) -> None:
    """A chunk over ``max`` comes in slices of ``max``."""
    assert [len(each) for each in Raw(max=4).receive(b"x" * size)] == slices


def test_sending() -> None:
    """A message is sent as it is, up to ``max``."""
    framing = Raw(max=5)
    assert framing.frame(b"hello") == b"hello"
    assert framing.frame_all([b"hello", b"", b"you"]) == b"helloyou"
    with pytest.raises(UnsendableMessage):
        framing.frame(b"hello!")
