"""
The connections on uvloop, by their descriptor; and what happens when their sockets are in other hands.

Twisted's reactors know of a connection only while it is read or written. A program can take one off the reactor, with
``removeReader`` and ``removeWriter``, use its socket itself, and forget the connection. The socket is closed when
nobody holds it any more. uvloop closes a socket with its transport, whoever else holds it: so it is given a copy then.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

from twisted.internet.posixbase import _NO_FILEDESC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tcpapp.reactor.stream import Stream

__all__ = ["Connections"]


class Connections:
    """Each connection from when it is handed to uvloop until its end. One that was taken off is not kept alive."""

    def __init__(self, call_soon: Callable[..., object]) -> None:
        self._call_soon = call_soon
        self._held: dict[int, Stream] = {}
        self._lent: dict[int, ref[Stream]] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._held.values()))

    def get(self, descriptor: int) -> Stream | None:
        """Return the connection that is on the reactor and has this descriptor."""
        return self._held.get(descriptor)

    def add(self, stream: Stream) -> None:
        """
        Know of a new connection.

        Where the program has closed the descriptor of an older one, the system may give its number to the new one. The
        new one gets another number then, for uvloop would close this one with the older. The older one is lost.
        """
        before = self._held.get(stream.fileno()) or self._lent.get(stream.fileno(), missing)()
        if before is not None:
            leave_number(stream)
            self._call_soon(before._lose, _NO_FILEDESC, False)
        self._held[stream.fileno()] = stream

    def discard(self, stream: Stream) -> None:
        """Know of it no more: it has ended, or is no longer on uvloop."""
        descriptor = stream.fileno()
        if self._held.get(descriptor) is stream:
            del self._held[descriptor]
        elif stream._is_lent:
            self._lent.pop(descriptor, None)
        else:  # the program has closed its socket
            self._held = {number: each for number, each in self._held.items() if each is not stream}

    def lend(self, stream: Stream) -> None:
        """It was taken off the reactor: it lives on as long as somebody else holds it, and its socket likewise."""
        descriptor = stream.fileno()
        if self._held.pop(descriptor, None) is not None:
            stream._is_lent = True
            self._lent[descriptor] = ref(stream, partial(self._nobody_holds, descriptor, stream.socket))

    def take_back(self, stream: Stream) -> None:
        """It was put back on the reactor."""
        stream._is_lent = False
        if self._lent.pop(stream.fileno(), None) is not None:
            self._held[stream.fileno()] = stream

    def _nobody_holds(self, descriptor: int, skt: socket.socket, _: object) -> None:
        """uvloop closes the descriptor as soon as this returns; somebody may still use the socket."""
        del self._lent[descriptor]
        with suppress(OSError):  # closed, or no descriptor left
            copy = os.dup(skt.fileno())
            skt.detach()
            socket.socket.__init__(skt, fileno=copy)


def missing() -> None:
    """There is none."""


def leave_number(stream: Stream) -> None:
    """Give a connection's socket another descriptor, and what had it a socket that is connected to nothing."""
    skt = stream.socket
    stream.socket = skt.dup()
    stream.fileno = stream.socket.fileno
    with socket.socket(skt.family) as blank:
        os.dup2(blank.fileno(), skt.detach(), inheritable=False)
