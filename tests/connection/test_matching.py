"""Replies of the peer are found among the received messages, and the order of all messages is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tcpapp.connection.matching import Matching
from tcpapp.framing import Lines
from tests.peers import Peer, outcome


class Noted:
    """An app that notes its messages, and the test notes the replies to requests in the same list."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def received(self, message: bytes, connection: Any) -> None:
        self.seen.append(message)


def test_messages_behind_a_reply_go_to_the_app() -> None:
    """The first message of a chunk answers the waiting request, and the app gets the others."""
    app = Noted()
    peer = Peer(app)
    told = outcome(peer.connection.request(b"who"), lambda _: app.seen.append("answered"))
    peer.says(b"me\none\ntwo\n")
    assert (told, app.seen) == ([b"me"], ["answered", b"one", b"two"])


def test_the_app_gets_the_messages_before_a_reply_first() -> None:
    """With keys, the app gets the messages before a reply, and then the request fires."""
    app = Noted()
    peer = Peer(app, key=lambda message: message if message == b"me" else None)
    outcome(peer.connection.request(b"me"), lambda _: app.seen.append("answered"))
    peer.says(b"one\nme\ntwo\n")
    assert app.seen == [b"one", "answered", b"two"]


@pytest.mark.source
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda matching: matching.handle([]), id="handle"),
        pytest.param(lambda matching: matching.reading(), id="reading"),
        pytest.param(lambda matching: matching.reply_taken(), id="reply-taken"),
    ],
)
def test_matching_alone_handles_no_messages(use: Callable[[Matching], object]) -> None:
    """`Matching` has no app: it cannot decode or handle messages, nor keep those before a reply. Its subclass can."""
    connection: Any = None
    matching = Matching(connection, Lines(), None, connection)
    with pytest.raises(NotImplementedError):
        use(matching)
