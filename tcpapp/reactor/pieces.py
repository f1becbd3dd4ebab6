"""The written bytes of a connection, until they go to uvloop."""

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
    """Raised in ``connection_made`` so that uvloop does not begin to read. There is no other way to prevent it."""


class Pieces(Descriptor):  # type: ignore[misc]  # any, to the checker
    """
    The part of a transport that handles written bytes without TLS. After ``startTLS`` it is the layer below TLS.

    The methods are called with a `Stream` as ``self``, because Twisted's ``startTLS`` calls the methods of the class
    that it is given.
    """

    _tempDataLen: int  # noqa: N815 - Twisted's name
    _writing: bool

    @override
    def write(self, data: bytes) -> None:
        """Write these bytes when the current call of ``dataReceived`` returns, or in the next turn."""
        if not self._is_plain or type(data) is not bytes:
            FileDescriptor.write(self, data)
        elif data:
            self._tempDataBuffer.append(data)
            unwritten: int = self._tempDataLen + len(data)
            self._tempDataLen = unwritten
            if not self._writing:
                self._writing = True
                if not self._receiving:
                    self._call_writer()
            if unwritten > self._size:
                self._maybePauseProducer()
