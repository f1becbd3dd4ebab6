"""The flags that keep messages from the app: each can be set beside every other."""

from __future__ import annotations

from tcpapp.connection import pause_flags

BITS = {name: getattr(pause_flags, name) for name in pause_flags.__all__ if name != "NOT_RECEIVING"}


def test_each_reason_is_a_bit_of_its_own() -> None:
    """Each reason has its own bit, so that one can end while the others stay."""
    assert sorted(BITS.values()) == [1 << place for place in range(len(BITS))]


def test_no_input_is_read_by_a_connection_that_ends_or_has_ended() -> None:
    """`NOT_RECEIVING` holds for a connection that is closing, and for one that gets no more input."""
    assert pause_flags.NOT_RECEIVING == pause_flags.NO_MORE_INPUT | pause_flags.CONNECTION_CLOSING
