"""Protocols and factories that note which of their methods are called, and a connection in a simulation."""

from __future__ import annotations

from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory

import tcpapp


def connect(sim, host, endpoint, **options):
    return sim.run(tcpapp.connect(endpoint, reactor=host.reactor, **options))


class Noting(Protocol):
    """A protocol that notes the bytes it gets, and why its connection ended."""

    def __init__(self):
        self.data = b""
        self.reason = None

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.reason = reason.type


class Notes(ServerFactory, ClientFactory):
    """A factory that makes `Noting` protocols, and notes the calls of connectors."""

    noisy = False

    def __init__(self, refuses=None):
        self.made = []
        self.told = []
        self.refuses = refuses

    def doStart(self):
        self.told.append("started")

    def doStop(self):
        self.told.append("stopped")

    def buildProtocol(self, addr):
        if self.refuses is not None:
            return self.refuses()
        self.made.append(Noting())
        return self.made[-1]

    def clientConnectionFailed(self, connector, reason):
        self.told.append(reason.type)

    def clientConnectionLost(self, connector, reason):
        self.told.append(reason.type)
