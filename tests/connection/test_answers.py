"""Replies that an app gives later: until the reply, the app gets no further message."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp.connection.answers import Answers
from tcpapp.connection.inbox import MESSAGE_COST
from tcpapp.connection.outcomes import APP_ANSWERED, APP_WAITS
from tcpapp.connection.pause_flags import AWAITING_REPLY, RECEIVE_ONLY
from tcpapp.framing import Lines


class Rig(Answers):
    """Answers that note what they report, what they write, and how often they go on with the next message."""

    is_handling = False

    def __init__(self) -> None:
        self.reported: list[int] = []
        outbox: Any = self
        super().__init__(self, Lines(), None, outbox)
        self.written: list[bytes] = []
        self.went_on = 0

    def continue_handling(self) -> int:
        self.went_on += 1
        return 0

    def write(self, data: bytes, messages: int = 1) -> None:
        self.written.append(data)

    def settle(self, outcome: int, detail: Any = None) -> None:
        self.reported.append(outcome)


@pytest.mark.source
def test_a_reply_is_waited_for() -> None:
    """
    While a reply is awaited, handling pauses and its message is counted.

    The reply is written, and handling goes on.
    """
    rig = Rig()
    later: Deferred[bytes] = Deferred()
    rig._settle(later, [b"hello"])
    assert (rig.pauses, rig.handling_bytes, rig.reported) == (
        RECEIVE_ONLY | AWAITING_REPLY,
        5 + MESSAGE_COST,
        [APP_WAITS],
    )
    later.callback(b"world")
    assert (rig.pauses, rig.handling_bytes, rig.written, rig.went_on) == (RECEIVE_ONLY, 0, [b"world\n"], 1)
    assert rig.reported == [APP_WAITS, APP_ANSWERED, 0]


@pytest.mark.source
def test_a_reply_that_is_there_is_not_waited_for() -> None:
    """A reply that is not a Deferred needs no wait, and `_settle` returns its size."""
    rig = Rig()
    assert (rig._settle(b"hello", [b"x"]), rig.reported, rig.handling_bytes) == (5, [], 0)


@pytest.mark.source
def test_answers_alone_cannot_continue() -> None:
    """`Answers` alone cannot continue handling; its subclass implements that."""
    connection: Any = None
    with pytest.raises(NotImplementedError):
        Answers(connection, Lines(), None, connection).continue_handling()
