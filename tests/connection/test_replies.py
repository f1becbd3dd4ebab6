"""What an app has replied, until it is written: framed together, and in the order in which it came."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.handlers import Decoded, Reply
from tcpapp.connection.outcomes import APP_FAILED
from tcpapp.connection.replies import Replies, as_bytes, replies_of
from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Lines


class Rig:
    """Replies, and what is written of them and reported."""

    is_handling = False

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reported: list[tuple[int, Any]] = []
        outbox: Any = self
        self.replies = Replies(self, Lines(), None, outbox)

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def settle(self, outcome: int, detail: Any = None) -> None:
        self.reported.append((outcome, detail))


@pytest.mark.source
@pytest.mark.parametrize("messages", [[], [b"one"], [b"one", b"two"]])
def test_replies_are_written_as_one(messages: list[bytes]) -> None:
    """Once, and nothing is written where there are none."""
    rig = Rig()
    rig.replies._replies += messages
    rig.replies.flush()
    rig.replies.flush()
    assert rig.written == [b"".join(each + b"\n" for each in messages)][: len(messages)]


@pytest.mark.source
def test_what_comes_before_a_reply_that_cannot_be_sent_is_written() -> None:
    """That one is the app's failure."""
    rig = Rig()
    rig.replies._replies += [b"one", b"t\nwo", b"three"]
    rig.replies.flush()
    [(outcome, failure)] = rig.reported
    assert (rig.written, outcome, failure.type) == ([b"one\n"], APP_FAILED, UnsendableMessage)


def test_the_replies_to_a_batch_are_a_list_or_none() -> None:
    """Of anything that is a message."""
    assert (replies_of(None), replies_of([b"a", Reply(b"b")])) == ([], [b"a", Reply(b"b")])
    with pytest.raises(UnsendableMessage, match="takes a list of replies, or None"):
        replies_of((b"a", b"b"))


def test_messages_wait_as_the_bytes_that_came() -> None:
    """Also messages that are decoded already."""
    plain: list[Any] = [b"1", b"2"]
    assert as_bytes(plain) is plain
    assert as_bytes([b"1", Decoded(b"2", 2)]) == plain
