"""The network between the hosts: addresses, names, links and partitions, listening and connecting."""

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
"""The interfaces that stand for all addresses of a host."""

LOCAL_LATENCY = 0.00002, 0.0001
"""Seconds between two processes of one host: the latency of a loopback interface."""


class Network:
    """The hosts, the links between them, and all connections."""

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
        """Return the address of the host of this name, for the host `asking`; `None` if there is none."""
        if isIPAddress(name):
            return name
        if name == "localhost":
            return LOOPBACK
        host = self.hosts.get(name)
        return host.ip if host else None

    def host_at(self, ip: str, asking: HostPart) -> HostPart | None:
        """Return the host with this address, for the host `asking`; `None` if there is none."""
        if ip == LOOPBACK:
            return asking
        return next((host for host in self.hosts.values() if host.ip == ip), None)

    def link(self, a: HostPart, b: HostPart) -> Link:
        """Return the link from one host to another."""
        link = self._links.get((a, b))
        if link is None:
            local = Link(LOCAL_LATENCY, cuts=self._default().cuts)
            link = self._links[a, b] = local if a is b else self._default()
        return link

    def part(self, a: HostPart, b: HostPart, parted: bool) -> None:
        """Let nothing pass from `a` to `b` if they are `parted`; otherwise, let everything pass again."""
        self.link(a, b).parted = parted
        self._refresh(lambda socket: socket.host is b and socket.peer is a)

    def relink(self, a: HostPart, b: HostPart, link: Link) -> None:
        """Set the link from `a` to `b`, also for open connections."""
        self._usual.pop((a, b), None)
        link.parted = self.link(a, b).parted
        self._links[a, b] = link
        for socket in list(self._sockets):
            if socket.peer is a and socket.host is b:
                socket.incoming.relink(link)

    def divert(self, a: HostPart, b: HostPart, link: Link) -> None:
        """Set the link from `a` to `b` until `restore`."""
        usual = self._usual.get((a, b)) or self.link(a, b)
        self.relink(a, b, link)
        self._usual[a, b] = usual

    def restore(self, a: HostPart, b: HostPart) -> None:
        """Set the link from `a` to `b` back to the link before `divert`."""
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
        """Listen on a port. See `SimulatedReactor.listenTCP`."""
        host = reactor.host
        number = port if isinstance(port, int) else port._port  # the Port of twisted.internet.tcp.makeBinding
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
        """Listen on a path. See `SimulatedReactor.listenUNIX`."""
        host, name = reactor.host, os.fsencode(path)
        if (host, name) in self._ports or ((host, name) in self._files and not locked):
            raise CannotListenError(None, name, OSError(EADDRINUSE, os.strerror(EADDRINUSE)))
        self._files[host, name] = None
        return self._listen(reactor, name, Port(reactor, factory, backlog, UNIXAddress(name), self._port_closed))

    def connect_tcp(self, reactor: SimulatedReactor, name: str, port: int, factory: Any, timeout: float) -> Connector:
        """Connect to a port. See `SimulatedReactor.connectTCP`."""

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
        """Connect to a path. See `SimulatedReactor.connectUNIX`."""
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
        """
        Return the port of `host` that listens on `key`; `None` if there is none, or it listens on another address.
        """
        port = self._ports.get((host, key))
        listens_at = getattr(port and port.getHost(), "host", None)
        return port if listens_at in {None, *ALL, ip} else None

    def free_port(self, host: HostPart) -> int:
        """Return the number of the next ephemeral port that is free; after the last, the first comes again."""
        number = self._given.get(host, EPHEMERAL - 1)
        while True:
            number = number + 1 if number < 65535 else EPHEMERAL
            if (host, number) not in self._ports:
                self._given[host] = number
                return number

    def clock(self, name: str) -> LineClock:
        """Return a clock for the events on a line of this name."""
        return LineClock(self.simulation.timeline, self._world, self.simulation.decisions.stream(name))

    def join(self, a: HostPart, b: HostPart, names: tuple[str, str]) -> tuple[SimulatedSocket, SimulatedSocket]:
        """Return two sockets that are connected, one on each host."""
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
        """Yield the sockets of this host, or only its sockets with `other` as the peer."""
        return (each for each in list(self._sockets) if each.host is host and other in {None, each.peer})

    def left(self) -> list[str]:
        """Return a line for each open connection and port of a process."""
        sockets = [f"connection {each.name}" for each in self._sockets if not each.closed]
        return sockets + [f"{host.name}: listens on {written(key)}" for host, key in self._ports]

    def reset(self, host: HostPart, other: HostPart | None) -> None:
        """Reset the connections of `host` (with `other`, if it is given) at both ends."""
        for socket in self.sockets_of(host, other):
            socket.outgoing.reset()
            socket.incoming.reset()

    def wake(self, host: HostPart) -> None:
        """Let the sockets of `host` check whether they can read, after its speed has changed."""
        for socket in self.sockets_of(host):
            socket.on_ready()

    def process_ended(self, host: HostPart, *, silently: bool, reset: bool) -> None:
        """Close the sockets and ports of a process that has ended."""
        for key in [key for key in self._ports if key[0] is host]:
            del self._ports[key]
        for socket in self.sockets_of(host):
            if silently:
                socket.vanish()
                socket.incoming.refresh()
            else:
                socket.drop(reset=reset)

    def powered(self, host: HostPart) -> None:
        """Let the host, which has power again, answer packets."""
        self._refresh(lambda socket: socket.host is host)

    def _forget(self, socket: SimulatedSocket) -> None:
        """Forget a closed end, when the other end can no longer send to it or receive from it."""
        if socket.other.closed:
            self._sockets.pop(socket, None)
            self._sockets.pop(socket.other, None)


def written(key: int | bytes) -> str:
    """Return the number of a port, or the path of a socket, as text."""
    return os.fsdecode(key) if isinstance(key, bytes) else str(key)


def error_of(number: int) -> Exception:
    """Return Twisted's error for a connect that failed with this errno."""
    error: Exception = getConnectError((number, os.strerror(number)))
    return error
