"""The reasons for which no message is handed to an app: each can stand beside every other."""

from __future__ import annotations

from tcpapp.connection import pause_flags

BITS = {name: getattr(pause_flags, name) for name in pause_flags.__all__ if name != "NOT_RECEIVING"}


def test_each_reason_is_a_bit_of_its_own() -> None:
    """So that one may go and the others stay."""
    assert sorted(BITS.values()) == [1 << place for place in range(len(BITS))]


def test_no_input_is_read_by_a_connection_that_ends_or_has_ended() -> None:
    """Whichever it is."""
    assert pause_flags.NOT_RECEIVING == pause_flags.NO_MORE_INPUT | pause_flags.CONNECTION_CLOSING
