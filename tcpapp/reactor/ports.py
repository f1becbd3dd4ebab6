"""
Listening ports, which uvloop's loop watches itself.

The reactor's own epoll watches all other descriptors (see `tcpapp.reactor.descriptors`), which costs one more system
call for each event. Ports are an exception to save it. uvloop watches a copy of the descriptor that nobody else can
close, because libuv ends the process when a watched descriptor was closed. libuv also reports no more events after an
error of a socket, but a listening socket has none.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tcpapp.reactor.loop import Loop
    from tcpapp.reactor.opening import Openings

__all__ = ["Ports", "WatchedPort"]


class WatchedPort:
    """A port with a watched descriptor; mixed into Twisted's ports."""

    socket: Any
    fileno: Any
    _copy: socket.socket | None = None
    _inode = 0

    def watched(self) -> int:
        """The watched descriptor: the same one until the port is lost. Raises `OSError` if it has none."""
        if self._copy is None:
            self._copy = self.socket.dup()
            self._inode = os.fstat(self._copy.fileno()).st_ino
        return int(self._copy.fileno())

    @property
    def was_closed(self) -> bool:
        """Whether the program has closed the port's own descriptor, whose number can be reused by now."""
        try:
            return os.fstat(self.fileno()).st_ino != self._inode
        except OSError:
            return True

    def connectionLost(self, reason: Any) -> None:
        """It no longer listens. The reactor calls it."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()
        super().connectionLost(reason)  # type: ignore[misc]  # Twisted's


class Ports:
    """The ports that accept clients now."""

    def __init__(self, loop: Loop, openings: Openings, turn: Callable[[Any], object]) -> None:
        """Let a loop watch them; ``turn`` is called with a port that has clients to accept."""
        self._loop = loop
        self._openings = openings
        self._turn = turn
        self._watched: dict[WatchedPort, int] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._watched))

    def __contains__(self, port: object) -> bool:
        return port in self._watched

    def add(self, port: WatchedPort) -> None:
        """Call ``turn`` whenever a client waits. Raises `OSError` if the system cannot watch it, or it was closed."""
        if port in self._watched:
            return
        if port._copy is not None and port.was_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        descriptor = port.watched()
        self._openings.watch(descriptor)
        self._loop.watch(descriptor, lambda: self._turn(port))
        self._watched[port] = descriptor

    def remove(self, port: WatchedPort) -> None:
        """Stop watching a port. It can be closed by now, and unknown."""
        descriptor = self._watched.pop(port, None)
        if descriptor is not None:
            self._loop.unwatch(descriptor)
