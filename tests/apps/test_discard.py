"""Discard: every message is dropped, and none is answered."""

from __future__ import annotations

from tcpapp import MessageServerFactory, State
from tcpapp.apps.discard import Discard, discard
from tests.peers import joined


def test_messages_are_accepted_and_not_answered() -> None:
    """A client can send any messages, gets no reply, and is read from all the time."""
    client = joined(MessageServerFactory(Discard()))
    client.receive(b"one\ntwo\n\n" * 1000)
    client.reactor.advance(0)  # each turn handles a part of the messages
    assert (client.value(), client.unread, client.connection.state) == (b"", 0, State.OPEN)
    assert client.producerState == "producing"


def test_messages_are_counted_over_all_connections() -> None:
    """One instance serves all connections, and counts the messages of all of them."""
    app = Discard()
    factory = MessageServerFactory(app)
    for _ in range(2):
        joined(factory).receive(b"one\ntwo\n")
    assert app.messages == 4


def test_the_app_is_an_instance() -> None:
    """The app `discard` is an instance of `Discard`."""
    assert isinstance(discard, Discard)
