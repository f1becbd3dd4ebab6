"""Raw: each chunk is a message, as it comes."""

from __future__ import annotations

import pytest

from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Raw


def test_chunk_is_message() -> None:
    """Each chunk is a message, except an empty one, and the stream can end anywhere."""
    state = Raw()
    assert state.receive(b"hello") == [b"hello"]
    assert state.receive(b"") == []
    state.finish()


def test_chunk_is_not_copied() -> None:
    """A message is the same object as its chunk."""
    chunk = b"hello" * 100
    assert Raw().receive(chunk)[0] is chunk


@pytest.mark.parametrize(("size", "slices"), [(4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
def test_chunk_over_max(size: int, slices: list[int]) -> None:
    """A chunk over ``max`` gives messages of ``max`` bytes and the rest."""
    assert [len(each) for each in Raw(max=4).receive(b"x" * size)] == slices


def test_sending() -> None:
    """A message of at most ``max`` bytes is sent unchanged."""
    framing = Raw(max=5)
    assert framing.frame(b"hello") == b"hello"
    assert framing.frame_all([b"hello", b"", b"you"]) == b"helloyou"
    with pytest.raises(UnsendableMessage):
        framing.frame(b"hello!")
