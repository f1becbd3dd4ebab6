"""
The uvloop-native reactor, for any Twisted program: ``twistd --reactor=uvloop``, ``twist --reactor=uvloop``, or
`install`. It needs the extra ``tcpapp[fast]``.

TCP and UNIX connections read and write on uvloop's own transports, and timers are in Twisted's heap. Everything else is
as under Twisted's asyncio reactor. The modules::

    __init__         install(): without uvloop, one clear error
    uvloopreactor    the reactor: it makes ports and connectors, and knows its readers and writers
    timers           timers and calls from threads, in turns of the loop
    sockets          Twisted's ports, connectors and connections, on such streams
    opening          how a connected socket gets a transport of uvloop's
    stream           reading through uvloop's transport, in Twisted's order; beginning and ending
    writing, pieces  writing, likewise
    small_reads      reading in smaller pieces, one in a turn
    finishing        the last steps of closing
    connections      the connections on uvloop, and those taken off the reactor
    tls              Twisted's TLS, with fewer steps for a piece of data
    descriptors      readers and writers with their own doRead and doWrite, as on the epoll reactor
    nested           iterate() inside a callback
    contexts         one context for all callbacks
    children         how it detects that a process has ended
    loop             uvloop's loop

Imports `errors`.
New here: a part of this reactor is a module here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tcpapp.errors import UnavailableReactor

if TYPE_CHECKING:
    from tcpapp.reactor.uvloopreactor import UvloopReactor

__all__ = ["UvloopReactor", "install"]


def __getattr__(name: str) -> Any:
    """Import the reactor's class only when it is used, so that `install` can say what is missing."""
    if name != "UvloopReactor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return reactor_module().UvloopReactor


def install() -> None:
    """
    Make this the reactor of the process. Call it before anything imports ``twisted.internet.reactor``.

    Raises `UnavailableReactor` without uvloop. Nothing is installed then, and a program can go on with Twisted's
    default reactor. Raises `twisted.internet.error.ReactorAlreadyInstalledError` if there is a reactor.
    """
    reactor_module().install()


def reactor_module() -> Any:
    """Import the modules that need uvloop. Raises `UnavailableReactor` without it."""
    if sys.platform == "win32":
        raise UnavailableReactor("uvloop has no version for Windows: omit --reactor=uvloop there")
    try:
        import uvloop  # noqa: F401 - to raise an error here that says what to do
    except ImportError as why:
        raise UnavailableReactor(f"uvloop cannot be imported ({why}): pip install 'tcpapp[fast]'") from why
    from tcpapp.reactor import uvloopreactor

    return uvloopreactor
