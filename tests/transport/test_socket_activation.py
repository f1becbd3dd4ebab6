"""Sockets that systemd handed over: their kinds are detected, and all sockets of a name are served."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import endpoints
from twisted.internet.interfaces import IListeningPort
from twisted.internet.testing import MemoryReactorClock
from twisted.python.systemd import ListenFDs
from zope.interface.verify import verifyObject

from tcpapp import connect, listen
from tcpapp.apps import echo
from tcpapp.errors import InvalidAddress
from tcpapp.limits.networks import Networks
from tcpapp.transport.socket_activation import AdoptedEndpoint, AdoptedPorts, NothingHandedOver, is_unseen, ports_of
from tests.integration.peers import bounded
from tests.peers import outcome

HandOver = Callable[..., list[int]]


@pytest.fixture
def hand_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[HandOver]:
    """Give ``hand_over(name=socket, …)``, which also takes pairs: this process counts as having got these sockets."""
    made: list[socket.socket] = []

    def give(*pairs: tuple[str, socket.socket], **named: socket.socket) -> None:
        given = [*pairs, *named.items()]
        made.extend(each for _, each in given)
        descriptors = [each.fileno() for _, each in given]
        monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs(descriptors, [name for name, _ in given]))

    yield give
    for each in made:
        each.close()


def ipv4() -> socket.socket:
    """Return a listening IPv4 socket."""
    return socket.create_server(("127.0.0.1", 0))


def dual() -> socket.socket:
    """Return a socket for both families, such as ``ListenStream=7007`` makes."""
    return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)


def local(path: Path | str) -> socket.socket:
    """Return a listening UNIX socket at this path."""
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    found.listen()
    return found


def port_of(given: socket.socket) -> int:
    """Return the port of this socket."""
    return int(given.getsockname()[1])


@bounded
async def test_a_socket_for_both_families_is_served(hand_over: HandOver, global_reactor: Any) -> None:
    """A socket for IPv4 and IPv6 is served although the string says INET, and a denied IPv4 network is denied."""
    given = dual()
    hand_over(app=given)
    peers = []

    def app(message: bytes, connection: Any) -> bytes:
        peers.append(connection.peer.host)
        return message

    server = await listen("systemd:domain=INET:name=app", app, reactor=global_reactor)
    client = await connect(f"tcp:127.0.0.1:{port_of(given)}", reactor=global_reactor)
    assert await client.request(b"hello") == b"hello"
    assert peers == ["::ffff:127.0.0.1"]
    server.change(networks=Networks(deny=["127.0.0.0/8"]))
    denied = await connect(f"tcp:127.0.0.1:{port_of(given)}", reactor=global_reactor)
    await denied.when_closed()
    assert server.info().refused == {"network-denied": 1}
    await client.close()
    await server.close()


@bounded
async def test_all_sockets_of_a_name_are_served(hand_over: HandOver, global_reactor: Any, tmp_path: Path) -> None:
    """All sockets of one name are served, suspended and closed together, and stay open for their owner."""
    one, other, unix, another = ipv4(), ipv4(), local(tmp_path / "socket"), ipv4()
    hand_over(("app", one), ("other", another), ("app", other), ("app", unix))
    server = await listen("systemd:name=app", echo, reactor=global_reactor)
    assert [getattr(each, "port", None) for each in server.addresses] == [port_of(one), port_of(other), None]
    places = [f"tcp:127.0.0.1:{port_of(one)}", f"tcp:127.0.0.1:{port_of(other)}", f"unix:{tmp_path}/socket"]
    clients = [await connect(each, reactor=global_reactor) for each in places]
    for each in clients:
        assert await each.request(b"hello") == b"hello"
        await each.close()
    server.suspend()
    assert not [port for port in server._ports if port in global_reactor.getReaders()]
    await server.close()
    assert [each.getsockname() for each in (one, other, unix)]  # the sockets are still open: they belong to systemd


@bounded
async def test_a_unix_socket_still_belongs_to_its_owner(
    hand_over: HandOver, global_reactor: Any, tmp_path: Path
) -> None:
    """
    A handed-over UNIX socket keeps its mode and its file.

    A client that connects after the server has closed waits for the next server.
    """
    path = tmp_path / "socket"
    given = local(path)
    path.chmod(0o600)
    hand_over(app=given)
    for _ in range(2):
        server = await listen("systemd:name=app", echo, reactor=global_reactor)
        assert path.stat().st_mode & 0o777 == 0o600
        client = await connect(f"unix:{path}", reactor=global_reactor)
        assert await client.request(b"hello") == b"hello"
        await client.close()
        await server.close()
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(path))


def refusal(**given: Any) -> str:
    """Return the error of an `AdoptedEndpoint` with these arguments."""
    with pytest.raises(InvalidAddress) as caught:
        AdoptedEndpoint(MemoryReactorClock(), **given)
    return str(caught.value)


def test_a_socket_that_was_not_handed_over_is_refused(hand_over: HandOver) -> None:
    """When no handed-over socket has this name or index, the error lists the existing names."""
    hand_over(("one", ipv4()), ("other", ipv4()), ("other", ipv4()))
    assert refusal(name="app") == "no socket of name=app was handed over; there are 3: one, other"
    assert refusal(index=3) == "no socket of index=3 was handed over; there are 3: one, other"


def test_a_socket_of_another_domain_is_refused(hand_over: HandOver, tmp_path: Path) -> None:
    """A UNIX socket is refused for domain=INET, and a TCP socket for UNIX; INET and INET6 match each other."""
    hand_over(unix=local(tmp_path / "socket"), tcp=ipv4(), tcp6=dual())
    assert refusal(name="unix", domain="INET") == (
        "the socket 'unix' is of domain UNIX: write domain=UNIX, or leave domain= out"
    )
    assert refusal(name="tcp", domain="UNIX") == (
        "the socket 'tcp' is of domain INET: write domain=INET, or leave domain= out"
    )
    for name, domain in [("tcp", "INET6"), ("tcp6", "INET"), ("tcp6", "INET6"), ("unix", "UNIX"), ("unix", "")]:
        assert len(AdoptedEndpoint(MemoryReactorClock(), name=name, domain=domain).sockets) == 1


def test_a_socket_that_cannot_listen_is_refused(hand_over: HandOver) -> None:
    """A datagram socket, a socket that does not listen, and a closed descriptor raise InvalidAddress."""
    closed = ipv4()
    hand_over(udp=socket.socket(type=socket.SOCK_DGRAM), idle=socket.socket(), closed=closed)
    closed.close()
    for name in ("udp", "idle"):
        assert refusal(name=name).startswith(f"the socket {name!r} is not one that listens for streams")
    assert refusal(name="closed").startswith("what was handed over as 'closed' is not open (Bad file descriptor)")


def test_a_file_is_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handed-over descriptor that is no socket, such as a pipe, raises InvalidAddress."""
    reading, writing = os.pipe()
    monkeypatch.setattr(endpoints._SystemdParser, "_sddaemon", ListenFDs([reading], ["app"]))
    assert refusal(name="app") == "what was handed over as 'app' is no socket: it takes one of ListenStream="
    for each in (reading, writing):
        os.close(each)


