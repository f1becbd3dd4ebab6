"""Many messages of one connection in one step. The tests of the blocking client show the rest."""

from __future__ import annotations

from tcpapp.connection.many import in_one_write, take_at_hand
from tests.peers import Peer


def test_messages_of_one_call_are_one_write() -> None:
    """All messages that the call sends leave in one write, in their order."""
    peer = Peer()
    connection = peer.connection
    in_one_write(connection, lambda: [connection.send(each) for each in (b"1", b"2")])
    assert peer.transport.writes == [b"1\n2\n"]


def test_a_connection_that_has_ended_has_no_messages_at_hand() -> None:
    """Messages that are left are received one by one, with the error behind them."""
    peer = Peer(None)
    peer.says(b"one\n")
    peer.connection.abort()
    assert take_at_hand(peer.connection, 9, 100) == []


def test_messages_at_hand_are_bounded_by_their_number_and_their_bytes() -> None:
    """Messages in the inbox are taken up to a number, and until they had that many bytes; the others stay there."""
    peer = Peer(None)
    peer.says(b"one\ntwo\nthree\nfour\n")
    assert take_at_hand(peer.connection, 1, 100) == [b"one"]
    assert take_at_hand(peer.connection, 9, 4) == [b"two", b"three"]
    assert take_at_hand(peer.connection, 9, 100) == [b"four"]
    assert take_at_hand(peer.connection, 9, 100) == []
