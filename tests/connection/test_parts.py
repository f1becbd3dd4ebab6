"""The parts of one connection, and `CLOSED_PARTS`, which replaces them after the end."""

from __future__ import annotations

import pytest

from tcpapp.connection.parts import CLOSED_PARTS, ClosedReceiver, Parts
from tcpapp.connection.pause_flags import CONNECTION_CLOSED
from tcpapp.connection.protocol import protocol_of
from tcpapp.connection.settings import Settings
from tests.peers import Peer


def test_a_connection_that_has_ended_holds_its_parts_no_longer() -> None:
    """At its end a connection drops its parts, which refer to it, so that it is freed with its last holder."""
    peer = Peer()
    connection = peer.connection
    peer.resets()
    gone = [
        protocol_of(connection)._dispatcher,
        protocol_of(connection)._throttle,
        protocol_of(connection)._buffered,
        protocol_of(connection)._outbox,
    ]
    assert all(part is CLOSED_PARTS for part in gone)
    assert isinstance(protocol_of(connection)._receiver, ClosedReceiver)


def test_calls_of_closed_parts_do_nothing() -> None:
    """After the end, received bytes are ignored, and calls of the closed parts do nothing."""
    peer = Peer()
    peer.resets()
    peer.protocol.dataReceived(b"hello\n")
    assert (peer.connection.unread, peer.protocol._dispatcher.pauses & CONNECTION_CLOSED) == (0, CONNECTION_CLOSED)
    assert (CLOSED_PARTS.update(), CLOSED_PARTS.notify_conversation()) == (None, None)


def test_parts_alone_settle_nothing() -> None:
    """`Parts` cannot settle an outcome; its subclass, the protocol, can."""
    with pytest.raises(NotImplementedError):
        Parts(Settings()).connection  # noqa: B018 - to ask is the test
    with pytest.raises(NotImplementedError):
        Parts(Settings()).settle(1)
