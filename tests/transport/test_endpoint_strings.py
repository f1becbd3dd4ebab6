"""Endpoint strings: each valid string gives an endpoint that listens or connects as the string says."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import endpoints
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.python.systemd import ListenFDs
from zope.interface import implementer

from tcpapp.transport.endpoint_strings import client_endpoint, client_string, server_endpoint
from tcpapp.transport.proxy_header import ProxyHeaderServer
from tcpapp.transport.socket_activation import AdoptedEndpoint

LONG = "a" * 63
LONGEST = 107 if sys.platform == "linux" else 103


# Servers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "port", "interface", "backlog"),
    [
        ("tcp:7007", 7007, "", 1024),
        ("tcp:0", 0, "", 1024),
        ("tcp:65535", 65535, "", 1024),
        ("TCP:7007", 7007, "", 1024),
        ("tcp:port=7007", 7007, "", 1024),
        ("tcp:7007:interface=127.0.0.1", 7007, "127.0.0.1", 1024),
        ("tcp:7007:127.0.0.1:5", 7007, "127.0.0.1", 5),
        ("tcp:interface=127.0.0.1:7007", 7007, "127.0.0.1", 1024),
        ("tcp:7007:interface=", 7007, "", 1024),
        (r"tcp:7007:interface=\:\:1", 7007, "::1", 1024),
        (r"tcp:7007:interface=fe80\:\:1%eth0", 7007, "fe80::1%eth0", 1024),
        (r"tcp:70\07:back\log=5", 7007, "", 5),
        ("tcp6:7007", 7007, "::", 1024),
        (r"tcp6:7007:5:\:\:1", 7007, "::1", 5),
    ],
)
def test_a_tcp_server_listens_as_its_string_says(
    reactor: MemoryReactorClock, endpoint: str, port: int, interface: str, backlog: int
) -> None:
    """A ``tcp:`` server listens on the port, interface and backlog of its string; the default backlog is 1024."""
    server_endpoint(reactor, endpoint).listen(Factory())
    (listening,) = reactor.tcpServers
    assert (port, backlog, interface) == (listening[0], *listening[2:])


@pytest.mark.parametrize(
    ("endpoint", "path", "mode"),
    [
        ("unix:/run/app.sock:mode=666", "/run/app.sock", 0o666),
        ("unix:/run/app.sock:mode=660:lockfile=0", "/run/app.sock", 0o660),
        (r"unix:address=/run/a\:b\\c=d:mode=666", r"/run/a:b\c=d", 0o666),
        ("unix:" + "a" * LONGEST + ":mode=666", "a" * LONGEST, 0o666),
        ("unix:/\udcff:mode=666", "/\udcff", 0o666),
    ],
)
def test_a_unix_server_listens_as_its_string_says(
    reactor: MemoryReactorClock, endpoint: str, path: str, mode: int
) -> None:
    """A ``unix:`` server listens on the path of its string, with these permissions."""
    server_endpoint(reactor, endpoint).listen(Factory())
    (listening,) = reactor.unixServers
    assert (path, mode) == (listening[0], listening[3])


@pytest.mark.parametrize("endpoint", ["unix:@app", "unix:\0app"])
def test_an_abstract_unix_socket_is_listened_on(reactor: MemoryReactorClock, endpoint: str) -> None:
    """``unix:@app`` listens on the abstract socket of this name, which has no file and no lock."""
    server_endpoint(reactor, endpoint).listen(Factory())
    (listening,) = reactor.unixServers
    assert (listening[0], listening[4]) == ("\0app", 0)


@pytest.mark.parametrize("endpoint", ["unix:@app", "unix:\0app"])
def test_an_abstract_unix_socket_is_connected_to(reactor: MemoryReactorClock, endpoint: str) -> None:
    """``unix:@app`` connects to the abstract socket of this name, as a server's string does."""
    client_endpoint(reactor, endpoint).connect(Factory())
    assert [(each[0], each[3]) for each in reactor.unixClients] == [("\0app", False)]


@pytest.mark.usefixtures("in_certificates")
@pytest.mark.parametrize(
    "endpoint",
    [
        "ssl:7007:privateKey=both.pem",
        "ssl:7007:privateKey=key.pem:certKey=cert.pem:interface=127.0.0.1",
        "ssl:7007:privateKey=key.pem:certKey=cert.pem:extraCertChain=cert.pem",
    ],
)
def test_an_ssl_server_listens(reactor: MemoryReactorClock, endpoint: str) -> None:
    """An ``ssl:`` server with valid certificates listens."""
    server_endpoint(reactor, endpoint).listen(Factory())
    assert [listening[0] for listening in reactor.sslServers] == [7007]


