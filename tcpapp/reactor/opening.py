"""Hands a connected socket to a transport of uvloop. It takes few steps, because each connection needs them."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tcpapp.reactor.stream import Stream

__all__ = ["Openings"]


class AsUnix(socket.socket):
    """
    A TCP socket that looks like a UNIX socket while uvloop takes it over.

    uvloop's transport for UNIX sockets reads, writes and closes by the same calls. Its transport for TCP sockets also
    switches TCP_NODELAY on, which the program must decide, and asks the system for both addresses, which Twisted has
    already.
    """

    __slots__ = ()
    family = socket.AF_UNIX
    type = socket.SOCK_STREAM


class Openings:
    """The connections that are being handed over to uvloop."""

    def __init__(self, loop: Any) -> None:
        """Hand connections over to this loop."""
        self._loop = loop
        self._epoll = select.epoll.fromfd(os.dup(loop._get_backend_id())) if hasattr(select, "epoll") else None
        self._checking = None if self._epoll is None else select.epoll()
        self._highest = -1
        self._due: list[Stream] = []
        self._is_after = False
        self._unfinished: tuple[Stream | None, Coroutine[Any, Any, Any] | None] = (None, None)

    def watch(self, descriptor: int) -> None:
        """
        Make the watch of a descriptor that libuv needs for a new connection. It lasts until the descriptor is closed.

        libuv ends the process if ``epoll_ctl`` fails: without memory, or over /proc/sys/fs/epoll/max_user_watches. So a
        descriptor is first put into libuv's own epoll, for no event. libuv finds it there, and only changes its events.
        The epoll reports a peer that has gone for no event, too. libuv must have a place for the descriptor then, or it
        ends the process.

        Raises `OSError` if the system has no watch left.
        """
        if self._epoll is not None:
            try:
                self._epoll.register(descriptor, 0)
            except FileExistsError:
                return  # it has a watch
            if descriptor > self._highest:
                self._make_place(descriptor)
                self.check_new(descriptor)  # libuv has removed the watch

    def _make_place(self, descriptor: int) -> None:
        """Let libuv make its table of descriptors long enough for this one. It never becomes shorter."""
        self._loop.add_reader(descriptor, _ignore)
        self._loop.remove_reader(descriptor)
        self._highest = descriptor

    def check_new(self, descriptor: int) -> None:
        """
        Check that libuv can still watch the descriptor of a new connection, for which `watch` was called.

        Raises `OSError` if it was closed meanwhile.
        """
        if self._epoll is not None:
            try:
                self._epoll.modify(descriptor, 0)
            except FileNotFoundError:  # the peer has left already, so libuv has dropped the watch
                self._epoll.register(descriptor, 0)

    def check(self, descriptor: int) -> None:
        """
        Check that libuv can watch a descriptor again. Raises `OSError` if the descriptor was closed.

        Without the check, libuv would end the process.
        """
        if self._checking is not None:
            self._checking.register(descriptor, 0)
            self._checking.unregister(descriptor)

    def soon(self, stream: Stream) -> None:
        """Hand a connection over in the next call of `now`, or in the next turn of the loop."""
        if not self._due and not self._is_after:
            self._loop.call_soon(self.now)
        self._due.append(stream)

    def after(self, connect: Callable[[], object]) -> None:
        """Call `connect`, and then `now`, so that the hand-over needs no turn of its own."""
        self._is_after = True
        try:
            connect()
        finally:
            self._is_after = False
            self.now()

    def now(self) -> None:
        """Hand over the waiting connections. Their protocols know them already, and can have closed them."""
        due, self._due = self._due, []
        for stream in due:
            stream.hand_over()

    def open(self, stream: Stream) -> Coroutine[Any, Any, Any]:
        """Hand the socket of a connection to uvloop, which calls ``connection_made`` in the next turn of the loop."""
        opening: Coroutine[Any, Any, Any] = self._loop.connect_accepted_socket(lambda: stream, stream.socket)
        kind = stream.socket.__class__
        stream.socket.__class__ = AsUnix
        try:
            opening.send(None)  # run the coroutine up to its first wait
        finally:
            stream.socket.__class__ = kind
        return opening

    def opened(self, stream: Stream, opening: Coroutine[Any, Any, Any]) -> None:
        """
        Note that a connection has its transport.

        uvloop's coroutine can be finished as soon as ``connection_made`` has returned. A turn of the loop for that
        alone would cost as much as the rest. So it is finished when the next connection is opened, or when this one
        ends.
        """
        self._finish()
        self._unfinished = (stream, opening)
        if stream._is_lent:  # the reactor must not hold it
            self._loop.call_soon(self.ended, stream)

    def ended(self, stream: Stream) -> None:
        """Forget a connection that has ended, or that must not be held any longer."""
        if self._unfinished[0] is stream:
            self._finish()

    def _finish(self) -> None:
        (_, opening), self._unfinished = self._unfinished, (None, None)
        if opening is not None:
            try:
                opening.send(None)
            except StopIteration:
                return


def _ignore() -> None:
    """Stands in for a reader."""
