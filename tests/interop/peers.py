"""
Twisted's own receivers as peers: servers that answer in capitals, and clients that keep the messages they receive.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.basic import (
    Int8StringReceiver,
    Int16StringReceiver,
    Int32StringReceiver,
    LineReceiver,
    NetstringReceiver,
)


class Strings:
    """
    The common base of the receivers of strings and of lines. With `upper` it answers in capitals; it keeps all
    messages.
    """

    def __init__(self, upper: bool, expected: int) -> None:
        self.upper = upper
        self.expected = expected
        self.came: list[bytes] = []
        self.all_came: Deferred[list[bytes]] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def stringReceived(self, string: bytes) -> None:
        if self.upper:
            self.say(string.upper())
        self.came.append(string)
        if len(self.came) == self.expected:
            self.all_came.callback(self.came)

    def say(self, string: bytes) -> None:
        self.sendString(string)

    def connectionLost(self, reason: Any) -> None:
        self.ended.callback(None)


class Lines(Strings, LineReceiver):
    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        self.stringReceived(line)

    def say(self, string: bytes) -> None:
        self.sendLine(string)


class CarriageReturnLines(Lines):
    delimiter = b"\r\n"


class Int8(Strings, Int8StringReceiver):
    pass


class Int16(Strings, Int16StringReceiver):
    pass


class Int32(Strings, Int32StringReceiver):
    pass


class Netstrings(Strings, NetstringReceiver):
    pass


PEERS = {
    "int8": Int8,
    "int16": Int16,
    "int32": Int32,
    "netstring": Netstrings,
    r"line:delimiter=\n": Lines,
    r"line:delimiter=\r\n": CarriageReturnLines,
    "line": Lines,
}
"""Twisted's receivers, each by the spec of the tcpapp framing that is the same on the wire."""


class PeerFactory(Factory):
    """A factory of peers of one kind. `made` lists the peers it has made."""

    noisy = False

    def __init__(self, kind: Any, upper: bool, expected: int) -> None:
        self.kind = kind
        self.upper = upper
        self.expected = expected
        self.made: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        peer = self.kind(self.upper, self.expected)
        self.made.append(peer)
        return peer
