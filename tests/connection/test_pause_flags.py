"""The reasons for which no message is handed to an app: each can stand beside every other."""

from __future__ import annotations

from tcpapp.connection import pause_flags

BITS = {name: getattr(pause_flags, name) for name in pause_flags.__all__ if name != "DEAF"}


def test_each_reason_is_a_bit_of_its_own() -> None:
    """So that one may go and the others stay."""
    assert sorted(BITS.values()) == [1 << place for place in range(len(BITS))]


def test_nothing_is_heard_by_one_that_ends_or_has_ended() -> None:
    """Whichever it is."""
    assert pause_flags.DEAF == pause_flags.ENDING | pause_flags.OVER
