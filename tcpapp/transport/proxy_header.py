"""
PROXY headers at the start of connections, below TLS: read behind a proxy, and written by a client.

Reading: a gate stands before the server's factory. It lets a connection through when its header is whole, with the
addresses that the header names; after that it costs nothing. Only trusted proxies can send headers, because a header
can name any peer. A connection must begin with a header, because a server must not guess whether one is there (section
2 of the specification).

Writing: the header is the first thing that a connection sends.
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

__all__ = [
    "ProxyHeaderClient",
    "ProxyHeaderFactory",
    "ProxyHeaderProtocol",
    "ProxyHeaderServer",
    "ProxyHeaderSource",
    "Server",
    "behind_header",
    "header_below",
]

ProxyHeaderSource = Header | Callable[[Any], Header]
"""The first thing that a connection sends: a header, or a function of its transport that returns one."""


class Server(Protocol):
    """The server's factory, as its gates see it."""

    def proxy_connected(self, waiting: ProxyHeaderProtocol, address: Any) -> bool:
        """Whether a proxy at this address is trusted; it takes a place until `proxy_done`."""
        ...

    def proxy_done(self, waiting: ProxyHeaderProtocol, refused: CloseReason | None) -> None:
        """The gate is done: its connection was let through, or `refused`."""

    @property
    def proxy_timing(self) -> tuple[float, IReactorTime | None]:
        """The seconds that a header can take (0: any number), and their clock."""
        ...


class ProxyHeaderFactory(WrappingFactory):
    """Puts a gate before `factory`, which is the `server` itself, or TLS before it."""

    noisy = False

    def __init__(self, factory: Any, server: Server) -> None:
        super().__init__(factory)
        self.server = server

    def buildProtocol(self, addr: Any) -> ProxyHeaderProtocol:
        """The gate of a new connection. Twisted calls it."""
        return ProxyHeaderProtocol(self, addr)


@implementer(IHalfCloseableProtocol)
class ProxyHeaderProtocol(ProtocolWrapper):
    """
    A connection that waits for its header; then the transport of the protocol behind it, with the header's addresses.

    `proxy_header` is the header, once it is there.
    """

    factory: Any
    proxy_header: Header | None = None

    def __init__(self, factory: ProxyHeaderFactory | None, address: Any) -> None:
        super().__init__(factory, None)  # type: ignore[arg-type]  # there is none yet
        self._address = address
        self._reader: HeaderReader | None = HeaderReader()
        self._timer: IDelayedCall | None = None
        self._waiters: list[Deferred[CloseReason]] = []
        self._reason: CloseReason | None = None
        self._placed = False

    # Called by the transport.

    def makeConnection(self, transport: Any) -> None:
        """The proxy has connected. Twisted calls it."""
        directlyProvides(self, providedBy(transport))
        self.transport = transport
        self.connected = 1
        server = self.factory.server
        self._placed = server.proxy_connected(self, self._address)
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
            self.loseConnection()  # as Twisted does for a protocol without half-close

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

    # The transport of the protocol behind it.

    def getPeer(self) -> Any:
        """The peer that the header names; the proxy, if it names none."""
        return self._of_header("source") or self.transport.getPeer()  # type: ignore[union-attr]

    def getHost(self) -> Any:
        """The address that the peer connected to; the proxy's, if the header does not tell."""
        return self._of_header("destination") or self.transport.getHost()  # type: ignore[union-attr]

    # Called by the server while the header is incomplete: there is no work to finish.

    def abort(self) -> None:
        """Cut it."""
        self._refuse(CloseReason(EndedBy.US, "aborted", "abort() was called"))

    def close(self, grace: float | None = None) -> None:
        """Cut it: there is nothing to flush."""
        self._refuse(CloseReason(EndedBy.US, "closed", "close() was called"))

    def drain(self, deadline: float | None = None) -> None:
        """Cut it: there is no work to finish."""
        self._refuse(CloseReason(EndedBy.US, "drained", "the server stopped before a PROXY header came"))

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

    def pass_by(self, transport: Any, header: Header, behind: Any) -> None:
        """Its header came in another process: be the transport of the protocol `behind` it, and nothing else."""
        directlyProvides(self, providedBy(transport))
        self.transport, self.connected = transport, 1
        self._reader, self.proxy_header, self.wrappedProtocol = None, header, behind
        self._step_aside(behind)

    def _step_aside(self, behind: Any) -> None:
        """Connect the transport and the protocol directly: the gate has no more part in it."""
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
            self.factory.server.proxy_done(self, refused)
        self._reason = refused or CloseReason(EndedBy.PEER, "end-of-stream", "its PROXY header came")
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(self._reason)


