"""
The uvloop-native reactor, for any Twisted program: ``twistd --reactor=uvloop``, ``twist --reactor=uvloop``, or
`install`. It needs the extra ``tcpapp[fast]``.

TCP and UNIX connections read and write on uvloop's own transports; timers are in Twisted's heap; all else is as under
Twisted's asyncio reactor.
The rooms::

    __init__         install(): where uvloop is not there, one clear line
    uvloopreactor    the reactor: what makes ports and connectors, who is read and written
    timers           timers and calls from threads, in turns of the loop
    sockets          Twisted's ports, connectors and connections, on such streams
    opening          how a connected socket gets a transport of uvloop's
    stream           reading through uvloop's transport, in Twisted's order of things; beginning and ending
    writing, pieces  writing, likewise
    small_reads      reading in smaller pieces, one in a turn
    finishing        the last steps of closing
    connections      who is on uvloop, and what was taken off the reactor
    tls              Twisted's TLS, with fewer steps for a piece of data
    descriptors      what is read and written by its own doRead and doWrite, as on the epoll reactor
    nested           iterate() inside a callback
    contexts         one context for all callbacks
    children         how it hears that a process has ended
    loop             uvloop's loop

Imports `errors`.
New here: what this reactor does by itself is a module here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tcpapp.errors import UnavailableReactor

if TYPE_CHECKING:
    from tcpapp.reactor.uvloopreactor import UvloopReactor

__all__ = ["UvloopReactor", "install"]


def __getattr__(name: str) -> Any:
    """Import the reactor's class when it is asked for, so that `install` can say what is missing."""
    if name != "UvloopReactor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return reactor_module().UvloopReactor


def install() -> None:
    """
    Make this the reactor of the process. To be called before anything imports ``twisted.internet.reactor``.

    Raises `UnavailableReactor` where there is no uvloop; nothing is installed then, and a program may go on with
    Twisted's default reactor. Raises `twisted.internet.error.ReactorAlreadyInstalledError` where there is a reactor.
    """
    reactor_module().install()


def reactor_module() -> Any:
    """Import what needs uvloop. Raises `UnavailableReactor` where there is none."""
    if sys.platform == "win32":
        raise UnavailableReactor("uvloop has no version for Windows: leave --reactor=uvloop away there")
    try:
        import uvloop  # noqa: F401 - to be told of it here, by a line that says what to do
    except ImportError as why:
        raise UnavailableReactor(f"uvloop cannot be imported ({why}): pip install 'tcpapp[fast]'") from why
    from tcpapp.reactor import uvloopreactor

    return uvloopreactor
