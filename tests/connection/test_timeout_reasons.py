"""The reasons of connections that a timeout ends."""

from __future__ import annotations

import pytest

from tcpapp.close_reason import EndedBy
from tcpapp.connection.timeout_reasons import REASONS, reason_of, unread
from tcpapp.limits import Timeouts, numbers_of


def test_every_reason_is_of_a_timeout_that_can_be_set() -> None:
    """Each reason has the name of a number in `Timeouts`."""
    assert set(REASONS) <= {each.name for each in numbers_of(Timeouts)}


@pytest.mark.parametrize("wait", sorted(REASONS))
def test_a_reason_has_its_timeout_and_its_seconds(wait: str) -> None:
    """A reason names the timeout and its seconds, and says that we ended the connection."""
    reason = reason_of(wait, 2.5)
    assert (reason.by, reason.value, reason.limit) == (EndedBy.US, 2.5, 2.5)
    assert "2.5 s" in reason.detail
    assert f"({wait})" in reason.detail


def test_a_message_delayed_by_memory_pressure_has_a_reason_of_its_own() -> None:
    """If memory pressure stopped the reading of a message, the reason says so: the peer can have sent all of it."""
    reason = unread(2.5)
    assert (reason.by, reason.rule, reason.value, reason.limit) == (EndedBy.US, "memory-short", 2.5, 2.5)
    assert "max_buffered" in reason.detail
