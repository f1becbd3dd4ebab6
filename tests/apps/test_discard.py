"""Discard: every message is dropped, and none is answered."""

from __future__ import annotations

from tcpapp import MessageServerFactory, State
from tcpapp.apps.discard import Discard, discard
from tests.peers import joined


def test_messages_are_taken_and_not_answered() -> None:
    """A connection can send anything, and gets no reply."""
    client = joined(MessageServerFactory(Discard()))
    client.receive(b"one\ntwo\n\n" * 1000)
    client.reactor.advance(0)  # a share of them in each turn
    assert (client.value(), client.unread, client.connection.state) == (b"", 0, State.OPEN)
    assert client.producerState == "producing"


def test_messages_are_counted_over_all_connections() -> None:
    """One instance serves all connections: its count is theirs together."""
    app = Discard()
    factory = MessageServerFactory(app)
    for _ in range(2):
        joined(factory).receive(b"one\ntwo\n")
    assert app.messages == 4


def test_what_is_served_is_an_instance() -> None:
    """The app of that name is ready to serve all connections."""
    assert isinstance(discard, Discard)