def test_without_any_handed_over_socket_listening_fails(hand_over: HandOver) -> None:
    """
    Without any handed-over socket, listening fails and says how to hand one over.

    `is_unseen` finds such an endpoint also below other endpoints.
    """
    hand_over()
    unseen = AdoptedEndpoint(MemoryReactorClock(), name="app")
    (error,) = outcome(unseen.listen(None))
    assert isinstance(error, NothingHandedOver)
    assert str(error).startswith("Couldn't listen on systemd:name=app: no socket was handed over to this process")

    class Above:
        endpoint = unseen

    assert [is_unseen(each) for each in (unseen, Above(), object())] == [True, True, False]
    hand_over(app=ipv4())
    assert not is_unseen(AdoptedEndpoint(MemoryReactorClock(), name="app"))


class Port:
    """A port that records its calls."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def startListening(self) -> None:
        self.told.append("start")

    def stopListening(self) -> None:
        self.told.append("stop")

    def getHost(self) -> str:
        return "here"


def test_several_ports_act_as_one_port() -> None:
    """`AdoptedPorts` starts and stops all its ports, and provides Twisted's `IListeningPort`."""
    several = AdoptedPorts([Port(), Port()])
    assert verifyObject(IListeningPort, several)
    several.startListening()
    assert (outcome(several.stopListening()), several.getHost()) == ([None], "here")
    assert [each.told for each in several.ports] == [["start", "stop"]] * 2
    assert (ports_of(several), ports_of("port")) == (several.ports, ("port",))


class Failing(MemoryReactorClock):
    """A reactor that adopts a first socket, and fails for the second."""

    def __init__(self) -> None:
        super().__init__()
        self.port = Port()
        self.adopted = [self.port]

    def adoptStreamPort(self, *given: Any) -> Any:
        return self.adopted.pop()


def test_either_all_sockets_are_listened_with_or_none(hand_over: HandOver) -> None:
    """When the second socket cannot be adopted, listening fails, and the port of the first is stopped."""
    hand_over(("app", ipv4()), ("app", ipv4()))
    reactor = Failing()
    (error,) = outcome(AdoptedEndpoint(reactor, name="app").listen(None))
    assert isinstance(error, IndexError)
    assert reactor.port.told == ["stop"]
