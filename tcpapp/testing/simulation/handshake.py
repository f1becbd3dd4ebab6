"""The beginning of a connection: SYN, SYN and ACK, ACK. Each of these packets can get lost."""

from __future__ import annotations

import os
from errno import ECONNREFUSED, ETIMEDOUT
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import getConnectError
from twisted.internet.interfaces import IAddress

if TYPE_CHECKING:
    from tcpapp.testing.simulation.line import LineClock, Link, SimulatedSocket
    from tcpapp.testing.simulation.parts import HostPart, SimulationPart
    from tcpapp.testing.simulation.ports import Connector, Port

__all__ = ["Handshake"]

SYN_RETRIES = 6
"""Linux sends a SYN again this many times (tcp_syn_retries), after 1, 2, 4, … seconds. It gives up after 127 s."""


class NetworkPart(Protocol):
    """The methods of the network that a handshake uses."""

    @property
    def simulation(self) -> SimulationPart:
        """The simulation that the network belongs to."""

    def link(self, a: HostPart, b: HostPart) -> Link:
        """Return the link from one host to another."""

    def clock(self, name: str) -> LineClock:
        """Return a clock for the packets of a handshake."""

    def port(self, host: HostPart, key: int | bytes, ip: str | None) -> Port | None:
        """Return the port of `host` that listens on `key`; `None` if there is none."""

    def join(self, a: HostPart, b: HostPart, names: tuple[str, str]) -> tuple[SimulatedSocket, SimulatedSocket]:
        """Return the two sockets of a new connection."""


class Handshake:
    """
    One attempt of a client to connect.

    It is refused if no port listens. Lost packets (in a partition, at a host without power, at a full backlog) are sent
    again after 1, 2, 4, … seconds, as in Linux. So the timeout of the connector usually comes first.
    """

    def __init__(
        self,
        network: NetworkPart,
        connector: Connector,
        attempt: Any,
        there: HostPart,
        key: int | bytes,
        addresses: tuple[Any, Any],
        names: tuple[str, str],
    ) -> None:
        self._network = network
        self._connector = connector
        self._attempt = attempt
        self._reactor = connector.reactor
        self._here: HostPart = connector.reactor.host
        self._there = there
        self._key = key
        self._host, self._peer = addresses
        self._names = names
        self._chance = network.simulation.decisions.stream(names[0])
        self._clock = network.clock(names[0])
        self._note("connects")
        self._send(0)

    @property
    def _over(self) -> bool:
        """Whether the attempt has ended: its connector no longer waits for it."""
        return bool(self._attempt.over) or not self._reactor.turns.alive

    def _carries(self, a: HostPart, b: HostPart) -> bool:
        return a.powered and b.powered and not self._network.link(a, b).parted

    def _delay(self, a: HostPart, b: HostPart) -> float:
        delay: float = self._network.link(a, b).delay(self._chance)
        return delay

    def _note(self, what: str) -> None:
        self._network.simulation.note(self._names[0], what)

    def _fail(self, number: int) -> None:
        self._note("fails to connect")
        self._retry.cancel()
        self._attempt.failIfNotConnected(getConnectError((number, os.strerror(number))))

    def _send(self, tries: int) -> None:
        """Send a SYN, and send it again if there is no answer."""
        if self._over:
            return
        if tries > SYN_RETRIES:
            self._fail(ETIMEDOUT)
            return
        self._retry = self._clock.callLater(2.0**tries, self._send, tries + 1)
        if self._carries(self._here, self._there):
            self._clock.callLater(self._delay(self._here, self._there), self._arrive)

    def _port(self) -> Port | None:
        port: Port | None = self._network.port(self._there, self._key, getattr(self._peer, "host", None))
        return port

    def _arrive(self) -> None:
        """Answer the SYN that has arrived, unless the backlog is full."""
        port = self._port()
        full = port is not None and len(port.waiting) >= port.backlog
        if not full and self._carries(self._there, self._here):
            self._clock.callLater(self._delay(self._there, self._here), self._answered, port is not None)

    def _answered(self, accepted: bool) -> None:
        """Handle the answer that has arrived: connect, or fail."""
        if self._over:
            self._retry.cancel()
            return
        if not accepted:
            self._fail(ECONNREFUSED)
            return
        mine, theirs = self._network.join(self._here, self._there, self._names)
        self._note("is connected")
        self._retry.cancel()
        self._acknowledge(theirs)
        self._connector.connected(self._attempt, mine, self._host, self._peer)

    def _acknowledge(self, theirs: SimulatedSocket) -> None:
        """Send the ACK to the server, and send it again until it arrives."""
        carried = self._carries(self._here, self._there)
        seconds = self._delay(self._here, self._there) if carried else 1.0
        self._clock.callLater(seconds, self._accept if carried else self._acknowledge, theirs)

    def _accept(self, theirs: SimulatedSocket) -> None:
        """Put the connection into the queue of the port, or reset it if there is no port any more."""
        port = self._port()
        if theirs.closed:
            return
        if port is None:
            theirs.drop(reset=True)
            return
        host: IAddress = self._peer
        port.come(theirs, host, self._host)
