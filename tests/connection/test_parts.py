"""The parts of one connection: what it holds of them, and what is left when it has ended."""

from __future__ import annotations

import pytest

from tcpapp.connection.parts import CLOSED_PARTS, Parts
from tcpapp.connection.pause_flags import CONNECTION_CLOSED
from tcpapp.connection.protocol import protocol_of
from tcpapp.connection.settings import Settings
from tests.peers import Peer


def test_a_connection_that_has_ended_holds_its_parts_no_longer() -> None:
    """They hold it, and it is freed with its last holder."""
    peer = Peer()
    connection = peer.connection
    peer.resets()
    gone = [
        protocol_of(connection)._receiver,
        protocol_of(connection)._dispatcher,
        protocol_of(connection)._throttle,
        protocol_of(connection)._buffered,
        protocol_of(connection)._outbox,
    ]
    assert all(part is CLOSED_PARTS for part in gone)


def test_what_is_asked_of_parts_that_are_gone_does_nothing() -> None:
    """Bytes that come after the end are nobody's."""
    peer = Peer()
    peer.resets()
    peer.protocol.dataReceived(b"hello\n")
    assert (peer.connection.unread, peer.protocol._dispatcher.pauses & CONNECTION_CLOSED) == (0, CONNECTION_CLOSED)
    assert (CLOSED_PARTS.update(), CLOSED_PARTS.notify_conversation()) == (None, None)


def test_parts_alone_settle_nothing() -> None:
    """That is for the connection above them."""
    with pytest.raises(NotImplementedError):
        Parts(Settings()).connection  # noqa: B018 - to ask is the test
    with pytest.raises(NotImplementedError):
        Parts(Settings()).settle(1)
