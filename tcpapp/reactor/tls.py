"""
Twisted's TLS with fewer steps for each chunk.

Twisted's `twisted.protocols.tls` still does the handshake, handles certificates, names and ALPN, closes, and owns the
OpenSSL connection. This module replaces only the transfer of bytes after the handshake.

Twisted reads until an exception says that no bytes are left, sends each 16 KiB separately, and waits for the next turn
before it sends the bytes that ``dataReceived`` wrote. This module asks OpenSSL for the number of bytes. It encrypts all
bytes written in one call of ``dataReceived`` by one call, and gives them to the transport when ``dataReceived``
returns.

OpenSSL is called through the binding of pyOpenSSL. If the binding lacks a needed function, Twisted's own code is used.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol, _AggregateSmallWrites
from twisted.python.failure import Failure
from typing_extensions import override

__all__ = ["QuickTLS", "quicken"]

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)

NEEDED = ("BIO_get_mem_data", "BIO_read", "BIO_write", "ERR_clear_error", "SSL_read", "SSL_write")

IS_THERE = _ffi is not None and all(hasattr(_lib, name) for name in NEEDED)
"""Whether pyOpenSSL's binding has the needed functions."""

ROOM = 1 << 17
"""The most bytes that are read from OpenSSL at once: eight records of TLS, as Twisted's ``SEND_LIMIT``."""

Ends = tuple[Any, Any, Any]
"""What OpenSSL has of a connection: its ``SSL``, the BIO of received bytes, and the BIO of bytes to send."""

_room: Any = _ffi.new("char[]", ROOM) if IS_THERE else None
_content: Any = _ffi.buffer(_room) if IS_THERE else None
_where: Any = _ffi.new("char **") if IS_THERE else None
# A lookup in the binding takes as long as some of the calls, so each function is looked up once.
_calls: list[Any] = [getattr(_lib, name, None) for name in NEEDED]
_mem_data, _bio_read, _bio_write, _clear_errors, _ssl_read, _ssl_write = _calls


def ends_of(connection: Any) -> Ends:
    """Return the ends of pyOpenSSL's connection. Each lookup in it is slow, because its class has ``__getattr__``."""
    return connection._ssl, connection._into_ssl, connection._from_ssl


def quicken(protocol: Any) -> None:
    """Make a TLS protocol of Twisted fast before it is connected, even if an endpoint has wrapped it."""
    for each in (protocol, getattr(protocol, "_wrappedProtocol", None)):
        if not IS_THERE:
            return
        if type(each) is TLSMemoryBIOProtocol:
            each.__class__ = QuickTLS
        elif getattr(each, "may_be_quick", False):
            each.__class__ = _quick(type(each))
        elif type(each) is BufferingTLSTransport:
            each.__class__ = QuickBufferingTLS
            each._gather()


_quick_kinds: dict[Any, Any] = {}


def _quick(kind: Any) -> Any:
    """Return a class that transfers bytes as `QuickTLS` does, and otherwise behaves as `kind`."""
    if kind not in _quick_kinds:
        _quick_kinds[kind] = type(f"Quick{kind.__name__}", (QuickTLS, kind), {"may_be_quick": False})
    return _quick_kinds[kind]


