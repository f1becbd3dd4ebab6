"""
Listening ports, which uvloop's loop watches itself.

The reactor's own epoll watches all other descriptors (see `tcpapp.reactor.descriptors`), which costs one more system
call for each event. Ports save that call. uvloop watches a copy of the descriptor that no other code can close, because
libuv ends the process when a watched descriptor was closed. libuv also reports no more events after an error of a
socket, but a listening socket has no errors.
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
    """A mixin for Twisted's ports: the descriptor that uvloop watches."""

    socket: Any
    fileno: Any
    _copy: socket.socket | None = None
    _inode = 0

    def watched(self) -> int:
        """
        Return the watched descriptor, which stays the same until the port is lost. Raises `OSError` if the port has
        none.
        """
        if self._copy is None:
            self._copy = self.socket.dup()
            self._inode = os.fstat(self._copy.fileno()).st_ino
        return int(self._copy.fileno())

    @property
    def was_closed(self) -> bool:
        """Return whether the program has closed the port's own descriptor. Its number can be in use again."""
        try:
            return os.fstat(self.fileno()).st_ino != self._inode
        except OSError:
            return True

    def connectionLost(self, reason: Any) -> None:
        """Stop listening. The reactor calls it."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()
        super().connectionLost(reason)  # type: ignore[misc]  # Twisted's


class Ports:
    """The ports that accept clients now."""

    def __init__(self, loop: Loop, openings: Openings, turn: Callable[[Any], object]) -> None:
        """Let a loop watch the ports. It calls ``turn`` with a port that has clients to accept."""
        self._loop = loop
        self._openings = openings
        self._turn = turn
        self._watched: dict[WatchedPort, int] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._watched))

    def __contains__(self, port: object) -> bool:
        return port in self._watched

    def add(self, port: WatchedPort) -> None:
        """
        Call ``turn`` whenever a client waits at `port`. Raises `OSError` if the port was closed or cannot be watched.
        """
        if port in self._watched:
            return
        if port._copy is not None and port.was_closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        descriptor = port.watched()
        self._openings.watch(descriptor)
        self._loop.watch(descriptor, lambda: self._turn(port))
        self._watched[port] = descriptor

    def remove(self, port: WatchedPort) -> None:
        """Stop watching a port. Does nothing for an unknown port; it can be closed already."""
        descriptor = self._watched.pop(port, None)
        if descriptor is not None:
            self._loop.unwatch(descriptor)
