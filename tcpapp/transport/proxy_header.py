"""
PROXY headers at the start of connections, below TLS: servers behind a proxy read them, and clients can send them.

Reading: a `ProxyHeaderProtocol` reads the header of a new connection. When the header is whole, it passes the
connection to the server's factory, with the addresses from the header. After that it costs nothing. Only trusted
proxies can send headers, because a header can name any peer. A connection must begin with a header, because a server
must not guess whether there is one (section 2 of the specification).

Writing: the client sends the header before all other bytes of a connection.
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
"""The header that a connection sends first, or a function that returns it for the connection's transport."""


class Server(Protocol):
    """The methods of the server's factory that a `ProxyHeaderProtocol` calls."""

    def proxy_connected(self, waiting: ProxyHeaderProtocol, address: Any) -> bool:
        """Return whether a proxy at this `address` is accepted. If so, it counts as a connection until `proxy_done`."""
        ...

    def proxy_done(self, waiting: ProxyHeaderProtocol, refused: CloseReason | None) -> None:
        """Note that `waiting` waits no longer: its header is whole, or it was `refused` for this reason."""

    @property
    def proxy_timing(self) -> tuple[float, IReactorTime | None]:
        """The seconds to wait for a whole header (0: no limit), and the clock for them."""
        ...


class ProxyHeaderFactory(WrappingFactory):
    """Reads the headers of new connections, and then passes them to `factory`: the `server`, or TLS before it."""

    noisy = False

    def __init__(self, factory: Any, server: Server) -> None:
        super().__init__(factory)
        self.server = server

    def buildProtocol(self, addr: Any) -> ProxyHeaderProtocol:
        """Return the `ProxyHeaderProtocol` of a new connection. Twisted calls it."""
        return ProxyHeaderProtocol(self, addr)


@implementer(IHalfCloseableProtocol)
class ProxyHeaderProtocol(ProtocolWrapper):
    """
    Waits for the header of a connection. After that it is the transport of the server's protocol, with the addresses
    from the header.

    `proxy_header` is the header when it is whole; `None` before.
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
        """Begin to wait for the header of a proxy that has connected. Twisted calls it."""
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
        """Read bytes of the header, and pass on the bytes that follow it. Twisted calls it."""
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
        """End or pass on, as the proxy has closed its side. Twisted calls it."""
        behind: Any = self.wrappedProtocol
        if behind is None:
            self._refuse(_unfinished(self._reader))
        elif IHalfCloseableProtocol.providedBy(behind):
            behind.readConnectionLost()
        else:
            self.loseConnection()  # as Twisted does for a protocol that does not support half-close

    def writeConnectionLost(self) -> None:
        """Pass on that our side is closed for writing. Twisted calls it."""
        if IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Refuse the proxy if the header is incomplete, or pass on the loss of the connection. Twisted calls it."""
        if self.wrappedProtocol is not None:
            self.wrappedProtocol.connectionLost(reason)
            return
        self._done(_unfinished(self._reader))

    # Called by the server's protocol, for which this is the transport.

    def getPeer(self) -> Any:
        """Return the address of the peer that the header names, or of the proxy if it names none."""
        return self._of_header("source") or self.transport.getPeer()  # type: ignore[union-attr]

    def getHost(self) -> Any:
        """
        Return the address that the peer connected to, or the address that the proxy connected to if the header names
        none.
        """
        return self._of_header("destination") or self.transport.getHost()  # type: ignore[union-attr]

    # Called by the server while the header is incomplete: there is no work to finish.

    def abort(self) -> None:
        """Cut the connection."""
        self._refuse(CloseReason(EndedBy.US, "aborted", "abort() was called"))

    def close(self, grace: float | None = None) -> None:
        """Cut the connection: there is nothing to flush."""
        self._refuse(CloseReason(EndedBy.US, "closed", "close() was called"))

    def drain(self, deadline: float | None = None) -> None:
        """Cut the connection: there is no work to finish."""
        self._refuse(CloseReason(EndedBy.US, "drained", "the server stopped before a PROXY header came"))

    def when_closed(self) -> Deferred[CloseReason]:
        """Return a Deferred that fires with the reason when the connection no longer waits for a header."""
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
        """Become the transport of the protocol `behind`, whose `header` arrived in another process. Do nothing else."""
        directlyProvides(self, providedBy(transport))
        self.transport, self.connected = transport, 1
        self._reader, self.proxy_header, self.wrappedProtocol = None, header, behind
        self._step_aside(behind)

    def _step_aside(self, behind: Any) -> None:
        """Connect the transport and the protocol directly, so that this object is no longer called."""
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
        """Stop waiting for a header."""
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
    """Listens for proxies on another endpoint. If that endpoint has TLS, the headers are below TLS."""

    def __init__(self, endpoint: Any) -> None:
        self.endpoint = endpoint

    def listen(self, factory: Any) -> Any:
        """Listen with `factory`, which is a `Server`. Returns the Deferred of the endpoint below."""
        wrapped = getattr(self.endpoint, "wrapped", None)
        if wrapped is None:
            return self.endpoint.listen(ProxyHeaderFactory(factory, factory))
        return self.endpoint.endpoint.listen(ProxyHeaderFactory(wrapped(factory), factory))

    @property
    def troubles(self) -> list[str]:
        """A line for each invalid certificate file that is not used; see `ServerContexts`."""
        return list(getattr(self.endpoint, "troubles", ()))

    def reload(self) -> bool:
        """Reload the certificates, if there are any. See `ServerContexts.reload`."""
        reload = getattr(self.endpoint, "reload", None)
        return True if reload is None else bool(reload())


