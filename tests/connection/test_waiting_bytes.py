"""Bytes that wait for the transport: which are joined, and what they count."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from tcpapp.connection.waiting_bytes import WaitingBytes


def test_joined_bytes_have_the_messages_of_both() -> None:
    """Joined bytes keep their order, and their messages are added up."""
    waiting = WaitingBytes(b"one", 1, None)
    waiting.join(b"two", 2)
    waiting.join(b"", 0)
    waiting.join(b"three", 1)
    assert (waiting.data, waiting.messages, waiting.given) == (b"onetwothree", 4, 0)


@pytest.mark.parametrize(
    ("waiter", "given", "most", "takes"),
    [
        pytest.param(None, 0, 5, True, id="room"),
        pytest.param(None, 0, 4, False, id="no-room"),
        pytest.param(None, 1, 5, False, id="begun"),
        pytest.param(Deferred(), 0, 5, False, id="a-send"),
    ],
)
def test_only_whole_messages_without_a_send_are_joined(
    waiter: Deferred[None] | None, given: int, most: int, *, takes: bool
) -> None:
    """Bytes are not joined to the message of a `send`, to a message that has begun to leave, or over the mark."""
    waiting = WaitingBytes(b"one", 1, waiter)
    waiting.given = given
    assert waiting.takes(b"23", most) == takes