@pytest.mark.usefixtures("in_certificates")
def test_a_tls_server_listens(reactor: MemoryReactorClock) -> None:
    """A ``tls:`` server with a directory of certificates listens."""
    server_endpoint(reactor, "tls:served:7007").listen(Factory())
    assert [listening[0] for listening in reactor.tcpServers] == [7007]


@pytest.mark.parametrize("endpoint", ["haproxy:tcp:7007", "HAProxy:TCP:7007"])
def test_a_server_behind_haproxy_listens(reactor: MemoryReactorClock, endpoint: str) -> None:
    """``haproxy:`` before another endpoint string listens on this endpoint."""
    server_endpoint(reactor, endpoint).listen(Factory())
    assert [listening[0] for listening in reactor.tcpServers] == [7007]


@pytest.mark.parametrize("endpoint", ["systemd:INET:name=app", "systemd:domain=INET:index=0", "systemd:name=app"])
def test_a_socket_of_systemd_is_found(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    """A socket that systemd handed over is found by its name or its index."""
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs([handed_over.fileno()], ["app"]))
        found = server_endpoint(reactor, endpoint)
        assert isinstance(found, AdoptedEndpoint)
        assert [each.descriptor for each in found.sockets] == [handed_over.fileno()]


def test_a_socket_of_systemd_can_be_below_tls(
    reactor: MemoryReactorClock, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket of systemd can be below ``tls:``; ``haproxy:`` is always below TLS, wherever the string has it."""
    monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs([], []))
    for text in (
        r"tls:certificate={}:endpoint=haproxy\:systemd\:name=app",
        r"haproxy:tls:certificate={}:endpoint=systemd\:name=app",
    ):
        found = server_endpoint(reactor, text.format(certificates / "both.pem"))
        assert isinstance(found, ProxyHeaderServer)
        assert isinstance(found.endpoint.endpoint, AdoptedEndpoint)


def test_standard_input_is_an_endpoint(reactor: MemoryReactorClock) -> None:
    """``stdio:`` gives Twisted's endpoint of the standard input."""
    assert isinstance(server_endpoint(reactor, "stdio:"), endpoints.StandardIOEndpoint)


# Clients --------------------------------------------------------------------------------------------------------------


@implementer(IHostnameResolver)
class Names:
    """A resolver that gives each name an address of its own; `asked` has the name of each address."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *given: Any) -> Any:  # noqa: N803
        address = f"192.0.2.{len(self.asked)}"
        self.asked[address] = name.encode().decode("idna") if name.startswith("xn--") else name
        receiver.resolutionBegan(None)
        receiver.addressResolved(IPv4Address("TCP", address, portNumber))
        receiver.resolutionComplete()


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("tcp:localhost:7007", "localhost", 7007),
        ("tcp:localhost:1", "localhost", 1),
        ("tcp:localhost:65535", "localhost", 65535),
        ("TCP:localhost:7007", "localhost", 7007),
        ("tcp:host=localhost:port=7007", "localhost", 7007),
        ("tcp:host=localhost:7007", "localhost", 7007),
        ("tcp:port=7007:localhost", "localhost", 7007),
        ("tcp:127.0.0.1:7007", "127.0.0.1", 7007),
        (r"tcp:\:\:1:7007", "::1", 7007),
        (r"tcp:host=\:\:1:port=7007", "::1", 7007),
        (r"tcp:fe80\:\:1%eth0:7007", "fe80::1%eth0", 7007),
        ("tcp:example.com.:7007", "example.com.", 7007),
        ("tcp:my_service:7007", "my_service", 7007),
        ("tcp:1.2.3.example:7007", "1.2.3.example", 7007),
        ("tcp:bücher.example:7007", "bücher.example", 7007),
        (f"tcp:{LONG}.{LONG}.{LONG}.{LONG[:61]}:7007", f"{LONG}.{LONG}.{LONG}.{LONG[:61]}", 7007),
        (f"tcp:{LONG}.{LONG}.{LONG}.{LONG[:61]}.:7007", f"{LONG}.{LONG}.{LONG}.{LONG[:61]}.", 7007),
    ],
)
def test_a_tcp_client_connects_as_its_string_says(
    reactor: MemoryReactorClock, endpoint: str, host: str, port: int
) -> None:
    """A ``tcp:`` client connects to the host and port of its string; the name of a host is looked up."""
    names = Names()
    reactor.installNameResolver(names)
    client_endpoint(reactor, endpoint).connect(Factory())
    looked_up = [(names.asked.get(each[0], each[0]), each[1]) for each in reactor.tcpClients]
    assert [(host, port)] == looked_up


def test_a_tcp_client_has_a_bind_address_and_a_timeout(reactor: MemoryReactorClock) -> None:
    """A ``tcp:`` client connects from the ``bindAddress`` of its string, with its timeout."""
    client_endpoint(reactor, "tcp:localhost:7007:timeout=5:bindAddress=127.0.0.1").connect(Factory())
    assert [connecting[3:] for connecting in reactor.tcpClients] == [(5, ("127.0.0.1", 0))]


@pytest.mark.parametrize("endpoint", ["unix:/run/app.sock", "unix:path=/run/app.sock:timeout=5:lockfile=1"])
def test_a_unix_client_connects_as_its_string_says(reactor: MemoryReactorClock, endpoint: str) -> None:
    """A ``unix:`` client connects to the path of its string."""
    client_endpoint(reactor, endpoint).connect(Factory())
    assert [connecting[0] for connecting in reactor.unixClients] == ["/run/app.sock"]


@pytest.mark.usefixtures("in_certificates")
@pytest.mark.parametrize(
    "endpoint",
    [
        "ssl:localhost:7007",
        "ssl:localhost:7007:certKey=cert.pem:privateKey=key.pem:caCertsDir=served:hostname=localhost",
        "ssl:my_service.:7007:hostname=my_service.",
        "tls:my_service.:7007",
        "tls:BÜCHER.example.:7007",
        r"tls:fe80\:\:1%eth0:7007",
        "tls:localhost:7007",
        "tls:host=localhost:7007",
        "tls:127.0.0.1:7007:timeout=5:bindAddress=127.0.0.1",
        "tls:localhost:7007:certificate=cert.pem:privateKey=key.pem:trustRoots=served",
        r"tls:localhost:7007:endpoint=tcp\:\\\:\\\:1\:7007",
    ],
)
def test_an_encrypted_client_is_made(reactor: MemoryReactorClock, endpoint: str) -> None:
    """An ``ssl:`` or ``tls:`` string with a valid host, port and certificates gives a client's endpoint."""
    assert IStreamClientEndpoint.providedBy(client_endpoint(reactor, endpoint))


# Paths ----------------------------------------------------------------------------------------------------------------


def test_a_relative_path_begins_at_the_given_folder(
    reactor: MemoryReactorClock, certificates: Path, tmp_path: Path
) -> None:
    """A relative path of an endpoint string begins at the given folder, also below TLS."""
    server_endpoint(reactor, "unix:app.sock", str(tmp_path)).listen(Factory())
    assert reactor.unixServers[0][0] == f"{tmp_path}/app.sock"
    made: Any = server_endpoint(reactor, "tls:7007:certificate=cert.pem:privateKey=key.pem", str(certificates))
    assert made.contexts.spec.key == certificates / "key.pem"
    assert made.reload()
    below: Any = server_endpoint(reactor, r"tls:endpoint=unix\:a.sock:path=served", str(certificates))
    below.listen(Factory())
    assert reactor.unixServers[1][0] == f"{certificates}/a.sock"


@pytest.mark.usefixtures("in_certificates")
@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("tcp:localhost:7007", "tcp:localhost:7007"),
        ("unix:/run/app.sock:timeout=5", "unix:/run/app.sock:timeout=5"),
        ("unix:app.sock:timeout=5", "unix:timeout=5:path=HERE/app.sock"),
        ("unix:\0abstract", "unix:\0abstract"),
        ("unix:@abstract", "unix:@abstract"),
        ("unix:" + "a" * LONGEST, "unix:" + "a" * LONGEST),
        ("tls:localhost:7007:trustRoots=cert.pem", "tls:trustRoots=HERE/cert.pem:host=localhost:port=7007"),
        (r"tls:a:1:endpoint=unix\:b", r"tls:endpoint=unix\:path=HERE/b:host=a:port=1"),
        (("no", "string"), ("no", "string")),
    ],
)
def test_a_client_keeps_absolute_paths(certificates: Path, endpoint: Any, kept: Any) -> None:
    """`client_string` makes relative paths absolute, because a client reads its string again for each connection."""
    assert client_string(endpoint) == (kept.replace("HERE", str(certificates)) if isinstance(kept, str) else kept)


def test_without_a_current_directory_a_path_stays_relative(
    reactor: MemoryReactorClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the current directory was removed, a relative path stays unchanged."""

    def gone() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "cwd", gone)
    server_endpoint(reactor, "unix:app.sock").listen(Factory())
    assert reactor.unixServers[0][0] == "app.sock"


# Objects --------------------------------------------------------------------------------------------------------------


def test_an_endpoint_object_is_returned_unchanged(reactor: MemoryReactorClock) -> None:
    """An endpoint object is returned as it is."""
    server = endpoints.TCP4ServerEndpoint(reactor, 0)
    client = endpoints.TCP4ClientEndpoint(reactor, "localhost", 7007)
    assert server_endpoint(reactor, server) is server
    assert client_endpoint(reactor, client) is client
