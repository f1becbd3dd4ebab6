"""The proxy between protocols in memory: a `Wire` on each side of it, and one clock for all."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from tcpapp.testing.contract import HalfCloseableEnd
from tcpapp.testing.faultproxy import FaultProxy
from tcpapp.testing.wire import Wire


@implementer(IListeningPort)
class Port:
    """A port that counts how often it was closed."""

    closed = 0

    def __init__(self, address):
        self.address = address

    def startListening(self):
        raise AssertionError

    def getHost(self):
        return self.address

    def stopListening(self):
        self.closed += 1
        return succeed(None)


@implementer(IStreamServerEndpoint)
class Listens:
    """The proxy's listening endpoint: `Bench.come` connects clients by its factory."""

    def __init__(self, address=None):
        self.address = address or IPv4Address("TCP", "127.0.0.1", 4321)
        self.ports = []
        self.factory = None

    def listen(self, protocolFactory):  # noqa: N803  # Twisted's name
        self.factory = protocolFactory
        self.ports.append(Port(self.address))
        return succeed(self.ports[-1])


@implementer(IStreamClientEndpoint)
class Leads:
    """The proxy's endpoint to the server. `connect` makes a new server of `kind` on a `Wire`, or fails, or waits."""

    def __init__(self, clock, kind, options):
        self.clock = clock
        self.kind = kind
        self.options = options
        self.wires = []
        self.failure = None
        self.waits = False
        self.waiting = []

    def connect(self, protocolFactory):  # noqa: N803  # Twisted's name
        if self.failure is not None:
            return fail(self.failure)
        if self.waits:
            self.waiting.append((Deferred(), protocolFactory))
            return self.waiting[-1][0]
        return succeed(self.join(protocolFactory))

    def join(self, factory):
        protocol = factory.buildProtocol(None)
        self.wires.append(Wire(self.kind(), protocol, clock=self.clock, **self.options))
        return protocol

    def go_on(self):
        """Connect the waiting clients."""
        while self.waiting:
            deferred, factory = self.waiting.pop(0)
            protocol = self.join(factory)
            if not deferred.called:
                deferred.callback(protocol)


class Bench:
    """A started proxy without sockets. `connect` gives the protocols of a client and of its server."""

    def __init__(self, *, kind=HalfCloseableEnd, options=None, server_options=None, **proxy_options):
        self.clock = Clock()
        self.kind = kind
        self.options = options or {}
        self.listens = Listens()
        self.leads = Leads(self.clock, kind, server_options or self.options)
        self.proxy = FaultProxy(self.clock, self.leads, self.listens, **proxy_options)
        self.proxy.start()
        self.wires = []

    def come(self):
        """Connect a client to the proxy, and return its protocol."""
        side = self.listens.factory.buildProtocol(IPv4Address("TCP", "10.0.0.2", 50000 + len(self.wires)))
        client = self.kind()
        self.wires.append(Wire(side, client, clock=self.clock, **self.options))
        return client

    def connect(self):
        client = self.come()
        self.rest()
        return client, self.leads.wires[-1].server

    def rest(self):
        """Run all events that take no time."""
        for _ in range(50):
            self.clock.advance(0)

    def until(self, seconds):
        """Let time pass up to this moment, timer by timer."""
        self.rest()
        while (calls := self.clock.getDelayedCalls()) and calls[0].getTime() <= seconds:
            self.clock.advance(max(0.0, calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(seconds - self.clock.seconds())
        self.rest()

    @property
    def counted(self):
        """Return the proxy's counters of connections."""
        counters = self.proxy.counters
        return {name: getattr(counters, name) for name in ("accepted", "refused", "reset", "cut")}
