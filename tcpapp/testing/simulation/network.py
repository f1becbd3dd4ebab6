"""The network between the hosts: addresses, names, links and partitions; and how connections begin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from errno import EADDRINUSE, EADDRNOTAVAIL, EHOSTUNREACH, ENOENT
from typing import TYPE_CHECKING, Any

from twisted.internet.abstract import isIPAddress
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import (
    CannotListenError,
    DNSLookupError,
    getConnectError,
)

from tcpapp.testing.simulation.handshake import Handshake
from tcpapp.testing.simulation.line import Line, LineClock, Link, SimulatedSocket
from tcpapp.testing.simulation.parts import HostPart, SimulationPart
from tcpapp.testing.simulation.ports import Connector, Port
from tcpapp.testing.simulation.timeline import Turns

if TYPE_CHECKING:
    from tcpapp.testing.simulation.host import Host
    from tcpapp.testing.simulation.reactor import SimulatedReactor

__all__ = ["Network"]

EPHEMERAL = 49152
"""The first of the ephemeral ports (RFC 6335, section 6)."""

LOOPBACK = "127.0.0.1"

ALL = ("", "0.0.0.0", "::")  # noqa: S104  # simulated
"""The key of a port that is listened on at every address."""

LOCAL_LATENCY = 0.00002, 0.0001
"""Seconds from one process to another on its host: the latency of a loopback interface."""


class Network:
    """The hosts, the links between them, and every connection."""

    def __init__(self, simulation: SimulationPart, link: Callable[[], Link]) -> None:
        self.simulation = simulation
        self.hosts: dict[str, Host] = {}
        self._default = link
        self._links: dict[tuple[HostPart, HostPart], Link] = {}
        self._usual: dict[tuple[HostPart, HostPart], Link] = {}
        self._sockets: dict[SimulatedSocket, None] = {}
        self._ports: dict[tuple[HostPart, int | bytes], Port] = {}
        self._files: dict[tuple[HostPart, bytes], None] = {}
        self._given: dict[HostPart, int] = {}
        self._world = Turns(simulation.decisions.stream("world").draw)

    # Names, addresses and links.

    def ip_of(self, name: str, asking: HostPart) -> str | None:
        """The address of the host of this name, as a host has it that asks; `None` where there is none."""
        if isIPAddress(name):
            return name
        if name == "localhost":
            return LOOPBACK
        host = self.hosts.get(name)
        return host.ip if host else None

    def host_at(self, ip: str, asking: HostPart) -> HostPart | None:
        """The host of this address."""
        if ip == LOOPBACK:
            return asking
        return next((host for host in self.hosts.values() if host.ip == ip), None)

    def link(self, a: HostPart, b: HostPart) -> Link:
        """The way from one host to another."""
        link = self._links.get((a, b))
        if link is None:
            local = Link(LOCAL_LATENCY, cuts=self._default().cuts)
            link = self._links[a, b] = local if a is b else self._default()
        return link

    def part(self, a: HostPart, b: HostPart, parted: bool) -> None:
        """Nothing comes from `a` to `b`, or again."""
        self.link(a, b).parted = parted
        self._refresh(lambda socket: socket.host is b and socket.peer is a)

    def relink(self, a: HostPart, b: HostPart, link: Link) -> None:
        """The way from one host to another is another one, for open connections too."""
        self._usual.pop((a, b), None)
        link.parted = self.link(a, b).parted
        self._links[a, b] = link
        for socket in list(self._sockets):
            if socket.peer is a and socket.host is b:
                socket.incoming.relink(link)

    def divert(self, a: HostPart, b: HostPart, link: Link) -> None:
        """The way from one host to another is another one, until `restore`."""
        usual = self._usual.get((a, b)) or self.link(a, b)
        self.relink(a, b, link)
        self._usual[a, b] = usual

    def restore(self, a: HostPart, b: HostPart) -> None:
        """The way from one host to another is its usual one again."""
        usual = self._usual.get((a, b))
        if usual is not None:
            self.relink(a, b, usual)

    def _refresh(self, which: Callable[[SimulatedSocket], bool]) -> None:
        for socket in self._sockets:
            if which(socket):
                line = socket.incoming
                line.refresh_after(line.link.delay(line.chance))

    # Calls of a reactor.

    def listen_tcp(self, reactor: SimulatedReactor, port: Any, factory: Any, backlog: int, interface: str) -> Port:
        """See `SimulatedReactor.listenTCP`."""
        host = reactor.host
        number = port if isinstance(port, int) else port._port  # twisted.internet.tcp.makeBinding's
        if interface not in {*ALL, LOOPBACK, host.ip}:
            raise CannotListenError(interface, number, OSError(EADDRNOTAVAIL, os.strerror(EADDRNOTAVAIL)))
        number = number or self.free_port(host)
        if (host, number) in self._ports:
            raise CannotListenError(interface, number, OSError(EADDRINUSE, os.strerror(EADDRINUSE)))
        address = (IPv6Address if ":" in interface else IPv4Address)("TCP", interface or "0.0.0.0", number)  # noqa: S104  # as above
        return self._listen(reactor, number, Port(reactor, factory, backlog, address, self._port_closed))

    def listen_unix(
        self, reactor: SimulatedReactor, path: str | bytes, factory: Any, backlog: int, locked: bool
    ) -> Port:
        """See `SimulatedReactor.listenUNIX`."""
        host, name = reactor.host, os.fsencode(path)
        if (host, name) in self._ports or ((host, name) in self._files and not locked):
            raise CannotListenError(None, name, OSError(EADDRINUSE, os.strerror(EADDRINUSE)))
        self._files[host, name] = None
        return self._listen(reactor, name, Port(reactor, factory, backlog, UNIXAddress(name), self._port_closed))

    def connect_tcp(self, reactor: SimulatedReactor, name: str, port: int, factory: Any, timeout: float) -> Connector:
        """See `SimulatedReactor.connectTCP`."""

        def start(connector: Connector, attempt: Any) -> None:
            ip = self.ip_of(name, reactor.host)
            there = None if ip is None else self.host_at(ip, reactor.host)
            if ip is None or there is None:
                unknown = DNSLookupError(f"no host {name!r}") if ip is None else error_of(EHOSTUNREACH)
                reactor.callFromThread(attempt.failIfNotConnected, unknown)
                return
            mine = LOOPBACK if ip == LOOPBACK else reactor.host.ip
            host = IPv4Address("TCP", mine, self.free_port(reactor.host))
            client, server = f"{reactor.host.name}:{host.port}", f"{there.name}:{port}"
            names = f"{client}>{server}", f"{server}<{client}"
            Handshake(self, connector, attempt, there, port, (host, IPv4Address("TCP", ip, port)), names)

        connector = Connector(reactor, factory, timeout, IPv4Address("TCP", name, port), start)
        connector.connect()
        return connector

    def connect_unix(self, reactor: SimulatedReactor, path: str | bytes, factory: Any, timeout: float) -> Connector:
        """See `SimulatedReactor.connectUNIX`."""
        there, name = reactor.host, os.fsencode(path)

        def start(connector: Connector, attempt: Any) -> None:
            if (there, name) not in self._files:
                reactor.callFromThread(attempt.failIfNotConnected, error_of(ENOENT))
                return
            end = f"{there.name}:{os.fsdecode(name)}#{self.free_port(there) - EPHEMERAL}"
            addresses = UNIXAddress(None), UNIXAddress(name)
            Handshake(self, connector, attempt, there, name, addresses, (f"{end}>", f"{end}<"))

        connector = Connector(reactor, factory, timeout, UNIXAddress(name), start)
        connector.connect()
        return connector

    def _listen(self, reactor: SimulatedReactor, key: int | bytes, port: Port) -> Port:
        self._ports[reactor.host, key] = port
        port.startListening()
        self.simulation.note(reactor.host.name, "listens on", written(key))
        return port

    def _port_closed(self, port: Port) -> None:
        [key] = [key for key, each in self._ports.items() if each is port]
        del self._ports[key]
        self._files.pop(key, None)  # type: ignore[arg-type]  # a TCP port has none
        for socket, _, _ in port.waiting:
            socket.drop(reset=True)
        self.simulation.note(key[0].name, "stops listening on", written(key[1]))

    # Connections.

    def port(self, host: HostPart, key: int | bytes, ip: str | None) -> Port | None:
        """The port that listens there; `None` if there is none on this address."""
        port = self._ports.get((host, key))
        listens_at = getattr(port and port.getHost(), "host", None)
        return port if listens_at in {None, *ALL, ip} else None

    def free_port(self, host: HostPart) -> int:
        """The next port that nobody listens on: after the last, the first again."""
        number = self._given.get(host, EPHEMERAL - 1)
        while True:
            number = number + 1 if number < 65535 else EPHEMERAL
            if (host, number) not in self._ports:
                self._given[host] = number
                return number

    def clock(self, name: str) -> LineClock:
        """A clock for the events on a line of this name."""
        return LineClock(self.simulation.timeline, self._world, self.simulation.decisions.stream(name))

    def join(self, a: HostPart, b: HostPart, names: tuple[str, str]) -> tuple[SimulatedSocket, SimulatedSocket]:
        """Two sockets that are connected, one on each host."""
        there, back = (
            Line(self.clock(name), self.simulation.decisions.stream(name), self.link(writer, reader), reader)
            for name, writer, reader in zip(names, (a, b), (b, a), strict=True)
        )
        mine = SimulatedSocket(names[0], a, b, back, there)
        theirs = SimulatedSocket(names[1], b, a, there, back)
        for socket, other in ((mine, theirs), (theirs, mine)):
            self._sockets[socket] = None
            socket.other = other
            socket.on_closed = self._forget
        return mine, theirs

    def sockets_of(self, host: HostPart, other: HostPart | None = None) -> Iterator[SimulatedSocket]:
        """The ends of connections on this host, those with `other` if it is given."""
        return (each for each in list(self._sockets) if each.host is host and other in {None, each.peer})

    def left(self) -> list[str]:
        """The open connections and ports of processes."""
        sockets = [f"connection {each.name}" for each in self._sockets if not each.closed]
        return sockets + [f"{host.name}: listens on {written(key)}" for host, key in self._ports]

    def reset(self, host: HostPart, other: HostPart | None) -> None:
        """Both ends of these connections get a reset."""
        for socket in self.sockets_of(host, other):
            socket.outgoing.reset()
            socket.incoming.reset()

    def wake(self, host: HostPart) -> None:
        """What the host reads may have changed."""
        for socket in self.sockets_of(host):
            socket.on_ready()

    def process_ended(self, host: HostPart, *, silently: bool, reset: bool) -> None:
        """Its sockets are closed by the kernel, and its ports."""
        for key in [key for key in self._ports if key[0] is host]:
            del self._ports[key]
        for socket in self.sockets_of(host):
            if silently:
                socket.vanish()
                socket.incoming.refresh()
            else:
                socket.drop(reset=reset)

    def powered(self, host: HostPart) -> None:
        """The host is there again, and answers."""
        self._refresh(lambda socket: socket.host is host)

    def _forget(self, socket: SimulatedSocket) -> None:
        """An end was closed; it is kept as long as the other end can send to it, or receive from it."""
        if socket.other.closed:
            self._sockets.pop(socket, None)
            self._sockets.pop(socket.other, None)


def written(key: int | bytes) -> str:
    """A port's number, or a socket's path."""
    return os.fsdecode(key) if isinstance(key, bytes) else str(key)


def error_of(number: int) -> Exception:
    """Twisted's error for a connect that failed with this errno."""
    error: Exception = getConnectError((number, os.strerror(number)))
    return error
