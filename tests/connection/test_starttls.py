"""
TLS in mid-conversation: the plain bytes before it, and its results. Real handshakes are in `tests.transport.tls`.
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
    """Return a peer over a transport with TLS. A test completes the handshake by `handshakeCompleted`."""
    return Peer(app, transport=NotedTransport(tls=True), timeouts=QUIET, **options)


def test_messages_before_tls_are_sent_in_plain_text() -> None:
    """The last message before TLS is sent in plain text. Then the app gets no message until TLS is set up."""
    peer = secure()
    done = outcome(peer.connection.start_tls("context", last=b"go ahead"))
    assert (peer.hears(), peer.transport.tls_context, peer.waits) == (b"go ahead\n", "context", ["tls_handshake"])
    peer.protocol.handshakeCompleted()
    assert (done, peer.waits) == ([None], [])
    peer.says(b"hello\n")
    assert peer.hears() == b"hello\n"


def test_a_handshake_can_take_any_time_without_a_limit() -> None:
    """With `tls_handshake=0` a handshake has no time limit."""
    peer = Peer(echo, transport=NotedTransport(tls=True), timeouts=Timeouts(tls_handshake=0, first_message=0))
    outcome(peer.connection.start_tls("context"))
    assert peer.waits == []


@pytest.mark.parametrize("plain", [b"part", b"whole\n"])
def test_plain_bytes_that_are_left_end_the_connection(plain: bytes) -> None:
    """A part of an earlier message, or a plain message during the handshake, ends the connection."""
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


def test_a_header_in_plain_ends_the_connection() -> None:
    """The header of a message, which the framing does not hold any more, must not come in plain either."""
    peer = secure(None, framing="int32")
    peer.says(b"\x00\x00\x00\x05")
    done = outcome(peer.connection.start_tls("context"))
    assert peer.transport.aborted
    peer.resets()
    assert (peer.reason.rule, [type(each) for each in done]) == ("plain-before-tls", [NotConnected])


def test_a_switch_during_the_handshake_counts_all_plain_bytes() -> None:
    """Plain bytes that another framing reads are found, too, so a switch cannot carry them behind the handshake."""

    def app(message: bytes, connection: Any) -> None:
        connection.start_tls("context", last=b"go").addErrback(lambda _: None)
        connection.switch("int32")

    peer = secure(app)
    peer.says(b"STARTTLS\n\x00\x00\x00\x05")
    peer.protocol.handshakeCompleted()
    assert peer.transport.aborted
    peer.resets()
    assert peer.reason.rule == "plain-before-tls"


def test_a_framing_is_switched_behind_the_handshake() -> None:
    """An app that begins TLS and then switches reads the first message of TLS by the new framing."""
    seen: list[bytes] = []

    async def app(message: bytes, connection: Any) -> bytes | None:
        seen.append(message)
        if message != b"STARTTLS":
            return message
        await connection.start_tls("context", last=b"go")
        connection.switch("netstring")
        return None

    peer = secure(app)
    peer.says(b"STARTTLS\n")
    peer.protocol.handshakeCompleted()
    peer.says(b"2:hi,")
    assert (seen, peer.hears()) == ([b"STARTTLS", b"hi"], b"go\n2:hi,")


def test_unsent_plain_bytes_end_the_connection() -> None:
    """Plain bytes that the peer has not read would be sent with TLS, so the connection is cut."""
    peer = Peer(timeouts=QUIET, transport=NotedTransport(tls=True, peer_reads=False))
    outcome(peer.connection.send(b"x" * 200_000))
    done = outcome(peer.connection.start_tls("context"))
    peer.resets()
    assert (peer.reason.rule, [type(each) for each in done]) == ("tls-failed", [NotConnected])


def test_start_tls_that_is_not_possible_fails_and_changes_nothing() -> None:
    """`start_tls()` fails on a closed connection, without TLS, and with a last message that cannot be sent."""
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


def test_a_connection_that_ends_in_the_handshake_fails_start_tls() -> None:
    """If the connection ends during the handshake, the Deferred of `start_tls()` fires once."""
    peer = secure()
    done = outcome(peer.connection.start_tls("context"))
    peer.resets()
    assert len(done) == 1
