"""
The connections on uvloop by descriptor, and the connections that a program has taken off the reactor.

Twisted's reactors hold a connection only while it is read or written. A program can take a connection off the reactor
with ``removeReader`` and ``removeWriter``, use its socket itself, and drop the connection. The socket must stay open
until nothing refers to it. But uvloop closes the descriptor together with its transport. So the socket gets a copy of
the descriptor before that.
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
    """Holds each connection from its hand-over to uvloop until its end. Connections off the reactor are held weakly."""

    def __init__(self, call_soon: Callable[..., object]) -> None:
        self._call_soon = call_soon
        self._held: dict[int, Stream] = {}
        self._lent: dict[int, ref[Stream]] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._held.values()))

    def get(self, descriptor: int) -> Stream | None:
        """Return the connection with this descriptor; `None` if no connection on the reactor has it."""
        return self._held.get(descriptor)

    def add(self, stream: Stream) -> None:
        """
        Add a new connection.

        If the program has closed the descriptor of an older connection, the new connection can have the same number.
        Then the older connection is lost. If uvloop has the older connection, it closes the number with it, so the new
        connection gets another number.
        """
        before = self._held.get(stream.fileno()) or self._lent.get(stream.fileno(), missing)()
        if before is not None:
            if before._is_handed_over:
                leave_number(stream)
            self._call_soon(before._lose, _NO_FILEDESC, False)
        self._held[stream.fileno()] = stream

    def discard(self, stream: Stream) -> None:
        """Remove a connection that has ended, or is no longer on uvloop."""
        descriptor = stream.fileno()
        if self._held.get(descriptor) is stream:
            del self._held[descriptor]
        elif stream._is_lent:
            self._lent.pop(descriptor, None)
        else:  # the program has closed its socket
            self._held = {number: each for number, each in self._held.items() if each is not stream}

    def lend(self, stream: Stream) -> None:
        """Hold a connection weakly from now on, because the program took it off the reactor."""
        descriptor = stream.fileno()
        if self._held.pop(descriptor, None) is not None:
            stream._is_lent = True
            ended = partial(self._nobody_holds, descriptor, stream.socket if stream._is_handed_over else None)
            self._lent[descriptor] = ref(stream, ended)

    def take_back(self, stream: Stream) -> None:
        """Hold a connection again, because the program put it back on the reactor."""
        stream._is_lent = False
        if self._lent.pop(stream.fileno(), None) is not None:
            self._held[stream.fileno()] = stream

    def _nobody_holds(self, descriptor: int, skt: socket.socket | None, _: object) -> None:
        """
        Give the socket of a dropped connection a copy of its descriptor, because uvloop closes the old one right after
        this.
        """
        del self._lent[descriptor]
        if skt is None:
            return
        with suppress(OSError):  # it is closed, or no descriptor is left
            copy = os.dup(skt.fileno())
            skt.detach()
            socket.socket.__init__(skt, fileno=copy)


def missing() -> None:
    """Return `None`, as the weak reference to a deleted connection does."""


def leave_number(stream: Stream) -> None:
    """Give the socket of a connection another descriptor, and put an unconnected socket under the old number."""
    skt = stream.socket
    stream.socket = skt.dup()
    stream.fileno = stream.socket.fileno
    with socket.socket(skt.family) as blank:
        os.dup2(blank.fileno(), skt.detach(), inheritable=False)
