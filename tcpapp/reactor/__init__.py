"""
The uvloop-native reactor, for any Twisted program: ``twistd --reactor=uvloop``, ``twist --reactor=uvloop``, or
`install`. It needs the extra ``tcpapp[fast]``.

TCP and UNIX connections read and write on uvloop's own transports; all else is as under Twisted's asyncio reactor.
The rooms::

    __init__         install(): where uvloop is not there, one clear line
    uvloopreactor    the reactor: what makes ports and connectors, who is read and written
    sockets          Twisted's ports, connectors and connections, on such streams
    stream           reading and writing through uvloop's transport, in Twisted's order of things
    sips             reading in smaller pieces, one in a turn
    tls              Twisted's TLS, with fewer steps for a piece of data
    children         how it hears that a process has ended
    loop             uvloop's loop
"""

from __future__ import annotations

import sys

from tcpapp.errors import UnavailableReactor

__all__ = ["install"]


def install() -> None:
    """
    Make this the reactor of the process. To be called before anything imports ``twisted.internet.reactor``.

    Raises `UnavailableReactor` where there is no uvloop; nothing is installed then, and a program may go on with
    Twisted's default reactor. Raises `twisted.internet.error.ReactorAlreadyInstalledError` where there is a reactor.
    """
    if sys.platform == "win32":
        raise UnavailableReactor("uvloop has no version for Windows: leave --reactor=uvloop away there")
    try:
        import uvloop  # noqa: F401 - to be told of it here, by a line that says what to do
    except ImportError as why:
        raise UnavailableReactor(f"uvloop cannot be imported ({why}): pip install 'tcpapp[fast]'") from why
    from tcpapp.reactor import uvloopreactor

    uvloopreactor.install()
