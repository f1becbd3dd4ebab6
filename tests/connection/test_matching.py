"""Replies of the peer, found among the messages that come: the order of all is kept."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.matching import Matching
from tcpapp.framing import Lines
from tests.peers import Peer, outcome


class Noted:
    """An app that notes what it is handed, beside what its requests are answered."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def received(self, message: bytes, connection: Any) -> None:
        self.seen.append(message)


def test_what_no_request_waits_for_is_the_apps() -> None:
    """In one chunk: the first message answers the request."""
    app = Noted()
    peer = Peer(app)
    told = outcome(peer.connection.request(b"who"), lambda _: app.seen.append("answered"))
    peer.says(b"me\none\ntwo\n")
    assert (told, app.seen) == ([b"me"], ["answered", b"one", b"two"])


def test_the_app_has_what_came_before_a_reply_when_that_is_told() -> None:
    """By key, where messages can stand before it."""
    app = Noted()
    peer = Peer(app, key=lambda message: message if message == b"me" else None)
    outcome(peer.connection.request(b"me"), lambda _: app.seen.append("answered"))
    peer.says(b"one\nme\ntwo\n")
    assert app.seen == [b"one", "answered", b"two"]


@pytest.mark.source
def test_how_messages_are_handled_is_for_the_class_below() -> None:
    """Matching alone has no app."""
    connection: Any = None
    with pytest.raises(NotImplementedError):
        Matching(connection, Lines(), None, connection).handle([])
