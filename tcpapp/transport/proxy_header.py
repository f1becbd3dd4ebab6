"""
Behind a proxy, and as one: the PROXY header before the first byte of a connection, below TLS.

In: a gate stands before the factory that serves. It lets a connection through when its header is whole, as one of the
peer that the header names; from then on it costs nothing. Only proxies that are trusted are listened to: whoever may
write a header may be anyone. A connection has to begin with one, for nobody may guess whether one is there
(section 2 of the specification).

Out: the header is what a connection says first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.errors import MalformedProxyHeader
from tcpapp.proxy_protocol import Family, Header, HeaderReader, InetAddress, frame

__all__ = ["Announced", "Announcement", "Gate", "Proxied", "ProxiedFactory", "Server", "header_below"]

Announcement = Header | Callable[[Any], Header]
"""What is said first of a connection: a header, or a function of its transport that gives one."""


class Server(Protocol):
    """The factory that serves, as its gates see it."""

    def proxy_came(self, gate: Gate, address: Any) -> bool:
        """Whether one at this address may say for whom it comes; it takes a place until `proxy_went`."""
        ...

    def proxy_went(self, gate: Gate, refused: CloseReason | None) -> None:
        """The gate is done: its connection was let through, or `refused`."""

    @property
    def proxy_timing(self) -> tuple[float, IReactorTime | None]:
        """How many seconds a header may take (0: any), and by which clock."""
        ...


class ProxiedFactory(WrappingFactory):
    """Puts a gate before `factory`: that of the `server` itself, or TLS before it."""

    noisy = False

    def __init__(self, factory: Any, server: Server) -> None:
        super().__init__(factory)
        self.server = server

    def buildProtocol(self, addr: Any) -> Gate:
        """The gate of a new connection. Twisted calls it."""
        return Gate(self, addr)


@implementer(IHalfCloseableProtocol)
class Gate(ProtocolWrapper):
    """
    A connection whose header is on its way; then the transport of the protocol behind it, with the true addresses.

    `proxy_header` is the header, once it is there.
    """

    factory: Any
    proxy_header: Header | None = None

    def __init__(self, factory: ProxiedFactory, address: Any) -> None:
        super().__init__(factory, None)  # type: ignore[arg-type]  # there is none yet
        self._address = address
        self._reader: HeaderReader | None = HeaderReader()
        self._timer: IDelayedCall | None = None
        self._waiters: list[Deferred[CloseReason]] = []
        self._reason: CloseReason | None = None
        self._placed = False

    # What the transport calls.

    def makeConnection(self, transport: Any) -> None:
        """The proxy has connected. Twisted calls it."""
        directlyProvides(self, providedBy(transport))
        self.transport = transport
        self.connected = 1
        server = self.factory.server
        self._placed = server.proxy_came(self, self._address)
        if not self._placed:
            self._reader = None
            _reset(transport)
            return
        seconds, clock = server.proxy_timing
        clock = clock or getattr(transport, "reactor", None)
        if seconds and clock is not None:
            self._timer = clock.callLater(seconds, self._late, seconds)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the header came, and maybe some behind it. Twisted calls it."""
        if self._reader is None:
            return
        try:
            header = self._reader.receive(data)
        except MalformedProxyHeader as error:
            self._refuse(error.close_reason())
        else:
            if header is not None:
                self._let_through(header, self._reader.rest)

    def readConnectionLost(self) -> None:
        """The proxy closed its side. Twisted calls it."""
        behind: Any = self.wrappedProtocol
        if behind is None:
            self._refuse(_unfinished(self._reader))
        elif IHalfCloseableProtocol.providedBy(behind):
            behind.readConnectionLost()
        else:
            self.loseConnection()  # as Twisted's own does for one that knows of no half

    def writeConnectionLost(self) -> None:
        """Our side is closed for writing. Twisted calls it."""
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is lost. Twisted calls it."""
        if self.wrappedProtocol is not None:
            self.wrappedProtocol.connectionLost(reason)
            return
        self._done(_unfinished(self._reader))

    # What the protocol behind it sees of the transport.

    def getPeer(self) -> Any:
        """The peer that the header names; the proxy, where it names none."""
        return self._of_header("source") or self.transport.getPeer()  # type: ignore[union-attr]

    def getHost(self) -> Any:
        """Where that peer connected to; where the proxy did, where the header does not tell."""
        return self._of_header("destination") or self.transport.getHost()  # type: ignore[union-attr]

    # What the server calls of one that waits for its header: there is nothing in hand.

    def abort(self) -> None:
        """Cut it."""
        self._refuse(CloseReason(EndedBy.US, "aborted", "abort() was called"))

    def close(self, grace: float | None = None) -> None:
        """Cut it: there is nothing to flush."""
        self._refuse(CloseReason(EndedBy.US, "closed", "close() was called"))

    def drain(self, deadline: float | None = None) -> None:
        """Cut it: there is nothing in hand."""
        self._refuse(CloseReason(EndedBy.US, "drained", "we are stopping, and no PROXY header had come"))

    def when_closed(self) -> Deferred[CloseReason]:
        """Fires with the reason when it waits for no header any more."""
        if self._reason is not None:
            return succeed(self._reason)
        waiter: Deferred[CloseReason] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def _of_header(self, which: str) -> Any:
        header = self.proxy_header
        return None if header is None or not header.relayed else _address_of(getattr(header, which), header.family)

    def _let_through(self, header: Header, rest: bytes) -> None:
        self.proxy_header = header
        self._done(None)
        behind = self.factory.wrappedFactory.buildProtocol(self.getPeer())
        self.wrappedProtocol = behind
        self._step_aside(behind)
        behind.makeConnection(self)
        if rest:
            behind.dataReceived(rest)

    def _step_aside(self, behind: Any) -> None:
        """Have what comes and what goes pass by: nothing of it is any more the gate's."""
        transport: Any = self.transport
        if getattr(transport, "protocol", None) is self:
            transport.protocol = behind
        vars(self).update(dataReceived=behind.dataReceived, write=transport.write)

    def _late(self, seconds: float) -> None:
        self._timer = None
        text = f"no whole PROXY header came in {seconds:g} s (proxy_header)"
        self._refuse(CloseReason(EndedBy.US, "proxy-header-timeout", text, seconds, seconds))

    def _refuse(self, reason: CloseReason) -> None:
        if self._reader is not None:
            self._done(reason)
            _reset(self.transport)

    def _done(self, refused: CloseReason | None) -> None:
        """It waits for no header any more."""
        self._reader = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._placed:
            self._placed = False
            self.factory.server.proxy_went(self, refused)
        self._reason = refused or CloseReason(EndedBy.PEER, "end-of-stream", "its PROXY header came")
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(self._reason)


