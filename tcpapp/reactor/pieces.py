"""The bytes that a connection writes, until they go to uvloop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.abstract import FileDescriptor
from typing_extensions import override

if TYPE_CHECKING:
    from typing import Any as Descriptor  # the class these are mixed into comes before it, in the order of bases
else:
    Descriptor = FileDescriptor

__all__ = ["NotReading", "Pieces"]


class NotReading(Exception):
    """Raised from ``connection_made``, so that uvloop does not begin to read: nothing else prevents it."""


class Pieces(Descriptor):  # type: ignore[misc]  # any, to the checker
    """
    A transport's handling of written bytes without TLS: the layer below TLS, once it was started on the connection.

    The methods are called with a `Stream` for ``self``, because Twisted's ``startTLS`` calls those of the class it is
    given.
    """

    _writing: bool

    @override
    def write(self, data: bytes) -> None:
        """Write these bytes: when the current call of ``dataReceived`` returns, or in the next turn."""
        if not self._is_plain or type(data) is not bytes:
            FileDescriptor.write(self, data)
        elif data:
            self._tempDataBuffer.append(data)
            self._tempDataLen += len(data)
            if not self._writing:
                self._writing = True
                if not self._receiving:
                    self._call_writer()
            if self._tempDataLen > self._size:
                self._maybePauseProducer()
