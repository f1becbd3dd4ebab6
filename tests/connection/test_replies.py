"""The replies of an app until they are written: framed together, and in order."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.handlers import Decoded, Reply
from tcpapp.connection.outcomes import APP_FAILED
from tcpapp.connection.replies import Replies, replies_of
from tcpapp.errors import UnsendableMessage
from tcpapp.framing import Lines
from tcpapp.framing.decoded import as_bytes


class Rig:
    """Replies, with the bytes that they write and the outcomes that they report."""

    is_handling = False
    write_high = 100

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.messages = 0
        self.reported: list[tuple[int, Any]] = []
        outbox: Any = self
        self.replies = Replies(self, Lines(), None, outbox)

    def write(self, data: bytes, messages: int = 1) -> None:
        self.written.append(data)
        self.messages += messages

    def write_all(self, framed: list[bytes]) -> None:
        self.written += framed
        self.messages += len(framed)

    def settle(self, outcome: int, detail: Any = None) -> None:
        self.reported.append((outcome, detail))


@pytest.mark.source
@pytest.mark.parametrize("messages", [[], [b"one"], [b"one", b"two"]])
def test_replies_are_written_as_one(messages: list[bytes]) -> None:
    """Several replies are one write with their number, and without replies nothing is written."""
    rig = Rig()
    rig.replies._replies += messages
    rig.replies.flush()
    rig.replies.flush()
    assert rig.written == [b"".join(each + b"\n" for each in messages)][: len(messages)]
    assert rig.messages == len(messages)


@pytest.mark.source
def test_replies_that_fit_into_no_single_write_are_framed_one_by_one() -> None:
    """The outbox gets replies over its write mark apart, so that it can cut between them."""
    rig = Rig()
    rig.replies._replies += [b"x" * 50, b"y" * 50]
    rig.replies.flush()
    assert (rig.written, rig.messages) == ([b"x" * 50 + b"\n", b"y" * 50 + b"\n"], 2)


@pytest.mark.source
def test_the_replies_before_an_unsendable_one_are_written() -> None:
    """The replies before an unsendable one are written, and the app has failed."""
    rig = Rig()
    rig.replies._replies += [b"one", b"t\nwo", b"three"]
    rig.replies.flush()
    [(outcome, failure)] = rig.reported
    assert (rig.written, rig.messages) == ([b"one\n"], 1)
    assert (outcome, failure.type) == (APP_FAILED, UnsendableMessage)


@pytest.mark.source
def test_no_reply_is_written_if_the_first_is_unsendable() -> None:
    """Nothing is written behind an unsendable reply, and the app has failed."""
    rig = Rig()
    rig.replies._replies += [b"o\nne", b"two"]
    rig.replies.flush()
    assert (rig.written, [outcome for outcome, _ in rig.reported]) == ([], [APP_FAILED])


@pytest.mark.source
def test_a_reply_object_among_others_is_sent() -> None:
    """A `Reply` with bytes is sent in its place."""
    rig = Rig()
    rig.replies._replies += [Reply(b"one"), b"two"]
    rig.replies.flush()
    assert (b"".join(rig.written), rig.messages, rig.reported) == (b"one\ntwo\n", 2, [])


def test_the_replies_to_a_batch_are_a_list_or_none() -> None:
    """A batch returns a list of messages or `None`. Anything else is refused."""
    assert (replies_of(None), replies_of([b"a", Reply(b"b")])) == ([], [b"a", Reply(b"b")])
    with pytest.raises(UnsendableMessage, match="takes a list of replies, or None"):
        replies_of((b"a", b"b"))


def test_messages_wait_as_bytes() -> None:
    """Messages wait as bytes, even if they are decoded already."""
    plain: list[Any] = [b"1", b"2"]
    assert as_bytes(plain) is plain
    assert as_bytes([b"1", Decoded(b"2", 2)]) == plain