@implementer(IStreamClientEndpoint)
class ProxyHeaderClient:
    """
    Connects to another endpoint, and sends the header of `header_source` first. If that endpoint has TLS, the header is
    below TLS.
    """

    def __init__(self, endpoint: Any, header_source: ProxyHeaderSource) -> None:
        self.endpoint = endpoint
        self._header_source = header_source

    def connect(self, factory: Any) -> Any:
        """Connect with `factory`. Returns the Deferred of the endpoint below."""
        below = getattr(self.endpoint, "below", None)
        if below is not None:  # with TLS, the endpoint below TLS sends the header
            return below(lambda plain: ProxyHeaderClient(plain, self._header_source)).connect(factory)
        return self.endpoint.connect(_ProxyHeaderSender(factory, self._header_source))


class _ProxyHeaderSender(WrappingFactory):
    """Wraps a client's factory, so that its connections send a PROXY header first."""

    noisy = False

    def __init__(self, factory: Any, header_source: ProxyHeaderSource) -> None:
        super().__init__(factory)
        self._header_source = header_source

    def buildProtocol(self, addr: Any) -> Any:
        """Return a wrapper that sends the header as soon as it has a transport. Twisted calls it."""
        protocol: Any = self.wrappedFactory.buildProtocol(addr)
        make_connection = protocol.makeConnection

        def send_header(transport: Any) -> None:
            header_source = self._header_source
            header = header_source(transport) if callable(header_source) else header_source
            transport.write(frame(header))
            make_connection(transport)

        # only the header had to be sent first, so the wrapper is no longer needed
        protocol.makeConnection = send_header
        return protocol


def behind_header(transport: Any, header: Header, protocol: Any) -> ProxyHeaderProtocol:
    """
    Return a transport for `protocol`, whose connection began with `header` in another process.

    It is `transport` with the addresses that the header names.
    """
    gate = ProxyHeaderProtocol(None, None)
    gate.pass_by(transport, header, protocol)
    return gate


def header_below(transport: Any) -> Header | None:
    """Return the PROXY header at the beginning of a connection, below any layers; `None` without one."""
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
    """Return the reason of a connection whose stream ended before its header was whole."""
    try:
        if reader is not None:
            reader.finish()
    except MalformedProxyHeader as error:
        if error.value:
            return error.close_reason()
    return CloseReason(EndedBy.PEER, "end-of-stream", "the connection was only opened and closed")


def _reset(transport: Any) -> None:
    (getattr(transport, "abortConnection", None) or transport.loseConnection)()
