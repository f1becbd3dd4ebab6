"""Protocols and producers for the tests of the fake transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.testing import AccumulatingProtocol
from twisted.protocols.basic import LineReceiver

from tcpapp.testing.transport import FakeTransport

if TYPE_CHECKING:
    pass


HIGH = FakeTransport.bufferSize


class Producer:
    """A producer that notes which of its methods are called. When it is resumed, it writes the next of its pieces."""

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
    """An ordinary protocol, which tests often run on a `StringTransport`."""

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


def connected(**options: object) -> tuple[AccumulatingProtocol, FakeTransport]:
    """Return a protocol and the fake transport that it is connected to."""
    protocol = AccumulatingProtocol()
    return protocol, FakeTransport(protocol=protocol, **options)
