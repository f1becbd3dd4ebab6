r"""
Endpoint strings, checked before anything is opened.

Twisted accepts port 99999, an empty path or certificates that do not exist. It fails later: when it listens, when it
connects or at the first handshake. Its own checks raise errors of many types. Here every value is checked first, and an
invalid value raises `InvalidAddress`.

Values are given in order or by name, and a ``:`` inside a value is written ``\:``, as in ``tcp:\:\:1:7007``. Strings
for endpoint plugins of other packages are passed to the plugin unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet import endpoints, interfaces

from tcpapp.errors import InvalidAddress
from tcpapp.transport.endpoint_kinds import CLIENT, SERVER, Side
from tcpapp.transport.endpoint_reader import EndpointString, joined, read_string
from tcpapp.transport.happy_eyeballs import HostEndpoint
from tcpapp.transport.hostnames import is_ip
from tcpapp.transport.proxy_header import ProxyHeaderServer
from tcpapp.transport.server_endpoints import TCPListener, UNIXListener
from tcpapp.transport.socket_activation import AdoptedEndpoint

__all__ = ["client_endpoint", "client_string", "server_endpoint"]


def server_endpoint(reactor: Any, endpoint: object, folder: str = "") -> interfaces.IStreamServerEndpoint:
    """
    Return the endpoint to listen on: `endpoint` itself if it is an endpoint, otherwise the endpoint that the string
    describes.

    Paths in the string are relative to `folder` (by default, the current directory at this time). Raises
    `InvalidAddress`, the caller's fault, for an invalid string. Only the certificates that it names are opened.
    """
    return cast("interfaces.IStreamServerEndpoint", _endpoint(reactor, endpoint, SERVER, folder=folder))


def client_endpoint(reactor: Any, endpoint: object, timeout: int = 30) -> interfaces.IStreamClientEndpoint:
    """
    Return the endpoint to connect to: `endpoint` itself if it is an endpoint, otherwise the endpoint that the string
    describes.

    Raises `InvalidAddress`, the caller's fault, for an invalid string. Only the certificates that it names are opened.
    The host is looked up only when connecting. An attempt to connect fails after `timeout` seconds, unless the string
    has a ``timeout=``.
    """
    return cast("interfaces.IStreamClientEndpoint", _endpoint(reactor, endpoint, CLIENT, timeout))


def client_string(endpoint: object) -> Any:
    """
    Return `endpoint` for later use: a string with its paths made absolute, or any other endpoint unchanged.

    Raises `InvalidAddress`, the caller's fault, for an invalid string.
    """
    return read_string(endpoint, endpoint, CLIENT, 1, "").kept if isinstance(endpoint, str) else endpoint


def _endpoint(reactor: Any, endpoint: object, side: Side, timeout: int = 0, folder: str = "") -> Any:
    if side.interface.providedBy(endpoint):
        return endpoint
    if not isinstance(endpoint, str):
        example = side.kinds["tcp"].example
        raise InvalidAddress(f"{endpoint!r}: takes a string such as {example}, or an {side.interface.__name__}")
    read = read_string(endpoint, endpoint, side, timeout, folder)
    try:
        return _made(reactor, read, side)
    except InvalidAddress as error:
        raise InvalidAddress(f"{endpoint!r}: {error}") from error
    except Exception as error:
        # Twisted's parsers raise errors of many kinds: TypeError, LookupError, OSError, OpenSSL's errors, …
        said = f"{type(error).__name__}: {error}"
        raise InvalidAddress(f"{endpoint!r}: no endpoint can be made of this ({said}){read.trouble}") from error


def _made(reactor: Any, read: EndpointString, side: Side) -> Any:
    """Make the endpoint that was read: an endpoint of ours where Twisted's has a flaw, otherwise Twisted's."""
    makers = _SERVERS if side is SERVER else _CLIENTS
    make = makers.get("tls" if read.kind == "ssl" and read.proxied else read.kind)
    made = side.make(reactor, read.text) if make is None else make(reactor, read)
    return ProxyHeaderServer(made) if read.proxied else made


def _tcp_server(reactor: Any, read: EndpointString) -> Any:
    values = read.values
    interface = values.get("interface", "::" if read.kind == "tcp6" else "")
    return TCPListener(reactor, int(values["port"]), int(values["backlog"]), interface)


def _unix_server(reactor: Any, read: EndpointString) -> Any:
    values = read.values
    path = _path_of(values["address"], values, ("mode", "lockfile"))
    mode = int(values["mode"], 8) if "mode" in values else None
    lock = values.get("lockfile", "1") == "1"
    return UNIXListener(reactor, path, mode=mode, backlog=int(values["backlog"]), lock=lock)


def _unix_client(reactor: Any, read: EndpointString) -> Any:
    values = read.values
    path = _path_of(values["path"], values, ("lockfile",))
    lock = values.get("lockfile", "0") == "1"
    return endpoints.UNIXClientEndpoint(reactor, path, int(values["timeout"]), lock)


def _path_of(written: str, values: dict[str, str], of_files: tuple[str, ...]) -> str:
    """Return the path of a socket. ``@name`` is an abstract socket, as in systemd and ss."""
    path = "\0" + written[1:] if written.startswith("@") else written
    if path.startswith("\0"):
        for name in of_files:
            if name in values:
                raise InvalidAddress(f"an abstract socket has no {name}: it is no file; a file of that name is ./@name")
    return path


def _adopted(reactor: Any, read: EndpointString) -> Any:
    values = read.values
    index = int(values["index"]) if "index" in values else None
    return AdoptedEndpoint(reactor, domain=values.get("domain", ""), name=values.get("name", ""), index=index)


def _tls_server(reactor: Any, read: EndpointString) -> Any:
    """Make TLS on the port or the endpoint that the string names. ``ssl:`` has other names for the files."""
    from tcpapp.transport.tls.endpoints import tls_server  # late: it needs pyOpenSSL, which other kinds do not

    values = dict(read.values)
    if read.kind == "ssl":
        values.setdefault("certKey", values.setdefault("privateKey", "server.pem"))  # as in Twisted
    elif "path" in values:
        values.setdefault("interface", "::")  # as in Twisted, for IPv4 and IPv6
    for old, new in (("certKey", "certificate"), ("extraCertChain", "chain")):
        if read.kind == "ssl" and old in values:
            values[new] = values.pop(old)
    if read.kind == "ssl" and (only_twisteds := {"sslmethod", "dhParameters"} & set(values)):
        raise InvalidAddress(
            f"behind a proxy there is no {min(only_twisteds)}; write it as {SERVER.kinds['tls'].example}"
        )
    if "endpoint" not in values and "port" not in values:
        raise InvalidAddress(f"has no port; write it as in {SERVER.kinds['tls'].example}")
    plain = _tcp_server(reactor, read) if read.inner is None else _made(reactor, read.inner, SERVER)
    return tls_server(plain, values, reactor)


def _tcp_client(reactor: Any, read: EndpointString) -> Any:
    """Connect to all addresses of a host name, or to a literal address."""
    values = read.values
    host, port, seconds = values["host"], int(values["port"]), int(values["timeout"])
    origin = values.get("bindAddress")
    if is_ip(host):
        return endpoints.TCP4ClientEndpoint(reactor, host, port, seconds, origin and (origin, 0))
    return HostEndpoint(reactor, host, port, seconds, origin)


def _ssl_client(reactor: Any, read: EndpointString) -> Any:
    """Make TLS from Twisted's own values, over all addresses of the host name."""
    from tcpapp.transport.tls.client import STAND_IN, asks_for  # late, as below
    from tcpapp.transport.tls.endpoints import TLSClientEndpoint

    values = dict(read.values)
    asked = values.get("hostname")
    if asked is None:
        options = CLIENT.make(reactor, read.text)._sslContextFactory
    else:
        made = CLIENT.make(reactor, joined(read.kind, {**values, "hostname": STAND_IN}))
        options = asks_for(made._sslContextFactory, asked)
    return TLSClientEndpoint(_tcp_client(reactor, read), options)


def _tls_client(reactor: Any, read: EndpointString) -> Any:
    from tcpapp.transport.tls.endpoints import tls_client  # late, as above

    plain = _tcp_client(reactor, read) if read.inner is None else _made(reactor, read.inner, CLIENT)
    return tls_client(plain, read.values)


_Make = Callable[[Any, EndpointString], Any]
_SERVERS: dict[str, _Make] = {
    "tcp": _tcp_server,
    "tcp6": _tcp_server,
    "tls": _tls_server,
    "unix": _unix_server,
    "systemd": _adopted,
}
_CLIENTS: dict[str, _Make] = {"tcp": _tcp_client, "ssl": _ssl_client, "tls": _tls_client, "unix": _unix_client}
"""The functions that make endpoints of the kinds for which ours replace Twisted's."""