@implementer(IStreamServerEndpoint)
class Proxied:
    """Listens on another endpoint for proxies; where that speaks TLS, the headers are below it."""

    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint

    def listen(self, factory: Any) -> Any:
        """As every endpoint does; `factory` is a `Server`."""
        wrapped = getattr(self.endpoint, "wrapped", None)
        if wrapped is None:
            return self.endpoint.listen(ProxiedFactory(factory, factory))
        return self.endpoint.endpoint.listen(ProxiedFactory(wrapped(factory), factory))

    @property
    def troubles(self) -> list[str]:
        """What is wrong with files of certificates that it does without; see `ServerContexts`."""
        return list(getattr(self.endpoint, "troubles", ()))

    def reload(self) -> bool:
        """Read the certificates anew, if there are any; see `ServerContexts.reload`."""
        reload = getattr(self.endpoint, "reload", None)
        return True if reload is None else bool(reload())


@implementer(IStreamClientEndpoint)
class Announced:
    """Connects to another endpoint, and says `announcement` first; where that speaks TLS, below it."""

    def __init__(self, endpoint: Any, announcement: Announcement) -> None:
        self.endpoint = endpoint
        self._announcement = announcement

    def connect(self, factory: Any) -> Any:
        """As every endpoint does."""
        below = getattr(self.endpoint, "below", None)
        if below is not None:  # TLS: its own endpoint is what says it
            return below(lambda plain: Announced(plain, self._announcement)).connect(factory)
        return self.endpoint.connect(_Announcing(factory, self._announcement))


class _Announcing(WrappingFactory):
    noisy = False

    def __init__(self, factory: Any, announcement: Announcement) -> None:
        super().__init__(factory)
        self._announcement = announcement

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = self.wrappedFactory.buildProtocol(addr)
        make_connection = protocol.makeConnection

        def announce(transport: Any) -> None:
            announcement = self._announcement
            header = announcement(transport) if callable(announcement) else announcement
            transport.write(frame(header))
            make_connection(transport)

        protocol.makeConnection = announce  # the header is all that is between: nothing is left in the way
        return protocol


def header_below(transport: Any) -> Header | None:
    """The PROXY header that a connection began with, whatever layers are on it; `None` where there was none."""
    while isinstance(transport, ProtocolWrapper):
        if isinstance(transport, Gate):
            return transport.proxy_header
        transport = transport.transport
    return None


def _address_of(address: Any, family: Family) -> Any:
    if isinstance(address, InetAddress):
        kind = IPv6Address if address.ip.version == 6 else IPv4Address
        return kind("UDP" if family in (Family.UDP4, Family.UDP6) else "TCP", str(address.ip), address.port)
    return UNIXAddress(address)


def _unfinished(reader: HeaderReader | None) -> CloseReason:
    """Why a connection ends whose stream ended before its header did."""
    try:
        if reader is not None:
            reader.finish()
    except MalformedProxyHeader as error:
        if error.value:
            return error.close_reason()
    return CloseReason(EndedBy.PEER, "end-of-stream", "the connection was only opened and closed")


def _reset(transport: Any) -> None:
    (getattr(transport, "abortConnection", None) or transport.loseConnection)()
