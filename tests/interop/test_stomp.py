"""ncat sends the frames of the STOMP specification to a small broker of tcpapp."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import tcpapp
from tcpapp.framing.stomp import StompFrame
from tests.patience import PATIENCE


class Broker:
    """One connection of a broker that sends each message back to its subscribers on the same connection."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, str] = {}
        self.sent = 0

    def received(self, frame: StompFrame, connection: tcpapp.Connection) -> None:
        headers = frame.headers
        if frame.command in ("CONNECT", "STOMP"):
            connection.send(StompFrame("CONNECTED", {"version": "1.2"}))
        elif frame.command == "SUBSCRIBE":
            self.subscriptions[headers["destination"]] = headers["id"]
        elif frame.command == "SEND" and headers["destination"] in self.subscriptions:
            self.sent += 1
            kept = {name: value for name, value in headers.items() if name not in ("receipt", "content-length")}
            own = {"subscription": self.subscriptions[headers["destination"]], "message-id": str(self.sent)}
            connection.send(StompFrame("MESSAGE", {**kept, **own}, frame.body))
        if "receipt" in headers:
            connection.send(StompFrame("RECEIPT", {"receipt-id": headers["receipt"]}))
        if frame.command == "DISCONNECT":
            connection.close()


CONVERSATION = b"""CONNECT
accept-version:1.2
host:stomp.github.org

\0
SUBSCRIBE
id:0
destination:/queue/foo
ack:client

\0
SEND
destination:/queue/foo
content-type:text/plain

hello queue a
\0

SEND
destination:/queue/foo
content-length:3
odd\\cname:a\\nb

a\0b\0
DISCONNECT
receipt:77

\0"""

REPLIES = (
    b"CONNECTED\nversion:1.2\n\n\0"
    b"MESSAGE\ndestination:/queue/foo\ncontent-type:text/plain\nsubscription:0\nmessage-id:1\n\nhello queue a\n\0"
    b"MESSAGE\ndestination:/queue/foo\nodd\\cname:a\\nb\nsubscription:0\nmessage-id:2\ncontent-length:3\n\na\0b\0"
    b"RECEIPT\nreceipt-id:77\n\n\0"
)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest_twisted.ensureDeferred
async def test_ncat_speaks_with_a_broker(
    line_end: bytes, requires_program: Callable[[str], str], global_reactor: Any
) -> None:
    """A conversation of the specification's frames gets its replies, with LF and with CR LF at the end of lines."""
    path = requires_program("ncat")
    server = await tcpapp.listen("tcp:0:interface=127.0.0.1", Broker, framing="stomp", reactor=global_reactor)
    command = [path, "127.0.0.1", str(server.port)]
    conversation = CONVERSATION.replace(b"\n", line_end).replace(b"queue a" + line_end, b"queue a\n")
    done = await deferToThread(
        subprocess.run, command, input=conversation, capture_output=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == REPLIES
    await server.close()
