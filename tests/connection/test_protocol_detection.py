"""Protocol detection: the known first bytes of other protocols are named, and no others."""

from __future__ import annotations

import pytest

from tcpapp import Timeouts
from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.protocol_detection import MOST_BYTES, detect, with_detected
from tcpapp.framing import Lines, from_string
from tests.peers import Peer

CAUSE = CloseReason(EndedBy.US, "malformed-frame", "no frame begins so")

BEGINNINGS = {
    b"\x16\x03\x01\x02\x00\x01": "TLS",
    b"GET /index.html HTTP/1.1\r\n": "HTTP",
    b"PRI * HTTP/2.0\r\n\r\n": "HTTP/2",
    b"HTTP/1.1 400 Bad Request\r\n": "is the other end a server",
    b"AMQP\x00\x00\x09\x01": "AMQP",
    b"SSH-2.0-OpenSSH_9.6\r\n": "SSH",
    b"PROXY UNKNOWN\r\n": "version 1",
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11": "version 2",
    b"\x10\x10\x00\x04MQTT\x04": "MQTT",
    b"*1\r\n$4\r\nPING\r\n": "Redis",
}


@pytest.mark.parametrize(("beginning", "meaning"), BEGINNINGS.items())
def test_a_known_protocol_is_detected(beginning: bytes, meaning: str) -> None:
    """The first `MOST_BYTES` bytes are enough to name a known protocol."""
    assert meaning in (detect(beginning[:MOST_BYTES]) or "")


@pytest.mark.parametrize("beginning", [b"", b"hello\n", b"GETTING THERE", b"\x00\x00\x00\x05hello", b"{}", b"\x16\x04"])
def test_an_unknown_protocol_is_not_detected(beginning: bytes) -> None:
    """An unknown beginning gets no name, because a wrong guess is worse than none."""
    assert detect(beginning) is None
    assert with_detected(CAUSE, beginning, Lines()) is CAUSE


def test_a_detected_protocol_is_in_the_reason() -> None:
    """A detected protocol changes only the text of the reason, and not its rule."""
    found = with_detected(CAUSE, b"AMQP\x00\x00\x09\x01", Lines())
    assert (found.rule, found.detail.startswith("no frame begins so; it begins as an AMQP client")) == (
        CAUSE.rule,
        True,
    )


@pytest.mark.parametrize(
    ("framing", "beginning"),
    [
        ("resp", b"*1\r\n$4\r\nPING\r\n"),
        ("http1", b"GET / HTTP/1.1\r\n"),
        ("http1:side=client", b"HTTP/1.1 200 OK\r\n"),
    ],
)
def test_the_protocol_of_the_framing_is_no_news(framing: str, beginning: bytes) -> None:
    """A port that speaks RESP or HTTP is not said to speak none, and other protocols are named there, too."""
    assert with_detected(CAUSE, beginning, from_string(framing)) is CAUSE
    assert "TLS" in with_detected(CAUSE, b"\x16\x03\x01\x02\x00\x01", from_string(framing)).detail


def test_a_message_that_does_not_end_is_looked_at_too() -> None:
    """A TLS client waits in vain at a port without TLS. The reason of the timeout names TLS."""
    for wait, rule in (("message_timeout", "message-timeout"), ("first_message", "first-message-timeout")):
        peer = Peer(None, timeouts=Timeouts(**{"message_timeout": 0, "first_message": 0, wait: 5}))
        peer.says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        peer.clock.advance(5)
        peer.leaves()
        assert (peer.reason.rule, "TLS" in peer.reason.detail) == (rule, True)
