"""
TLS in mid-conversation: what can come before it, and what the app learns. Real handshakes are in `tests.transport.tls`.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from tcpapp import MessageServerFactory, State, Telemetry, Timeouts
from tcpapp.apps import echo
from tcpapp.errors import InvalidOption, NotConnected, UnsendableMessage
from tests.peers import NotedTransport, Peer, outcome

QUIET = Timeouts(first_message=0, idle=0)


def secure(app: Any = echo, **options: Any) -> Peer:
    """A peer over a transport that can have TLS; a test completes it by `handshakeCompleted`."""
    return Peer(app, transport=NotedTransport(tls=True), timeouts=QUIET, **options)


def test_what_is_sent_before_is_sent_in_plain() -> None:
    """The last message, too; then the app is handed nothing until TLS is there."""
    peer = secure()
    done = outcome(peer.connection.start_tls("context", last=b"go ahead"))
    assert (peer.hears(), peer.transport.tls_context, peer.waits) == (b"go ahead\n", "context", ["tls_handshake"])
    peer.protocol.handshakeCompleted()
    assert (done, peer.waits) == ([None], [])
    peer.says(b"hello\n")
    assert peer.hears() == b"hello\n"


def test_a_handshake_may_take_any_time_where_there_is_no_limit() -> None:
    """0 is no limit."""
    peer = Peer(echo, transport=NotedTransport(tls=True), timeouts=Timeouts(tls_handshake=0, first_message=0))
    outcome(peer.connection.start_tls("context"))
    assert peer.waits == []


@pytest.mark.parametrize("plain", [b"part", b"whole\n"])
def test_nothing_that_came_in_plain_may_be_left(plain: bytes) -> None:
    """Part of an earlier message, or a whole one that came meanwhile, ends the connection."""
    peer = secure(None)
    if plain == b"part":
        peer.says(plain)
    done = outcome(peer.connection.start_tls("context"))
    if plain != b"part":
        peer.slips_in(plain)
        peer.protocol.handshakeCompleted()
    assert peer.transport.aborted
    peer.resets()
    assert peer.reason.rule == "plain-before-tls"
    assert [NotConnected] == [type(each) for each in done]


def test_bytes_that_the_peer_does_not_take_would_go_out_with_tls() -> None:
    """So it is cut."""
    peer = Peer(timeouts=QUIET, transport=NotedTransport(tls=True, peer_reads=False))
    outcome(peer.connection.send(b"x" * 200_000))
    done = outcome(peer.connection.start_tls("context"))
    peer.resets()
    assert (peer.reason.rule, [type(each) for each in done]) == ("tls-failed", [NotConnected])


def test_what_cannot_be_is_told_and_changes_nothing() -> None:
    """A connection that is not open, a transport without TLS, a last message that cannot be sent."""
    peer = secure()
    plain: Any = MessageServerFactory(echo, telemetry=Telemetry()).buildProtocol(None)
    plain.makeConnection(StringTransport())
    for done, error in (
        (plain.connection.start_tls("context"), InvalidOption),
        (peer.connection.start_tls("context", last=b"two\nlines"), UnsendableMessage),
    ):
        assert [error] == [type(each) for each in outcome(done)]
    assert (peer.connection.state, peer.transport.tls_context) == (State.OPEN, None)
    peer.connection.abort()
    assert [NotConnected] == [type(each) for each in outcome(peer.connection.start_tls("context"))]


def test_a_connection_that_ends_meanwhile_fails_its_waiters() -> None:
    """Once."""
    peer = secure()
    done = outcome(peer.connection.start_tls("context"))
    peer.resets()
    assert len(done) == 1
