"""The examples in the docstrings of the calls that change what a connection speaks."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from typing_extensions import override

from tcpapp import Connection, Timeouts
from tcpapp.connection.upgrades import Upgrades
from tests.peers import Peer

QUIET = Timeouts(first_message=0, idle=0)


class ChatProtocol(Protocol):
    """Any protocol of Twisted's."""

    @override
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"chat:" + data)  # type: ignore[union-attr]


class Example:
    """The examples of `switch` and `take_over`, in one app."""

    def received(self, message: bytes, connection: Any) -> bytes:
        if message == b"RAW":
            connection.switch("raw")
            return b"OK"  # still a line; what `send` sends from now on is raw
        if message == b"CHAT":
            connection.take_over(ChatProtocol())
            return b"OK"  # it is sent before the protocol gets the transport
        return message


def test_a_connection_has_the_calls() -> None:
    """Every connection can change what it speaks."""
    assert issubclass(Connection, Upgrades)
    assert {name for name in vars(Upgrades) if not name.startswith("_")} == {"start_tls", "switch", "take_over"}


def test_the_example_of_switch_does_what_it_says() -> None:
    """The reply is a line, and what comes behind the message is raw."""
    peer = Peer(Example(), timeouts=QUIET)
    peer.says(b"hi\nRAW\na\nb")
    assert peer.hears() == b"hi\nOK\na\nb"


def test_the_example_of_take_over_does_what_it_says() -> None:
    """The reply is sent before the protocol gets the transport, and the bytes behind the message."""
    peer = Peer(Example(), timeouts=QUIET)
    peer.says(b"hi\nCHAT\na\nb")
    assert peer.hears() == b"hi\nOK\nchat:a\nb"
