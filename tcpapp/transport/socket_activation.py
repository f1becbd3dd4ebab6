"""
Sockets that another program, such as systemd, opened and handed over to this process (sd_listen_fds(3)).

A socket tells its family, its type, and whether it listens. An endpoint string only chooses the socket, by the name or
the index that systemd gives it. All sockets of one name are served.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import endpoints, tcp, unix
from twisted.internet.defer import Deferred, execute, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from zope.interface import implementer

from tcpapp.errors import InvalidAddress

__all__ = ["HOW", "AdoptedEndpoint", "AdoptedPorts", "NothingHandedOver", "is_unseen", "ports_of"]

FAMILIES = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}
"""The values of ``domain=``."""

HOW = "systemd hands over the sockets of a .socket unit, and only to ExecStart= (LISTEN_FDS, LISTEN_PID)"


class NothingHandedOver(CannotListenError):
    """No socket was handed over to this process."""

    def __init__(self, which: str) -> None:
        super().__init__(None, which, OSError(f"no socket was handed over to this process: {HOW}"))

    def __str__(self) -> str:
        return f"Couldn't listen on systemd:{self.port}: {self.socketError}."


@dataclass(frozen=True)
class Adopted:
    """A socket that was handed over: its `name`, its `descriptor`, and its `family`."""

    name: str
    descriptor: int
    family: int


@implementer(IStreamServerEndpoint)
class AdoptedEndpoint:
    """
    Listens with the handed-over sockets of this `name`, or with the socket at this `index`.

    Raises `InvalidAddress` if sockets were handed over and none of them matches, or if a matching socket has another
    `domain` or is no listening stream socket. ``INET`` and ``INET6`` match each other, because a socket for both
    families is an IPv6 socket.

    If no socket was handed over, as for ``--check`` in ``ExecStartPre=``, `unseen` is true and listening fails with
    `NothingHandedOver`. The descriptors stay open, so the endpoint can be checked and listened on again.
    """

    def __init__(self, reactor: Any, *, domain: str = "", name: str = "", index: int | None = None) -> None:
        if (not name) == (index is None):
            raise InvalidAddress(
                "it takes the name= (FileDescriptorName=) of a socket or its index=, as systemd:name=app"
            )
        self._reactor = reactor
        self._which = f"name={name}" if name else f"index={index}"
        handed_over = _handed_over()
        self.unseen = not handed_over
        meant = [each for at, each in enumerate(handed_over) if each[0] == name or at == index]
        if handed_over and not meant:
            there = ", ".join(sorted({each for each, _ in handed_over}))
            raise InvalidAddress(f"no socket of {self._which} was handed over; there are {len(handed_over)}: {there}")
        self.sockets = [_looked_at(name, descriptor, domain) for name, descriptor in meant]

    def listen(self, factory: Any) -> Deferred[Any]:
        """Listen with `factory`. For several sockets, the Deferred fires with an `AdoptedPorts`."""
        return execute(self._listen, factory)

    def _listen(self, factory: Any) -> Any:
        if self.unseen:
            raise NothingHandedOver(self._which)
        ports: list[Any] = []
        try:
            ports.extend(self._adopt(each, factory) for each in self.sockets)
        except BaseException:
            AdoptedPorts(ports).stopListening()
            raise
        return ports[0] if len(ports) == 1 else AdoptedPorts(ports)

    def _adopt(self, adopted: Adopted, factory: Any) -> Any:
        os.set_blocking(adopted.descriptor, False)
        os.set_inheritable(adopted.descriptor, False)
        if adopted.family == socket.AF_UNIX:
            return AdoptedUNIXPort.of(self._reactor, adopted.descriptor, factory)
        return self._reactor.adoptStreamPort(adopted.descriptor, adopted.family, factory)


def is_unseen(endpoint: Any) -> bool:
    """Return whether `endpoint`, or an endpoint below it, is for sockets that were not handed over to this process."""
    while endpoint is not None and not isinstance(endpoint, AdoptedEndpoint):
        endpoint = getattr(endpoint, "endpoint", None)
    return endpoint is not None and endpoint.unseen


def _handed_over() -> list[tuple[str, int]]:
    """
    Return the names and descriptors of all handed-over sockets. Twisted read them when it was imported, and keeps them.
    """
    listed = endpoints._SystemdParser._sddaemon
    return list(zip(listed._names, listed._descriptors, strict=True))


def _looked_at(name: str, descriptor: int, domain: str) -> Adopted:
    """
    Return the socket of this descriptor. Raises `InvalidAddress` if a server of `domain` (empty: any) cannot listen
    with it.
    """
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        raise InvalidAddress(f"what was handed over as {name!r} is not open ({error.strerror})") from error
    if not stat.S_ISSOCK(mode):
        raise InvalidAddress(f"what was handed over as {name!r} is no socket: it takes one of ListenStream=")
    with socket.socket(fileno=os.dup(descriptor)) as found:  # it asks the system for the family and the type
        family, kind = found.family, found.type
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if family not in FAMILIES.values() or kind != socket.SOCK_STREAM or not listens:
        raise InvalidAddress(f"the socket {name!r} is not one that listens for streams: it takes one of ListenStream=")
    if domain and (FAMILIES[domain] == socket.AF_UNIX) != (family == socket.AF_UNIX):
        true = next(each for each, number in FAMILIES.items() if number == family)
        raise InvalidAddress(f"the socket {name!r} is of domain {true}: write domain={true}, or leave domain= out")
    return Adopted(name, descriptor, family)


class AdoptedUNIXPort(unix.Port):
    """
    The port of a UNIX socket that was handed over, and that still belongs to its owner.

    Twisted's own port would make the socket readable and writable to all, remove its file, and shut it down at the end.
    """

    _shouldShutdown = False
    factory: Any
    fileno: Any

    @classmethod
    def of(cls, reactor: Any, descriptor: int, factory: Any) -> AdoptedUNIXPort:
        """Return a port that listens with this socket."""
        port: AdoptedUNIXPort = cls._fromListeningDescriptor(reactor, descriptor, factory)
        port.transport = getattr(reactor, "unix_server", unix.Server)
        port.startListening()
        return port

    def startListening(self) -> None:
        """Begin to accept clients. The socket listens already."""
        tcp._reservedFD.reserve()
        self.factory.doStart()
        adopted: Any = self._preexistingSocket
        self.socket, self._preexistingSocket = adopted, None
        self.fileno = self.socket.fileno
        self.connected = True
        self.numberAccepts = 100  # as Twisted's port does
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        """Close our descriptor, after the port has stopped listening. Twisted calls it."""
        tcp.Port.connectionLost(self, reason)


@implementer(IListeningPort)
class AdoptedPorts:
    """Several ports of one endpoint."""

    def __init__(self, ports: Sequence[Any]) -> None:
        self.ports = tuple(ports)

    def getHost(self) -> IAddress:
        """Return the address of the first port."""
        return self.ports[0].getHost()  # type: ignore[no-any-return]

    def startListening(self) -> None:
        """Listen on all ports again."""
        for each in self.ports:
            each.startListening()

    def stopListening(self) -> Deferred[None]:
        """Stop listening on all ports. Fires when all are closed."""
        closing = [maybeDeferred(each.stopListening) for each in self.ports]
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)


def ports_of(port: Any) -> tuple[Any, ...]:
    """Return all ports of an endpoint's `port`: usually the port itself."""
    return port.ports if isinstance(port, AdoptedPorts) else (port,)
