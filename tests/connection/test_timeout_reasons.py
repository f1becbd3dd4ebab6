"""The reason of a connection that a timeout ends."""

from __future__ import annotations

import pytest

from tcpapp.close_reason import EndedBy
from tcpapp.connection.timeout_reasons import REASONS, reason_of, unread
from tcpapp.limits import Timeouts, numbers_of


def test_every_wait_is_a_number_that_can_be_turned() -> None:
    """Under its own name."""
    assert set(REASONS) <= {each.name for each in numbers_of(Timeouts)}


@pytest.mark.parametrize("wait", sorted(REASONS))
def test_a_reason_tells_the_wait_and_its_seconds(wait: str) -> None:
    """By us, with the number that decided, and the name of the number."""
    reason = reason_of(wait, 2.5)
    assert (reason.by, reason.value, reason.limit) == (EndedBy.US, 2.5, 2.5)
    assert "2.5 s" in reason.detail
    assert f"({wait})" in reason.detail


def test_a_message_that_was_not_read_on_for_want_of_memory_has_a_reason_of_its_own() -> None:
    """The peer may have sent the whole of it."""
    reason = unread(2.5)
    assert (reason.by, reason.rule, reason.value, reason.limit) == (EndedBy.US, "memory-short", 2.5, 2.5)
    assert "max_buffered" in reason.detail
