"""The kinds of endpoint strings, for servers and for clients, and the values that each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import endpoints, interfaces

from tcpapp.transport.endpoint_values import CHECKS, PATHS

__all__ = ["CLIENT", "SERVER", "Kind", "Side"]


class Kind:
    """
    The values that endpoint strings of one kind take.

    - `example`: a valid endpoint string of this kind.
    - `takes`: the names of its values with their checks (``name:check``, or ``name`` if both have the same name), in
      the order of values without a name. At most `unnamed` values can have no name. The first `needed` must be given.
    - `trouble`: what is possibly wrong if every value passes its check and Twisted still refuses.
    """

    def __init__(self, example: str, takes: str, *, needed: int = 1, unnamed: int = 9, trouble: str = "") -> None:
        pairs = [each.partition(":") for each in takes.split()]
        self.example = example
        self.takes = {name: CHECKS[check or name] for name, _, check in pairs}
        self.paths = {name for name, _, check in pairs if (check or name) in PATHS}
        self.needed = list(self.takes)[:needed]
        self.unnamed = list(self.takes)[:unnamed]
        self.trouble = f"; {trouble}, as in {example}" if trouble else ""


@dataclass(frozen=True)
class Side:
    """
    The endpoints of one side, servers or clients: their interface, the interface of their plugins, the function that
    makes them, and their kinds.
    """

    interface: Any
    plugins: Any
    make: Callable[[Any, str], Any]
    kinds: dict[str, Kind]


_PEM = "it takes a certificate and the private key to it, in PEM"
_HOST = "host port timeout bindAddress:ip"
_HOST_SSL = f"{_HOST} certKey:file privateKey:file caCertsDir:directory hostname:host"
_HOST_TLS = f"{_HOST} certificate:file privateKey:file trustRoots:roots hostname:host alpn minimum endpoint:name"
_TLS = (
    "path:directory port:listening backlog interface certificate:file privateKey:file chain:file "
    "clients clientRoots:file alpn minimum watch endpoint:name"
)
_SSL = (
    "port:listening privateKey:file certKey:file sslmethod:name interface backlog extraCertChain:file dhParameters:file"
)

SERVER = Side(
    interfaces.IStreamServerEndpoint,
    interfaces.IStreamServerEndpointStringParser,
    endpoints.serverFromString,
    {
        "tcp": Kind("tcp:7007:interface=127.0.0.1", "port:listening interface backlog"),
        "tcp6": Kind(r"tcp6:7007:interface=\:\:1", "port:listening backlog interface"),
        "unix": Kind("unix:/run/app.sock:mode=660", "address:socket mode backlog lockfile"),
        "ssl": Kind("ssl:7007:privateKey=key.pem:certKey=cert.pem", _SSL, trouble=_PEM),
        "tls": Kind("tls:7007:certificate=cert.pem:privateKey=key.pem", _TLS, needed=0),
        "systemd": Kind("systemd:name=app", "domain index:backlog name", needed=0),
        "stdio": Kind("stdio:", "", needed=0),
    },
)
CLIENT = Side(
    interfaces.IStreamClientEndpoint,
    interfaces.IStreamClientEndpointStringParserWithReactor,
    endpoints.clientFromString,
    {
        "tcp": Kind("tcp:localhost:7007", _HOST, needed=2, unnamed=2),
        "unix": Kind("unix:/run/app.sock", "path:socket timeout lockfile", unnamed=1),
        "ssl": Kind("ssl:localhost:7007", _HOST_SSL, needed=2, unnamed=2, trouble=_PEM),
        "tls": Kind("tls:localhost:7007", _HOST_TLS, needed=2),
    },
)
