"""Twisted's own code runs unchanged in the simulation."""

from __future__ import annotations

import pytest
import trustme
from OpenSSL.SSL import TLS_METHOD, Context
from twisted.application.internet import ClientService
from twisted.internet.defer import DeferredList, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.amp import AMP, Command, Integer
from twisted.protocols.basic import LineReceiver
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.iweb import IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tcpapp.testing.simulation import Simulation, faults


class Shout(LineReceiver):
    """A protocol that answers each line in capitals."""

    def lineReceived(self, line):
        self.sendLine(line.upper())


class Listener(LineReceiver):
    """A protocol that notes the lines it receives."""

    def __init__(self):
        self.lines = []
        self.connected_times = 0

    def lineReceived(self, line):
        self.lines.append(line)


class Sum(Command):
    """The AMP command that adds two numbers."""

    arguments = ((b"a", Integer()), (b"b", Integer()))
    response = ((b"total", Integer()),)


class Adder(AMP):
    """An AMP protocol that answers `Sum`."""

    @Sum.responder
    def sum(self, a, b):
        return {"total": a + b}


def test_tls_runs_in_the_simulation():
    """TLS runs between hosts with real certificates, and its clock is the reactor of its host."""
    authority = trustme.CA()
    server_context, client_context = Context(TLS_METHOD), Context(TLS_METHOD)
    authority.issue_cert("server").configure_cert(server_context)
    authority.configure_trust(client_context)
    with Simulation(6, cuts=0.3) as sim:
        server, client = sim.host("server"), sim.host("client")

        def over_tls(context, protocol, host):
            made = CertificateOptions()
            made._context = context
            return TLSMemoryBIOFactory(made, host is client, Factory.forProtocol(protocol), clock=host.reactor)

        sim.run(serverFromString(server.reactor, "tcp:443").listen(over_tls(server_context, Shout, server)))
        endpoint = clientFromString(client.reactor, "tcp:server:443")
        wrapper = sim.run(endpoint.connect(over_tls(client_context, Listener, client)))
        wrapper.wrappedProtocol.sendLine(b"secret" * 1000)
        sim.run()
        assert wrapper.wrappedProtocol.lines == [b"SECRET" * 1000]
        wrapper.loseConnection()
        sim.run()
        assert sim.left() == ["server: listens on 443"]
    assert "secret" not in str(sim.trace)


@implementer(IBodyProducer)
class Body:
    """The body of an HTTP request: five bytes."""

    length = 5

    def startProducing(self, consumer):
        consumer.write(b"hello")
        return succeed(None)

    def stopProducing(self):
        """Do nothing, since nothing runs."""


def test_a_line_receiver_gets_its_lines_however_they_are_cut():
    """Twisted's `LineReceiver` gets the same lines with 20 seeds, however the network cuts the stream."""
    for seed in range(20):
        with Simulation(seed, cuts=0.5) as sim:
            server, client = sim.host("server"), sim.host("client")
            sim.run(serverFromString(server.reactor, "tcp:79").listen(Factory.forProtocol(Shout)))
            listener = sim.run(clientFromString(client.reactor, "tcp:server:79").connect(Factory.forProtocol(Listener)))
            for word in (b"one", b"two", b"three"):
                listener.sendLine(word)
            sim.run()
            assert listener.lines == [b"ONE", b"TWO", b"THREE"]
            listener.transport.loseConnection()


def test_a_client_service_comes_back_after_a_partition_and_a_restart():
    """
    A `ClientService` reconnects after a partition and a restart. Its random back-off is the same in every run of a
    seed.
    """

    def played():
        with Simulation(8) as sim:

            def boot(host):
                return serverFromString(host.reactor, "tcp:79").listen(Factory.forProtocol(Shout))

            server, client = sim.host("server", boot), sim.host("client")
            service = ClientService(
                clientFromString(client.reactor, "tcp:server:79:timeout=5"),
                Factory.forProtocol(Listener),
                clock=client.reactor,
            )
            service.startService()
            first = sim.run(service.whenConnected())
            sim.partition(server, client)
            server.crash(silently=True)
            first.sendLine(b"lost")
            sim.run(until=30.0)
            sim.heal()
            server.restart()
            sim.run(until=120.0)
            second = sim.run(service.whenConnected())
            assert second is not first
            second.sendLine(b"hello")
            sim.run(until=180.0)
            assert second.lines == [b"HELLO"]
            sim.partition(server)
            server.reset()
            sim.run(until=240.0)
            sim.heal()
            sim.run(service.stopService())
        return sim.trace

    assert played() == played()


def test_amp_answers_through_faults():
    """Twisted's AMP gets a correct reply to each call, through partitions and slow links."""
    for seed in range(10):
        with Simulation(seed) as sim:
            server, client = sim.host("server"), sim.host("client")
            sim.run(serverFromString(server.reactor, "tcp:79").listen(Factory.forProtocol(Adder)))
            amp = sim.run(clientFromString(client.reactor, "tcp:server:79").connect(Factory.forProtocol(AMP)))
            faults(sim, until=20.0, every=1.0, kinds=("partition", "slow"))
            asked = [
                sim.sleep(sim.between(0.0, 20.0)).addCallback(lambda _, a=a, amp=amp: amp.callRemote(Sum, a=a, b=1))
                for a in range(20)
            ]
            results = sim.run(DeferredList(asked))
            assert [result["total"] for _, result in results] == list(range(1, 21))
            amp.transport.loseConnection()


class Page(Resource):
    """A page that is longer than a segment."""

    isLeaf = True

    def render_POST(self, request):
        return request.content.read().upper() * 1000


# Twisted's own readBody warns of Twisted's own transport, on real sockets too (twisted#8227)
@pytest.mark.filterwarnings("ignore:Using readBody")
def test_twisteds_web_server_and_client_talk():
    """Twisted's web client gets two replies from Twisted's web server over one pooled connection."""
    with Simulation(2) as sim:
        server, client = sim.host("server"), sim.host("client")
        site = Site(Page(), reactor=server.reactor)
        port = sim.run(serverFromString(server.reactor, "tcp:80").listen(site))
        pool = HTTPConnectionPool(client.reactor, persistent=True)
        agent = Agent(client.reactor, connectTimeout=5, pool=pool)
        for _ in range(2):
            response = sim.run(agent.request(b"POST", b"http://server/", bodyProducer=Body()))
            assert response.code == 200
            assert sim.run(readBody(response)) == b"HELLO" * 1000
        sim.run(pool.closeCachedConnections())
        sim.run(port.stopListening())
    assert len([line for line in sim.trace if "is connected" in line]) == 1
