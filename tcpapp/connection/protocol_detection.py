"""
Guesses the protocol of the peer by its first bytes, for the close reason in the log.

It runs only where a stream could not be read, or no whole message came in time. A connection without trouble costs
nothing. The guess changes only the text of the close reason.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tcpapp.close_reason import CloseReason
from tcpapp.framing import Framing

__all__ = ["detect", "with_detected"]

MOST_BYTES = 24
"""Bytes from the beginning of a stream that a hint can need."""

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x16\x03[\x00-\x04]", "a TLS handshake: does the client speak TLS, and this port not? (tls:)", ""),
    (
        rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) \S",
        "an HTTP request: this port speaks no HTTP",
        "http1",
    ),
    (rb"PRI \* HTTP/2", "an HTTP/2 connection: this port speaks no HTTP/2", ""),
    (rb"HTTP/1\.[01] ", "an HTTP response: is the other end a server, too?", "http1"),
    (rb"AMQP", "an AMQP client: this port speaks no AMQP", ""),
    (rb"SSH-\d", "an SSH client or server: this port speaks no SSH", ""),
    (rb"PROXY (TCP[46]|UNKNOWN)", "a PROXY header, version 1: is there a proxy before this port? (haproxy:)", ""),
    (rb"\r\n\r\n\x00\r\nQUIT\n", "a PROXY header, version 2: is there a proxy before this port? (haproxy:)", ""),
    (rb"\x10.{1,4}\x00[\x04\x06]MQ", "an MQTT client: this port speaks no MQTT", ""),
    (rb"\*\d+\r\n\$\d", "a Redis client: this port speaks no RESP", "resp"),
)
"""The beginnings of protocols, what they say, and the name of the framing that speaks the protocol."""


def detect(beginning: bytes, framing: str = "") -> str | None:
    """The likely protocol of a stream with this `beginning`; `None` where it is unknown, or what `framing` speaks."""
    for sign, meaning, speaks in _SIGNATURES:
        if re.match(sign, beginning, re.DOTALL):
            return None if speaks and speaks == framing else meaning
    return None


def with_detected(cause: CloseReason, beginning: bytes | bytearray, framing: Framing) -> CloseReason:
    """
    `cause`, with a hint where `beginning` gives one: the first bytes of the stream, or of its unread rest.

    There is no hint of the protocol that `framing` speaks.
    """
    meaning = detect(bytes(beginning[:MOST_BYTES]), framing._name)
    return cause if meaning is None else replace(cause, detail=f"{cause.detail}; it begins as {meaning}")
