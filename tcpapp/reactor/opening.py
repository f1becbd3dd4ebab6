"""How a connected socket gets a transport of uvloop's, with few steps, since each connection takes them."""

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
    What a TCP socket is while uvloop takes it over: to it, a UNIX socket.

    Its transport for those reads, writes and closes by the same calls. That for TCP sockets switches TCP_NODELAY on,
    which is the program's to say, and asks the system for both addresses, which Twisted has.
    """

    __slots__ = ()
    family = socket.AF_UNIX
    type = socket.SOCK_STREAM


class Openings:
    """The transports that are being opened on a loop."""

    def __init__(self, loop: Any) -> None:
        """Open them on this loop."""
        self._loop = loop
        self._epoll = select.epoll.fromfd(os.dup(loop._get_backend_id())) if hasattr(select, "epoll") else None
        self._checking = None if self._epoll is None else select.epoll()
        self._due: list[Stream] = []
        self._is_after = False
        self._unfinished: tuple[Stream | None, Coroutine[Any, Any, Any] | None] = (None, None)

    def watch(self, descriptor: int) -> None:
        """
        Make the watch that libuv will need for a new connection, until its descriptor is closed.

        libuv ends the process where ``epoll_ctl`` fails: for memory, or as /proc/sys/fs/epoll/max_user_watches is
        reached. So a descriptor is put into libuv's own epoll, for no event, before: libuv finds it there, and says
        what it waits for. Raises `OSError` where the system has no watch left.
        """
        if self._epoll is not None:
            try:
                self._epoll.register(descriptor, 0)
            except FileExistsError:
                return  # it has one

    def check_new(self, descriptor: int) -> None:
        """
        See that libuv can watch the descriptor of a new connection, of which `watch` was called.

        Raises `OSError` where it was closed since.
        """
        if self._epoll is not None:
            try:
                self._epoll.modify(descriptor, 0)
            except FileNotFoundError:  # the peer has left already, and libuv has dropped the watch for that
                self._epoll.register(descriptor, 0)

    def check(self, descriptor: int) -> None:
        """
        See that libuv can watch a descriptor again. Raises `OSError` where it was closed.

        libuv would end the process.
        """
        if self._checking is not None:
            self._checking.register(descriptor, 0)
            self._checking.unregister(descriptor)

    def soon(self, stream: Stream) -> None:
        """Have a connection handed over by `now`, or in the next round of the loop."""
        if not self._due and not self._is_after:
            self._loop.call_soon(self.now)
        self._due.append(stream)

    def after(self, connect: Callable[[], object]) -> None:
        """Call this, and `now` after it, which then has no round of the loop for itself."""
        self._is_after = True
        try:
            connect()
        finally:
            self._is_after = False
            self.now()

    def now(self) -> None:
        """Hand over those that wait for it: the protocol has been told of the connection, and may have closed it."""
        due, self._due = self._due, []
        for stream in due:
            stream.hand_over()

    def open(self, stream: Stream) -> Coroutine[Any, Any, Any]:
        """Hand a connection's socket to uvloop, whose ``connection_made`` comes in the next round of the loop."""
        opening: Coroutine[Any, Any, Any] = self._loop.connect_accepted_socket(lambda: stream, stream.socket)
        kind = stream.socket.__class__
        stream.socket.__class__ = AsUnix
        try:
            opening.send(None)  # as far as it goes without waiting
        finally:
            stream.socket.__class__ = kind
        return opening

    def opened(self, stream: Stream, opening: Coroutine[Any, Any, Any]) -> None:
        """
        A connection has its transport.

        uvloop's coroutine can come to its end from when ``connection_made`` has returned. A round of the loop for that
        alone would cost as much as the rest, so the next connection that is opened sees to it, or this one's end.
        """
        self._finish()
        self._unfinished = (stream, opening)
        if stream._is_lent:  # the reactor is not to keep it alive
            self._loop.call_soon(self.ended, stream)

    def ended(self, stream: Stream) -> None:
        """A connection has ended, or is not to be held."""
        if self._unfinished[0] is stream:
            self._finish()

    def _finish(self) -> None:
        (_, opening), self._unfinished = self._unfinished, (None, None)
        if opening is not None:
            try:
                opening.send(None)
            except StopIteration:
                return