class QuickTLS(TLSMemoryBIOProtocol):
    """The TLS of one connection: it replaces Twisted's class, or is mixed into a class with ``may_be_quick``."""

    _tlsConnection: Any  # noqa: N815 - Twisted's name
    _appSendBuffer: list[bytes]  # noqa: N815 - as above
    transport: Any
    _ends: Ends | None = None
    """The ends of the OpenSSL connection after the handshake, while no write is held back."""

    @override
    def dataReceived(self, data: bytes) -> None:
        """Decrypt received bytes, and pass them on. The transport calls it."""
        ends = self._ends
        if ends is not None:
            _bio_write(ends[1], data, len(data))
            self._flushReceiveBIO()
            return
        super().dataReceived(data)
        if self._handshakeDone and not self._appSendBuffer and self._tlsConnection is not None:
            self._ends = ends_of(self._tlsConnection)

    @override
    def _bufferedWrite(self, octets: bytes) -> None:
        self._ends = None
        super()._bufferedWrite(octets)

    @override
    def _flushReceiveBIO(self) -> None:
        self._pass_on(self._ends or ends_of(self._tlsConnection))
        self._flushSendBIO()

    def _pass_on(self, ends: Ends) -> None:
        """Pass on all bytes that can be decrypted, in chunks of at most the buffer's size."""
        ssl, source, _ = ends
        while not self._lostTLSConnection:
            _clear_errors()
            filled = _ssl_read(ssl, _room, ROOM)
            why = None
            if filled <= 0 or (filled < ROOM and _mem_data(source, _where)):
                filled, why = self._decrypt(ends, filled)
            if filled and not self._aborted:
                self.wrappedProtocol.dataReceived(_content[:filled])
            if why is not None and not self._lostTLSConnection:
                self._end(why)
            if filled < ROOM:
                break

    def _decrypt(self, ends: Ends, size: int) -> tuple[int, Error | None]:
        """
        Fill the rest of the buffer, after OpenSSL has returned `size`.

        Returns the number of bytes in the buffer, and the error if no more bytes will come.
        """
        ssl, source, _ = ends
        filled = 0
        while True:
            if size <= 0:
                try:
                    self._tlsConnection._raise_ssl_error(ssl, size)
                except WantReadError:
                    break
                except Error as why:
                    return filled, why
            filled += size
            # As long as there is room, SSL_read returns all bytes of a record: OpenSSL holds none of them back.
            if filled == ROOM or not _mem_data(source, _where):
                break
            size = _ssl_read(ssl, _room + filled, ROOM - filled)
        return filled, None

    def _end(self, why: Error) -> None:
        """Handle the end of TLS, clean or by an error, as Twisted's ``_flushReceiveBIO`` does."""
        if isinstance(why, ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            # without its frames, which would hold the error and this object
            self._tlsShutdownFinished(Failure(why.with_traceback(None)))

    @override
    def _flushSendBIO(self) -> None:
        """Give all encrypted bytes of OpenSSL to the transport."""
        out = (self._ends or ends_of(self._tlsConnection))[2]
        size = ROOM
        while size == ROOM:
            size = _bio_read(out, _room, ROOM)
            if size > 0:
                self.transport.write(_content[:size])

    @override
    def _write(self, data: bytes) -> None:
        """Encrypt `data`, and give it to the transport."""
        ends, size, sent = self._ends, len(data), 0
        if ends is not None and type(data) is bytes and not self._lostTLSConnection:
            sent = _ssl_write(ends[0], data, min(size, ROOM)) if size else 0
            if sent < size:  # it takes one record at a time, as pyOpenSSL's contexts ask for
                sent = self._encrypt(ends[0], data, max(sent, 0))
            self._flushSendBIO()
        if sent < size:
            super()._write(data[sent:])

    @staticmethod
    def _encrypt(ssl: Any, data: bytes, sent: int) -> int:
        """Encrypt `data` from the byte `sent` on. Returns the number of bytes that OpenSSL has taken."""
        start, size = _ffi.from_buffer(data), len(data)
        while sent < size:
            more = _ssl_write(ssl, start + sent, min(size - sent, ROOM))
            if more <= 0:
                _clear_errors()  # Twisted's code finds them again
                break
            sent += more
        return sent

    @override
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Report the end of the transport, and release OpenSSL's memory."""
        super().connectionLost(reason)
        self._ends = None


class Gathering(_AggregateSmallWrites):
    """
    Gathers small writes. They are sent in the next turn, as in Twisted, or at the end of a call of ``dataReceived``.
    """

    receiving = False

    @override
    def write(self, data: bytes) -> None:
        """Keep the bytes until they are sent, or until they are many."""
        self._buffer.append(data + b"")
        self._bufferLeft -= len(data)
        if self._bufferLeft < 0:
            self.flush()
        elif not self.receiving and not self._scheduled:
            self._scheduled = self._clock.callLater(0, self._scheduledFlush)


class QuickBufferingTLS(QuickTLS, BufferingTLSTransport):
    """`QuickTLS` for Twisted's class that gathers small writes."""

    _aggregator: Any

    def _gather(self) -> None:
        """Write through `Gathering` from now on."""
        before = self._aggregator
        if before._scheduled is None:
            self._aggregator = Gathering(before._write, before._clock)
            self.write = self._aggregator.write  # type: ignore[method-assign]  # as Twisted does

    @override
    def _flushReceiveBIO(self) -> None:
        aggregator = self._aggregator
        aggregator.receiving = True
        try:
            self._pass_on(self._ends or ends_of(self._tlsConnection))
        finally:
            aggregator.receiving = False
        if getattr(aggregator, "_buffer", None):  # Twisted replaces the aggregator at the end of the connection
            aggregator.flush()
        else:
            self._flushSendBIO()
