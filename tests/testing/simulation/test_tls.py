"""TLS between simulated hosts, in virtual time, by endpoint strings and by factories."""

from __future__ import annotations

import pytest
from service_identity import VerificationError
from twisted.internet.endpoints import TCP4ClientEndpoint, quoteStringArgument, serverFromString, wrapClientTLS
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IReactorSSL, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface.verify import verifyObject

import tcpapp
from tcpapp.connection.protocol import protocol_of
from tcpapp.testing.certificates import Certificates
from tcpapp.testing.simulation import Simulation, tls
from tests.testing.simulation.scenes import upper

pytestmark = [
    pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:X509.* is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Give certificates for the server's name and address."""
    return Certificates(tmp_path_factory.mktemp("certificates"), "server", "10.0.0.1")


@pytest.fixture
def sim():
    """Give a simulation with seed 5."""
    with Simulation(5) as sim:
        yield sim


@pytest.fixture
def ssl_string(certificates):
    """Return an ``ssl:`` endpoint string of the server."""
    return certificates.listen(443, "")


@pytest.fixture
def tls_string(certificates, tmp_path):
    """Return a ``tls:`` endpoint for a folder with two files, each of which holds the key and the chain of one host."""
    for name in ("server.pem", "DEFAULT.pem"):
        (tmp_path / name).write_bytes(certificates.key.read_bytes() + certificates.chain.read_bytes())
    return f"tls:{quoteStringArgument(str(tmp_path))}:443:watch=0"


def served(sim, endpoint, app=upper):
    server = sim.host("server")
    sim.run(tcpapp.listen(endpoint, app, reactor=server.reactor))
    return server, sim.host("client")


@pytest.mark.parametrize("listen", ["ssl_string", "tls_string"])
@pytest.mark.parametrize("connect", ["tls:server:443:trustRoots={}", "ssl:server:443:hostname=server:caCertsDir={}"])
def test_endpoint_strings_speak_tls(sim, certificates, request, listen, connect):
    """
    ``tls:`` and ``ssl:`` endpoints check names, pass messages whole, and close cleanly, as without the simulation.
    """
    _, client = served(sim, request.getfixturevalue(listen))
    endpoint = connect.format(quoteStringArgument(str(certificates.authority.parent)))
    connection = sim.run(tcpapp.connect(endpoint, reactor=client.reactor))
    assert ISSLTransport.providedBy(protocol_of(connection).transport)
    assert sim.run(connection.request(b"x" * 100_000)) == b"X" * 100_000
    assert sim.run(connection.close()).clean
    sim.run()
    assert sim.now < 20


def test_another_servers_certificate_is_refused(sim, certificates, ssl_string):
    """When the certificate is for another name, the connect fails in the handshake with `VerificationError`."""
    _, client = served(sim, ssl_string)
    sim.host("liar")
    sim.run(tcpapp.listen(ssl_string, upper, reactor=sim.hosts[2].reactor))
    connecting = tcpapp.connect(certificates.connect(443, "liar"), reactor=client.reactor)
    with pytest.raises(VerificationError, match=r"DNSMismatch.*liar"):
        sim.run(connecting)


def test_the_reactor_has_listen_ssl_and_connect_ssl(sim, certificates):
    """``listenSSL`` and ``connectSSL`` take the same arguments as Twisted's, and give a port and a connector."""
    server, client = sim.host("server"), sim.host("client")
    assert verifyObject(IReactorSSL, server.reactor)
    shouting = tcpapp.MessageServerFactory(upper, clock=server.reactor)
    port = server.reactor.listenSSL(0, shouting, certificates.server_options(), interface="10.0.0.1")
    asking = tcpapp.MessageClientFactory(clock=client.reactor)
    made = asking.buildProtocol
    built = []
    asking.buildProtocol = lambda address: built.append(made(address)) or built[0]
    options = certificates.client_options("server")
    connector = client.reactor.connectSSL("server", port.getHost().port, asking, options, timeout=5)
    sim.run(until=1.0)
    assert sim.run(built[0].connection.request(b"hello")) == b"HELLO"
    connector.disconnect()
    sim.run(until=10.0)
    assert connector.state == "disconnected"


def test_a_tls_connect_fails_as_a_tcp_connect_does(sim, certificates, ssl_string):
    """A TLS connect to a closed port is refused, and during a partition it fails with `TimeoutError`."""
    server, client = served(sim, ssl_string)
    with pytest.raises(ConnectionRefusedError):
        sim.run(tcpapp.connect(certificates.connect(444, "server"), reactor=client.reactor))
    sim.partition(server)
    with pytest.raises(TimeoutError):
        sim.run(tcpapp.connect(certificates.connect(443, "server"), reactor=client.reactor))


def test_a_tls_factory_that_was_made_before_uses_virtual_time(sim, certificates, global_reactor):
    """A TLS factory that has taken the global reactor as its clock gets its host's reactor when it listens."""
    server, client = sim.host("server"), sim.host("client")
    shouting = TLSMemoryBIOFactory(certificates.server_options(), False, tcpapp.MessageServerFactory(upper))
    assert shouting._clock is global_reactor
    sim.run(serverFromString(server.reactor, "tcp:443").listen(shouting))
    assert shouting._clock is server.reactor
    endpoint = TCP4ClientEndpoint(client.reactor, "server", 443)
    wrapped = wrapClientTLS(certificates.client_options("server"), endpoint)
    connection = sim.run(tcpapp.connect(wrapped, reactor=client.reactor))
    assert sim.run(connection.request(b"hello")) == b"HELLO"


class Aimless(Factory):
    """A factory whose `wrappedFactory` is itself."""

    noisy = False
    protocol = Protocol

    @property
    def wrappedFactory(self):
        return self


def test_a_factory_that_wraps_itself_can_listen(sim):
    """A factory whose `wrappedFactory` is itself can listen, and the search for TLS factories ends."""
    server = sim.host("server")
    server.reactor.listenTCP(443, Aimless())


def test_a_crash_loses_bytes_that_tls_has_gathered(sim, certificates, ssl_string):
    """
    TLS gathers small writes until the next turn of its host's reactor. When the host crashes before, they are lost.
    """
    _, client = served(sim, ssl_string)
    heard: list[bytes] = []
    endpoint = certificates.connect(443, "server")
    connection = sim.run(tcpapp.connect(endpoint, lambda message, _: heard.append(message), reactor=client.reactor))
    sim.run(connection.send(b"hello"))
    sim.run(until=sim.now + 1)
    connection.send(b"and what was never sent")
    client.crash()
    sim.run()
    assert heard == [b"HELLO"]


def test_a_tls_factory_without_a_host_raises_an_error(sim, certificates):
    """
    A TLS factory made in a running simulation does not take the global reactor; without a host its clock raises an
    error.
    """
    with sim.acting():
        factory = TLSMemoryBIOFactory(certificates.server_options(), False, Aimless())
    with pytest.raises(RuntimeError, match=r"on no host: give it clock=host\.reactor"):
        factory._clock.callLater(0, print)


def test_the_simulation_works_without_pyopenssl(monkeypatch, sim):
    """Without pyOpenSSL, which is an extra, the simulation runs, and leaves factories as they are."""
    monkeypatch.setattr(tls, "INSTALLED", False)
    assert tls.timed(Aimless(), sim.host("server").reactor)
    with sim.acting():
        pass