@implementer(IStreamServerEndpoint)
class ProxyHeaderServer:
    """Listens on another endpoint for proxies; with TLS on that endpoint, the headers are below it."""

    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint

    def listen(self, factory: Any) -> Any:
        """As for every endpoint; `factory` is a `Server`."""
        wrapped = getattr(self.endpoint, "wrapped", None)
        if wrapped is None:
            return self.endpoint.listen(ProxyHeaderFactory(factory, factory))
        return self.endpoint.endpoint.listen(ProxyHeaderFactory(wrapped(factory), factory))

    @property
    def troubles(self) -> list[str]:
        """Errors of certificate files that it does without; see `ServerContexts`."""
        return list(getattr(self.endpoint, "troubles", ()))

    def reload(self) -> bool:
        """Reload the certificates, if there are any; see `ServerContexts.reload`."""
        reload = getattr(self.endpoint, "reload", None)
        return True if reload is None else bool(reload())


@implementer(IStreamClientEndpoint)
class ProxyHeaderClient:
    """Connects to another endpoint, and sends `header_source` first; with TLS on that endpoint, below it."""

    def __init__(self, endpoint: Any, header_source: ProxyHeaderSource) -> None:
        self.endpoint = endpoint
        self._header_source = header_source

    def connect(self, factory: Any) -> Any:
        """As for every endpoint."""
        below = getattr(self.endpoint, "below", None)
        if below is not None:  # TLS: its own endpoint sends it
            return below(lambda plain: ProxyHeaderClient(plain, self._header_source)).connect(factory)
        return self.endpoint.connect(_ProxyHeaderSender(factory, self._header_source))


class _ProxyHeaderSender(WrappingFactory):
    noisy = False

    def __init__(self, factory: Any, header_source: ProxyHeaderSource) -> None:
        super().__init__(factory)
        self._header_source = header_source

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = self.wrappedFactory.buildProtocol(addr)
        make_connection = protocol.makeConnection

        def send_header(transport: Any) -> None:
            header_source = self._header_source
            header = header_source(transport) if callable(header_source) else header_source
            transport.write(frame(header))
            make_connection(transport)

        protocol.makeConnection = send_header  # only the header was between: the wrapper has no more part in it
        return protocol


def behind_header(transport: Any, header: Header, protocol: Any) -> ProxyHeaderProtocol:
    """
    The transport of a `protocol` whose connection began with `header` in another process: `transport`, with the
    addresses that the header names.
    """
    gate = ProxyHeaderProtocol(None, None)
    gate.pass_by(transport, header, protocol)
    return gate


def header_below(transport: Any) -> Header | None:
    """The PROXY header that a connection began with, whatever layers are on it; `None` without one."""
    while isinstance(transport, ProtocolWrapper):
        if isinstance(transport, ProxyHeaderProtocol):
            return transport.proxy_header
        transport = transport.transport
    return None


def _address_of(address: Any, family: Family) -> Any:
    if isinstance(address, InetAddress):
        kind = IPv6Address if address.ip.version == 6 else IPv4Address
        return kind("UDP" if family in (Family.UDP4, Family.UDP6) else "TCP", str(address.ip), address.port)
    return UNIXAddress(address)


def _unfinished(reader: HeaderReader | None) -> CloseReason:
    """The reason for a connection whose stream ended before its header did."""
    try:
        if reader is not None:
            reader.finish()
    except MalformedProxyHeader as error:
        if error.value:
            return error.close_reason()
    return CloseReason(EndedBy.PEER, "end-of-stream", "the connection was only opened and closed")


def _reset(transport: Any) -> None:
    (getattr(transport, "abortConnection", None) or transport.loseConnection)()
