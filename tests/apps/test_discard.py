"""Discard: every message is taken, and none is answered."""

from __future__ import annotations

from twisted.internet.testing import StringTransport

from tcpapp import MessageServerFactory, State
from tcpapp.apps.discard import Discard, discard


def test_messages_are_taken_and_not_answered() -> None:
    """A connection may say what it likes, and hears nothing."""
    connection = MessageServerFactory(Discard()).buildProtocol(None)
    connection.makeConnection(StringTransport())
    connection.dataReceived(b"one\ntwo\n\n" * 1000)
    assert (connection.transport.value(), connection.state) == (b"", State.OPEN)
    assert connection.transport.producerState == "producing"


def test_messages_are_counted_over_all_connections() -> None:
    """One instance serves all connections: its count is theirs together."""
    app = Discard()
    factory = MessageServerFactory(app)
    for _ in range(2):
        connection = factory.buildProtocol(None)
        connection.makeConnection(StringTransport())
        connection.dataReceived(b"one\ntwo\n")
    assert app.messages == 4


def test_what_is_served_is_an_instance() -> None:
    """The app of that name is ready to serve all connections."""
    assert isinstance(discard, Discard)
