"""Protocols and producers of the tests of the fake transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.testing import AccumulatingProtocol
from twisted.protocols.basic import LineReceiver

from tcpapp.testing.transport import FakeTransport

if TYPE_CHECKING:
    pass


HIGH = FakeTransport.bufferSize


class Producer:
    """Notes what it is told; asked for more, it writes the next of its pieces."""

    def __init__(self, transport: FakeTransport, *pieces: bytes) -> None:
        self.transport = transport
        self.pieces = list(pieces)
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.pieces:
            self.transport.write(self.pieces.pop(0))

    def stopProducing(self) -> None:
        self.told.append("stop")


class Echo(LineReceiver):
    """An ordinary protocol, tested as with a `StringTransport`."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


def connected(**options: object) -> tuple[AccumulatingProtocol, FakeTransport]:
    """Return a protocol and its transport."""
    protocol = AccumulatingProtocol()
    return protocol, FakeTransport(protocol=protocol, **options)
