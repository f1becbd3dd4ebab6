"""The written bytes of a connection, until they go to uvloop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.abstract import FileDescriptor

from tcpapp.reactor.transfer import Transfer

if TYPE_CHECKING:
    from typing import Any as Descriptor  # the class these are mixed into comes before it, in the order of bases
else:
    Descriptor = FileDescriptor

__all__ = ["NotReading", "Pieces"]


class NotReading(Exception):
    """Raised in ``connection_made`` so that uvloop does not begin to read. There is no other way to prevent it."""


class Pieces(Transfer, Descriptor):  # type: ignore[misc]  # any, to the checker
    """
    The part of a transport that handles written bytes without TLS. After ``startTLS`` it is the layer below TLS.

    The methods are called with a `Stream` as ``self``, because Twisted's ``startTLS`` calls the methods of the class
    that it is given.
    """

    write = Transfer._write_piece
