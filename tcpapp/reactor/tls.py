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
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol, _AggregateSmallWrites
from twisted.python.failure import Failure
from typing_extensions import override

__all__ = ["QuickTLS", "quicken"]

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)

NEEDED = ("BIO_get_mem_data", "BIO_read", "BIO_write", "ERR_clear_error", "SSL_pending", "SSL_read", "SSL_write")

IS_THERE = _ffi is not None and all(hasattr(_lib, name) for name in NEEDED)
"""Whether pyOpenSSL's binding has the needed functions."""

ROOM = 1 << 17
"""The most bytes that are read from OpenSSL at once: eight records of TLS, as Twisted's ``SEND_LIMIT``."""

_room: Any = _ffi.new("char[]", ROOM) if IS_THERE else None
_where: Any = _ffi.new("char **") if IS_THERE else None


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
    transport: Any

    @override
    def dataReceived(self, data: bytes) -> None:
        """Decrypt received bytes, and pass them on. The transport calls it."""
        if self._handshakeDone and not self._appSendBuffer:
            _lib.BIO_write(self._tlsConnection._into_ssl, data, len(data))
            self._flushReceiveBIO()
        else:
            super().dataReceived(data)

    @override
    def _flushReceiveBIO(self) -> None:
        """Pass on all bytes that can be decrypted, in chunks of at most the buffer's size."""
        while not self._lostTLSConnection:
            filled, why = self._decrypt()
            if filled and not self._aborted:
                self.wrappedProtocol.dataReceived(_ffi.buffer(_room, filled)[:])
            if why is not None and not self._lostTLSConnection:
                self._end(why)
            if filled < ROOM:
                break
        self._flushSendBIO()

    def _decrypt(self) -> tuple[int, Error | None]:
        """Decrypt into the buffer. Returns the number of bytes, and the error if no more bytes will come."""
        connection = self._tlsConnection
        ssl, source, filled = connection._ssl, connection._into_ssl, 0
        _lib.ERR_clear_error()
        while filled < ROOM:
            size = _lib.SSL_read(ssl, _room + filled, ROOM - filled)
            if size <= 0:
                try:
                    connection._raise_ssl_error(ssl, size)
                except WantReadError:
                    break
                except Error as why:
                    return filled, why
            filled += size
            if not _lib.SSL_pending(ssl) and not _lib.BIO_get_mem_data(source, _where):
                break
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
        out = self._tlsConnection._from_ssl
        size = ROOM
        while size == ROOM:
            size = _lib.BIO_read(out, _room, ROOM)
            if size > 0:
                self.transport.write(_ffi.buffer(_room, size)[:])

    @override
    def _write(self, data: bytes) -> None:
        """Encrypt `data`, and give it to the transport."""
        sent = 0
        if self._handshakeDone and not self._appSendBuffer and not self._lostTLSConnection and type(data) is bytes:
            ssl, start, size = self._tlsConnection._ssl, _ffi.from_buffer(data), len(data)
            _lib.ERR_clear_error()
            while sent < size:  # one record at a time, as pyOpenSSL's contexts do
                more = _lib.SSL_write(ssl, start + sent, min(size - sent, ROOM))
                if more <= 0:
                    break
                sent += more
            self._flushSendBIO()
        if sent < len(data):
            super()._write(data[sent:])


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
            super()._flushReceiveBIO()
        finally:
            aggregator.receiving = False
        aggregator.flush()
