"""
A reactor on uvloop, for any Twisted program. Choose it by ``twistd --reactor=uvloop``, by ``twist --reactor=uvloop`` or
by `install`. It needs the extra ``tcpapp[fast]``.

TCP and UNIX connections read and write through uvloop's own transports, and timers stay in Twisted's heap. All else
works as under Twisted's asyncio reactor. The modules::

    __init__         install(), which raises one clear error if there is no uvloop
    uvloopreactor    the reactor: ports, connectors, readers and writers
    timers           timers and calls from threads, in turns of the loop
    sockets          Twisted's ports, connectors and connections, on uvloop's transports
    opening          giving a connected socket to a transport of uvloop's
    stream           reading through uvloop's transport, in Twisted's order; beginning and ending
    writing, pieces  writing through uvloop's transport
    transfer         what is done for each chunk, read or written; compiled
    small_reads      reading in smaller pieces, one in a turn
    finishing        closing a socket
    connections      the connections on uvloop, and the connections that were taken off the reactor
    tls              Twisted's TLS, with fewer steps for a piece of data
    descriptors      readers and writers with their own doRead and doWrite, as on the epoll reactor
    nested           iterate() inside a callback
    contexts         one context of variables for all callbacks
    children         detecting that a child process has ended
    loop             uvloop's loop

Imports `errors`. New here: each part of this reactor is a module.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tcpapp.errors import UnavailableReactor

if TYPE_CHECKING:
    from tcpapp.reactor.uvloopreactor import UvloopReactor

__all__ = ["UvloopReactor", "install"]


def __getattr__(name: str) -> Any:
    """Import the class of the reactor only when it is used, so that `install` can say what is missing."""
    if name != "UvloopReactor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return reactor_module().UvloopReactor


def install() -> None:
    """
    Make this the reactor of the process. Call it before anything imports ``twisted.internet.reactor``.

    Raises `UnavailableReactor` without uvloop. Then no reactor is installed, and a program can continue with Twisted's
    default reactor. Raises `twisted.internet.error.ReactorAlreadyInstalledError`, the caller's fault, if the process
    has a reactor already.
    """
    reactor_module().install()


def reactor_module() -> Any:
    """
    Import the modules that need uvloop, and return the reactor's module. Raises `UnavailableReactor` without uvloop.
    """
    if sys.platform == "win32":
        raise UnavailableReactor("uvloop has no version for Windows: omit --reactor=uvloop there")
    try:
        import uvloop  # noqa: F401 - to raise an error here that says what to do
    except ImportError as why:
        raise UnavailableReactor(f"uvloop cannot be imported ({why}): pip install 'tcpapp[fast]'") from why
    from tcpapp.reactor import uvloopreactor

    return uvloopreactor
