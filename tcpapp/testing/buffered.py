"""
A TCP transport without the kernel: Twisted's own `tcp.Connection` over a socket in memory.

The behaviour of a transport is not reimplemented. Buffering, write marks, producers, half-close, ``loseConnection`` and
``abortConnection`` are Twisted's code, as it runs in production. Only the socket below and the turns of the reactor
above are ours::

    protocol
       │ ▲
    BufferedTransport    tcp.Connection: write marks, producers, closing
       │ ▲               and a turn of the reactor, when the socket is ready
    MemorySocket         a pair of pipes, or a test
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime, ISSLTransport
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from typing_extensions import override
from zope.interface import directlyProvides

if TYPE_CHECKING:
    from tcpapp.testing.buffered_socket import MemorySocket

__all__ = ["BufferedTransport", "NeverSettles"]

_log = Logger()


class _Turning:
    """
    Whether a turn of any transport is running.

    It is not an attribute of a class: setting that makes Python forget what it knows of the class and its subclasses.
    """

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = False


_turning = _Turning()


class NeverSettles(RuntimeError):
    """A transport or a wire still has work after very many turns, so it would never come to rest."""


class _PlainEnd:
    """The transport for the TLS layer on it: its writes and its closing bypass TLS."""

    own: ClassVar = {"write", "writeSequence", "loseConnection", "registerProducer", "unregisterProducer"}

    def __init__(self, transport: BufferedTransport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        if name in self.own:
            return partial(getattr(FileDescriptor, name), self._transport)
        return getattr(self._transport, name)


class BufferedTransport(Connection):
    """
    Carries bytes between `protocol` and `socket`, in turns that `reactor` runs.

    It provides `ITCPTransport`, `ITLSTransport`, `IConsumer` and `IPushProducer`, and behaves as
    `twisted.internet.tcp.Server` and ``Client`` do, because it is based on the same class. As there:

    * written bytes wait until a later turn; over ``bufferSize`` (64 KiB) a push producer is paused, and resumed when
      all bytes are sent; a pull producer is asked each time all bytes are sent
    * ``loseConnection`` stops reading, sends the bytes written before and after it, then closes. It waits for a pull
      producer and for a push producer that is paused. It does not wait for other push producers, whatever Twisted's
      docs say
    * ``connectionLost`` comes once, from the reactor's turn and never inside a call of the protocol. The only
      exception is Twisted's own: ``loseConnection`` after ``loseWriteConnection`` calls it inside the call
    * an exception that the protocol raises is logged and ends the connection; it is the reason
    * on a `Clock`, timers and turns of one moment have the order of Twisted's reactors (all but asyncio's), which run
      their timers and then poll their sockets. Bytes written in a timer are sent before the timers of 0 seconds that
      are set there. Bytes written in ``dataReceived`` are sent after such timers

    Differences: ``getHandle`` returns the memory socket, and ``fileno`` returns -1. `reactor` is only used for the time
    and for delayed calls, so it can be a `Clock`. ``loseWriteConnection`` after the end does nothing. In Twisted it
    gives the reactor an invalid descriptor, with effects that depend on the reactor.

    ``getHost`` and ``getPeer`` return `host` and `peer`. `client` says that it is the client's side of TLS.
    """

    _base = Connection

    def __init__(
        self,
        socket: MemorySocket,
        protocol: IProtocol,
        reactor: IReactorTime,
        *,
        host: IAddress,
        peer: IAddress,
        client: bool = False,
    ) -> None:
        super().__init__(cast("Any", socket), protocol, cast("Any", reactor))
        self._host = host
        self._peer = peer
        self._tlsClientDefault = client
        self._memory = socket
        self._reads = False
        self._writes = False
        self._next_turn: IDelayedCall | None = None
        self._before_timers = False
        self.logstr = f"{self._getLogPrefix(protocol)},{'client' if client else peer}"
        socket.on_ready = self.wake

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._host} to {self._peer}>"

    def open(self) -> None:
        """Begin to read, and call the protocol's ``makeConnection``."""
        self.connected = 1
        self.startReading()
        self.protocol.makeConnection(self)

    def getHost(self) -> Any:
        """Return the address of this side."""
        return self._host

    def getPeer(self) -> Any:
        """Return the peer's address."""
        return self._peer

    # The turns of the reactor.

    @property
    def wants_to_read(self) -> bool:
        """Whether it reads: the connection is open, and reading is not paused."""
        return self._reads

    @property
    def wants_to_write(self) -> bool:
        """Whether it has bytes to send, or must close the connection."""
        return self._writes

    @override
    def startReading(self) -> None:
        """Read from the next turn on. Does nothing after the connection is lost."""
        self._reads = not self.disconnected
        self._ask()

    @override
    def stopReading(self) -> None:
        """Stop reading."""
        self._reads = False

    @override
    def startWriting(self) -> None:
        """Write from the next turn on. Does nothing after the connection is lost."""
        self._writes = not self.disconnected
        self._ask()

    @override
    def stopWriting(self) -> None:
        """Stop writing."""
        self._writes = False

    def _ask(self) -> None:
        """Schedule a turn for the protocol: inside a turn, after the due timers; outside a turn, before them."""
        self._before_timers = not _turning.now
        self.wake()
        self._before_timers = False

    def wake(self) -> None:
        """Schedule a turn if there is work for one."""
        if self._next_turn is None and ((self._reads and self._memory.readable) or (self._writes and self._can_write)):
            self._next_turn = self.later(self._turn)

    def later(self, call: Callable[[], None]) -> IDelayedCall:
        """Schedule `call` for a later turn. A simulation that orders the turns overrides this method."""
        delayed: IDelayedCall = self.reactor.callLater(0, call)  # type: ignore[attr-defined] # as IReactorTime
        calls = getattr(self.reactor, "calls", None)  # the calls of a Clock, in the order in which they run
        if self._before_timers and calls is not None:
            calls.remove(delayed)
            calls.insert(0, delayed)
        return delayed

    @property
    def _can_read(self) -> bool:
        return self._reads and self._memory.readable

    @property
    def _can_write(self) -> bool:
        return self._writes and self._memory.writable

    def _turn(self) -> None:
        """Do what a reactor does with a ready socket: read, then write, if there was something to write before."""
        __tracebackhide__ = True
        self._next_turn = None
        wanted_to_write = self._writes and self._can_write
        if self._reads and self._memory.readable:
            self._handle(self.doRead, reading=True)
        if wanted_to_write and self._can_write:
            self._handle(self.doWrite, reading=False)
        self.wake()

    def _handle(self, event: Callable[[], Any], *, reading: bool) -> None:
        """Handle a read or write event. Its result or its exception can end the connection."""
        before, _turning.now = _turning.now, True
        try:
            why = event()
            if why is not None:
                self._end(why, reading)
        except Exception:  # noqa: BLE001 - the protocol can raise anything, which ends this connection
            why = sys.exc_info()[1]
            _log.failure("the protocol failed; its connection is lost")
            self._end(why, reading)
        finally:
            _turning.now = before

    def _end(self, why: Any, reading: bool) -> None:
        """End the connection for this reason."""
        self.stopReading()
        try:
            if reading and type(why) is ConnectionDone:
                self.readConnectionLost(Failure(why))
            else:
                self.connectionLost(Failure(why))
        except Exception:  # noqa: BLE001 - as above; the connection is lost already
            _log.failure("the protocol failed in its connectionLost")

    def connectionLost(self, reason: Failure) -> None:
        """End the connection: close the socket, stop the producer, call the protocol. Later calls do nothing."""
        if self._next_turn is not None and self._next_turn.active():
            self._next_turn.cancel()
        super().connectionLost(reason)

    # TLS.

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """
        Switch to TLS in the middle of the stream. It is real TLS, by pyOpenSSL, with its delayed calls on `reactor`.

        Twisted's own method would make these calls on the global reactor.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory

        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        client = self._tlsClientDefault is normal
        factory = TLSMemoryBIOFactory(ctx, client, cast("Any", None), clock=cast("Any", self.reactor))
        layer = factory.protocol(factory, self.protocol, False)
        self.protocol = layer
        self.getHandle = layer.getHandle  # type: ignore[method-assign] # as Twisted's own does
        self.getPeerCertificate = layer.getPeerCertificate
        directlyProvides(self, ISSLTransport)
        self.TLS = True
        layer.makeConnection(cast("Any", _PlainEnd(self)))
        if producer is not None:
            self.registerProducer(producer, streaming)
