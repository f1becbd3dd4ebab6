"""
Endpoints for ``tcp:``, ``tcp6:`` and ``unix:`` strings: Twisted's ports, with errors that name the address.

Every failure to listen is a ``CannotListenError`` with the address or the path in it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["TCPListener", "UNIXListener"]

FOR_ALL = 0o666
"""The mode of a UNIX socket before the umask is applied: the usual mode of files that are no programs (open(2))."""


class TCPListener(TCP4ServerEndpoint):
    """Listens on a TCP port of an IPv4 or IPv6 `interface`."""

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:  # noqa: N803 - Twisted's name
        """
        Listen with the factory. Twisted's own method can fail with an error of the system, which names no address.
        """
        listening: Deferred[Any] = super().listen(protocolFactory)
        return listening.addErrback(self._named)

    def _named(self, failure: Failure) -> Any:
        error = failure.value
        if isinstance(error, OSError):
            raise CannotListenError(self._interface, self._port, error) from error
        return failure


@implementer(IStreamServerEndpoint)
class UNIXListener:
    """
    Listens on a UNIX socket at a path, or under an abstract name, which begins with a NUL (unix(7)).

    The file gets `mode`; with `None`, it gets 0666 without the bits of the process's umask. With `lock`, a file
    ``PATH.lock`` shows whether the path is in use. A path that was left behind by a crash is used again. An abstract
    socket has no file, and so neither mode nor lock.
    """

    def __init__(self, reactor: Any, path: str, *, mode: int | None, backlog: int, lock: bool) -> None:
        self._reactor = reactor
        self._path = path
        self._mode = mode
        self._backlog = backlog
        self._lock = lock and not path.startswith("\0")

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        """Listen with `factory`. Fails with ``CannotListenError``, which names the path."""
        return execute(self._listen, factory)

    def _listen(self, factory: Any) -> Any:
        mode = FOR_ALL & ~_umask() if self._mode is None else self._mode
        begun = getattr(factory, "numPorts", 0)
        try:
            return self._reactor.listenUNIX(
                self._path, factory, backlog=self._backlog, mode=mode, wantPID=int(self._lock)
            )
        except (CannotListenError, OSError) as error:
            if getattr(factory, "numPorts", 0) > begun:  # Twisted has called doStart, and does not undo it
                self._undo(factory)
            raise CannotListenError(None, os.fsencode(self._path), self._trouble(error)) from error

    def _undo(self, factory: Any) -> None:
        factory.doStop()
        if self._lock:
            Path(f"{self._path}.lock").unlink(missing_ok=True)

    def _trouble(self, error: CannotListenError | OSError) -> Any:
        """Return the error as text, without any path but the socket's own."""
        cause = error.socketError if isinstance(error, CannotListenError) else error
        if not isinstance(cause, OSError):
            return f"another process listens there, which holds {self._path}.lock"
        path = Path(self._path)
        if cause.errno == errno.ENOENT:
            return f"there is no folder {path.parent}"
        if cause.errno == errno.EADDRINUSE and path.exists() and not path.is_socket():
            return "a file is there that is no socket"
        return OSError(cause.errno, cause.strerror)


def _umask() -> int:
    """Return the umask of the process. It can be read only by setting it, here to a strict one for a moment."""
    umask = os.umask(stat.S_IRWXG | stat.S_IRWXO)
    os.umask(umask)
    return umask
