r"""
Endpoint strings, checked before anything is opened; addresses, as operators write them.

Twisted takes port 99999, an empty path or certificates that are not there, and fails when it listens, when it connects
or at the first handshake; what it does refuse, it refuses with whatever its parser stumbled over. Here every value is
checked first, and whatever cannot be is `InvalidAddress`. Values are given in order or by name, and a ``:`` inside one
is written ``\:``, as in ``tcp:\:\:1:7007``. Kinds that other packages plug into Twisted go to their plugin as they are.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from twisted.internet import endpoints, interfaces
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.plugin import getPlugins

from tcpapp.errors import InvalidAddress
from tcpapp.limits.networks import plain_host
from tcpapp.spec import suggest
from tcpapp.transport.happy_eyeballs import HostEndpoint
from tcpapp.transport.hostnames import is_host, is_ip
from tcpapp.transport.proxy_header import Proxied
from tcpapp.transport.server_endpoints import TCPListener, UNIXListener
from tcpapp.transport.socket_activation import AdoptedEndpoint

__all__ = ["client_endpoint", "client_string", "describe", "server_endpoint"]


def server_endpoint(reactor: Any, endpoint: object, folder: str = "") -> interfaces.IStreamServerEndpoint:
    """
    The endpoint to listen on: `endpoint` itself where it is one, else what the endpoint string describes.

    Paths in it are relative to `folder`, or else to the current directory, and stay what they are when that changes.

    Raises `InvalidAddress` for one that cannot be; nothing is opened but the certificates it names.
    """
    return cast("interfaces.IStreamServerEndpoint", _endpoint(reactor, endpoint, _SERVER, folder=folder))


def client_endpoint(reactor: Any, endpoint: object, timeout: int = 30) -> interfaces.IStreamClientEndpoint:
    """
    The endpoint to connect to: `endpoint` itself where it is one, else what the endpoint string describes.

    Raises `InvalidAddress` for one that cannot be; nothing is opened but the certificates it names. Whether there is
    such a host is found out by connecting, which fails after `timeout` seconds unless the string has its own
    ``timeout=``.
    """
    return cast("interfaces.IStreamClientEndpoint", _endpoint(reactor, endpoint, _CLIENT, timeout))


def client_string(endpoint: object) -> Any:
    """
    `endpoint` as it is to be kept for later: in a string, relative paths are made absolute; all else stays.

    Raises `InvalidAddress` for a string that cannot be one.
    """
    return _checked(endpoint, endpoint, _CLIENT, 1, "").kept if isinstance(endpoint, str) else endpoint


def describe(address: object) -> str:
    """
    An address as operators write it: ``127.0.0.1:7007``, ``[::1]:7007``, ``unix:/run/app.sock``.

    An IPv4-mapped IPv6 address (``::ffff:127.0.0.1``) is written as the IPv4 address in it.

    An abstract socket is ``unix:@name``, as systemd and ss have it; one without a name, as most clients' are, is
    ``unix:``, as nginx has it. Control characters are escaped: behind a proxy, a peer chooses what its address says.
    """
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        text = "unix:" + (b"@" + name[1:] if name.startswith(b"\0") else name).decode("utf-8", "backslashreplace")
    elif isinstance(address, (IPv4Address, IPv6Address)):
        host = plain_host(address.host)
        text = f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
    else:
        text = str(address)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


# What values there are ------------------------------------------------------------------------------------------------

_BACKLOG = "1024"
"""Clients who may wait to be taken in: ranch's backlog. Twisted's 50 is soon full where many come back at once."""

_LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes in a socket's path: sun_path is 108 on Linux (unix(7)) and 104 on BSD and macOS, with the NUL at its end."""


def _lacks_interface(value: str) -> bool:
    """Whether `value` is a link-local IPv6 address with no interface, as every interface has them (RFC 4007)."""
    return is_ip(value) and "%" not in value and ":" in value and ipaddress.ip_address(value).is_link_local


def _is_socket(value: str) -> bool:
    try:
        path = os.fsencode(value)
    except UnicodeEncodeError:
        return False
    # a leading NUL makes the name abstract (unix(7)), and so does the @ that is written for it
    return 0 < len(path) <= _LONGEST_PATH and path not in (b"\0", b"@") and b"\0" not in path[1:]


def _is_readable(value: str) -> bool:
    return value != "" and Path(value).exists() and os.access(value, os.R_OK)


def _whole(least: int, most: int) -> Callable[[str], bool]:
    return lambda value: re.fullmatch("[0-9]{1,10}", value) is not None and least <= int(value) <= most


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value, re.DOTALL) is not None


_CHECKS: dict[str, tuple[Callable[[str], bool], str]] = {
    "alpn": (_like("[!-+.-~-]{1,255}(,[!-+.-~-]{1,255})*"), "names of protocols, such as h2,http/1.1"),
    "backlog": (_whole(0, 2**31 - 1), "a whole number"),
    "clients": (_like("required|wished"), "required or wished"),
    "directory": (lambda value: _is_readable(value) and Path(value).is_dir(), "a readable directory"),
    "domain": (_like("INET|INET6|UNIX"), "INET, INET6 or UNIX"),
    "file": (lambda value: _is_readable(value) and Path(value).is_file(), "a readable file"),
    "host": (is_host, r"an IP address (IPv6: \:\:1, no brackets) or a host name (RFC 1123; not ending in a number)"),
    "interface": (lambda value: not value or is_ip(value), r"an IP address (IPv6: \:\:1), or nothing for all"),
    "ip": (is_ip, r"an IP address (IPv6: \:\:1)"),
    "listening": (_whole(0, 65535), "a number from 0 (any free port) to 65535"),
    "lockfile": (_like("[01]"), "0 or 1"),
    "minimum": (_like(r"1\.[23]"), "1.2 or 1.3"),
    "mode": (_like("[0-7]{1,4}"), "permissions in octal, such as 660"),
    "name": (_like(".+"), "a name"),
    "port": (_whole(1, 65535), "a number from 1 to 65535"),
    "socket": (_is_socket, f"a path of 1 to {_LONGEST_PATH} bytes, no NUL among them; or @name, abstract"),
    "roots": (
        lambda value: _is_readable(value) and not Path(value).is_socket(),
        "a readable file, or a directory of them",
    ),
    "timeout": (_whole(1, 2**31 - 1), "a whole number of seconds, 1 or more"),
    "watch": (_whole(0, 2**31 - 1), "a whole number of seconds (0: never)"),
}
"""What each value must be, and how that is said."""

_ADDRESSES = ("host", "interface", "bindAddress")
"""The values that may be addresses that are listened on, or connected to or from."""
_PATHS = {"directory", "file", "roots", "socket"}
"""The values that are paths."""


def _absolute(value: str, folder: str) -> str:
    """
    A path, which is relative to `folder` or else to the current directory, as an absolute one.

    It stays as it is where it is the name of an abstract socket, or the path of a socket that would be too long.
    """
    if not value or value.startswith(("/", "\0", "@")):
        return value
    try:
        found = str(Path(folder or Path.cwd()) / value)
    except OSError:  # the current directory has been removed
        return value
    return value if _is_socket(value) and not _is_socket(found) else found


# What kinds of endpoint there are -------------------------------------------------------------------------------------


class _Kind:
    """
    What endpoint strings of one kind take.

    - `example`: one that is right.
    - `takes`: the names of its values with their checks (``name:check``, or ``name`` where both are called the same),
      in the order of those given without a name, of which there may be `unnamed`. The first `needed` must be there.
    - `trouble`: what may be wrong where every value can be one and Twisted still refuses.
    """

    def __init__(self, example: str, takes: str, *, needed: int = 1, unnamed: int = 9, trouble: str = "") -> None:
        pairs = [each.partition(":") for each in takes.split()]
        self.example = example
        self.takes = {name: _CHECKS[check or name] for name, _, check in pairs}
        self.paths = {name for name, _, check in pairs if (check or name) in _PATHS}
        self.needed = list(self.takes)[:needed]
        self.unnamed = list(self.takes)[:unnamed]
        self.trouble = f"; {trouble}, as in {example}" if trouble else ""


@dataclass(frozen=True)
class _Side:
    """Servers' endpoints, or clients': their interface, that of plugins for more kinds, what makes one, the kinds."""

    interface: Any
    plugins: Any
    make: Callable[[Any, str], Any]
    kinds: dict[str, _Kind]


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

_SERVER = _Side(
    interfaces.IStreamServerEndpoint,
    interfaces.IStreamServerEndpointStringParser,
    endpoints.serverFromString,
    {
        "tcp": _Kind("tcp:7007:interface=127.0.0.1", "port:listening interface backlog"),
        "tcp6": _Kind(r"tcp6:7007:interface=\:\:1", "port:listening backlog interface"),
        "unix": _Kind("unix:/run/app.sock:mode=660", "address:socket mode backlog lockfile"),
        "ssl": _Kind("ssl:7007:privateKey=key.pem:certKey=cert.pem", _SSL, trouble=_PEM),
        "tls": _Kind("tls:7007:certificate=cert.pem:privateKey=key.pem", _TLS, needed=0),
        "systemd": _Kind("systemd:name=app", "domain index:backlog name", needed=0),
        "stdio": _Kind("stdio:", "", needed=0),
    },
)
_CLIENT = _Side(
    interfaces.IStreamClientEndpoint,
    interfaces.IStreamClientEndpointStringParserWithReactor,
    endpoints.clientFromString,
    {
        "tcp": _Kind("tcp:localhost:7007", _HOST, needed=2, unnamed=2),
        "unix": _Kind("unix:/run/app.sock", "path:socket timeout lockfile", unnamed=1),
        "ssl": _Kind("ssl:localhost:7007", _HOST_SSL, needed=2, unnamed=2, trouble=_PEM),
        "tls": _Kind("tls:localhost:7007", _HOST_TLS, needed=2),
    },
)

# Reading them ---------------------------------------------------------------------------------------------------------

_quoted: Callable[[str], str] = endpoints.quoteStringArgument


@dataclass(frozen=True)
class _Read:
    """
    An endpoint string that was read: its kind, and its values, checked and named.

    `kept` is the string as it was, but with absolute paths. `proxied` says that ``haproxy:`` stands before it, and
    `inner` is what was read of its ``endpoint=``. A kind that others plug in has no values, and its own `text`.
    """

    kind: str
    values: dict[str, str]
    text: str
    kept: str
    proxied: bool = False
    trouble: str = ""
    inner: _Read | None = None


def _endpoint(reactor: Any, endpoint: object, side: _Side, timeout: int = 0, folder: str = "") -> Any:
    if side.interface.providedBy(endpoint):
        return endpoint
    if not isinstance(endpoint, str):
        example = side.kinds["tcp"].example
        raise InvalidAddress(f"{endpoint!r}: takes a string such as {example}, or an {side.interface.__name__}")
    read = _checked(endpoint, endpoint, side, timeout, folder)
    try:
        return _made(reactor, read, side)
    except InvalidAddress as error:
        raise InvalidAddress(f"{endpoint!r}: {error}") from error
    except Exception as error:
        # Twisted's parsers let out what they stumble over: TypeError, LookupError, OSError, OpenSSL's errors, …
        said = f"{type(error).__name__}: {error}"
        raise InvalidAddress(f"{endpoint!r}: no endpoint can be made of this ({said}){read.trouble}") from error


def _made(reactor: Any, read: _Read, side: _Side) -> Any:
    """The endpoint that was read: ours where Twisted's would not do."""
    makers = _SERVERS if side is _SERVER else _CLIENTS
    make = makers.get("tls" if read.kind == "ssl" and read.proxied else read.kind)
    made = side.make(reactor, read.text) if make is None else make(reactor, read)
    return Proxied(made) if read.proxied else made


def _tcp_server(reactor: Any, read: _Read) -> Any:
    values = read.values
    interface = values.get("interface", "::" if read.kind == "tcp6" else "")
    return TCPListener(reactor, int(values["port"]), int(values["backlog"]), interface)


def _unix_server(reactor: Any, read: _Read) -> Any:
    values = read.values
    path = _path_of(values["address"], values, ("mode", "lockfile"))
    mode = int(values["mode"], 8) if "mode" in values else None
    lock = values.get("lockfile", "1") == "1"
    return UNIXListener(reactor, path, mode=mode, backlog=int(values["backlog"]), lock=lock)


def _unix_client(reactor: Any, read: _Read) -> Any:
    values = read.values
    path = _path_of(values["path"], values, ("lockfile",))
    lock = values.get("lockfile", "0") == "1"
    return endpoints.UNIXClientEndpoint(reactor, path, int(values["timeout"]), lock)


def _path_of(written: str, values: dict[str, str], of_files: tuple[str, ...]) -> str:
    """The path of a socket that is written as ``@name`` where it is abstract, as systemd and ss write it."""
    path = "\0" + written[1:] if written.startswith("@") else written
    if path.startswith("\0"):
        for name in of_files:
            if name in values:
                raise InvalidAddress(f"an abstract socket has no {name}: it is no file; a file of that name is ./@name")
    return path


def _adopted(reactor: Any, read: _Read) -> Any:
    values = read.values
    index = int(values["index"]) if "index" in values else None
    return AdoptedEndpoint(reactor, domain=values.get("domain", ""), name=values.get("name", ""), index=index)


def _tls_server(reactor: Any, read: _Read) -> Any:
    """TLS on the port, or on the endpoint, that the string names; ``ssl:`` calls the files otherwise."""
    from tcpapp.transport.tls.endpoints import tls_server  # late: it needs pyOpenSSL, which other kinds do not

    values = dict(read.values)
    if read.kind == "ssl":
        values.setdefault("certKey", values.setdefault("privateKey", "server.pem"))  # as Twisted has it
    elif "path" in values:
        values.setdefault("interface", "::")  # as Twisted has it, for IPv4 and IPv6
    for old, new in (("certKey", "certificate"), ("extraCertChain", "chain")):
        if read.kind == "ssl" and old in values:
            values[new] = values.pop(old)
    if read.kind == "ssl" and (only_twisteds := {"sslmethod", "dhParameters"} & set(values)):
        raise InvalidAddress(
            f"behind a proxy there is no {min(only_twisteds)}; write it as {_SERVER.kinds['tls'].example}"
        )
    if "endpoint" not in values and "port" not in values:
        raise InvalidAddress(f"has no port; write it as in {_SERVER.kinds['tls'].example}")
    plain = _tcp_server(reactor, read) if read.inner is None else _made(reactor, read.inner, _SERVER)
    return tls_server(plain, values, reactor)


def _tcp_client(reactor: Any, read: _Read) -> Any:
    """All addresses of a host's name; a literal address is connected to as it is."""
    values = read.values
    host, port, seconds = values["host"], int(values["port"]), int(values["timeout"])
    origin = values.get("bindAddress")
    if is_ip(host):
        return endpoints.TCP4ClientEndpoint(reactor, host, port, seconds, origin and (origin, 0))
    return HostEndpoint(reactor, host, port, seconds, origin)


def _ssl_client(reactor: Any, read: _Read) -> Any:
    """TLS by Twisted's own values, over all addresses of the host's name."""
    from tcpapp.transport.tls.client import STAND_IN, asks_for  # late, as below
    from tcpapp.transport.tls.endpoints import TLSClientEndpoint

    values = dict(read.values)
    asked = values.get("hostname")
    if asked is None:
        options = _CLIENT.make(reactor, read.text)._sslContextFactory
    else:
        made = _CLIENT.make(reactor, _joined(read.kind, {**values, "hostname": STAND_IN}))
        options = asks_for(made._sslContextFactory, asked)
    return TLSClientEndpoint(_tcp_client(reactor, read), options)


def _tls_client(reactor: Any, read: _Read) -> Any:
    from tcpapp.transport.tls.endpoints import tls_client  # late, as above

    plain = _tcp_client(reactor, read) if read.inner is None else _made(reactor, read.inner, _CLIENT)
    return tls_client(plain, read.values)


_Make = Callable[[Any, _Read], Any]
_SERVERS: dict[str, _Make] = {
    "tcp": _tcp_server,
    "tcp6": _tcp_server,
    "tls": _tls_server,
    "unix": _unix_server,
    "systemd": _adopted,
}
_CLIENTS: dict[str, _Make] = {"tcp": _tcp_client, "ssl": _ssl_client, "tls": _tls_client, "unix": _unix_client}
"""What makes the endpoint of each kind that is not Twisted's own."""


def _checked(whole: str, text: str, side: _Side, timeout: int, folder: str) -> _Read:
    """`text`, which is in `whole`, with every value checked and named, and paths made absolute."""
    # haproxy: is written before another endpoint of a server
    plain = re.sub(r"^(haproxy(:|$))+", "", text, flags=re.IGNORECASE) if side is _SERVER else text
    proxied = plain != text
    name, _, rest = plain.partition(":")
    kind = side.kinds.get(name := name.lower())
    if kind is None:
        _check_plugin(whole, name, side)
        return _Read(name, {}, plain, plain, proxied)
    fields = _fields(whole, rest)
    if side is _SERVER and name == "tls" and fields and len(fields[0]) == 1 and fields[0][0].isdecimal():
        fields[0].insert(0, "port")  # in Twisted's own the directory comes first
    values = _values(whole, name, kind, fields)
    moved = False
    for key, value in values.items():
        right, takes = kind.takes[key]
        found = _absolute(value, folder) if key in kind.paths else value
        if not right(found):
            raise InvalidAddress(f"{whole!r}: {key} is {value!r}; it takes {takes}, as in {kind.example}")
        if key in _ADDRESSES and _lacks_interface(value):
            raise InvalidAddress(
                f"{whole!r}: {key} is {value!r}, which every interface may have; write which one: {_quoted(value)}%eth0"
            )
        moved = moved or found != value
        values[key] = found
    kept = dict(values)
    inner = None
    if "endpoint" in values:
        inner = _checked(whole, values["endpoint"], side, timeout, folder)
        moved = moved or inner.kept != values["endpoint"]
        values["endpoint"], kept["endpoint"] = inner.text, inner.kept
        proxied, inner = proxied or inner.proxied, replace(inner, proxied=False)  # the header is below TLS in any case
    elif "timeout" in kind.takes:
        values.setdefault("timeout", str(timeout))
    if "backlog" in kind.takes:
        values.setdefault("backlog", _BACKLOG)
    kept_text = _joined(name, kept) if moved else text
    return _Read(name, values, _joined(name, values), kept_text, proxied, kind.trouble, inner)


def _joined(name: str, values: dict[str, str]) -> str:
    """The endpoint string of this kind with these values."""
    return f"{name}:" + ":".join(f"{key}={_quoted(value)}" for key, value in values.items())


def _check_plugin(whole: str, name: str, side: _Side) -> None:
    """Refuse the kind `name`, which is not one of `side`, unless there is a plugin for it."""
    plugins = {str(plugin.prefix).lower() for plugin in getPlugins(side.plugins)}
    if name not in plugins:
        known = sorted(plugins | set(side.kinds))
        hint = suggest(name, known) or f"; write {_rewritten(whole, side)}"
        raise InvalidAddress(f"{whole!r}: {name!r} is no kind of endpoint; there are {', '.join(known)}{hint}")


def _rewritten(text: str, side: _Side) -> str:
    """How ``host:port``, ``:port`` or ``port`` is written as an endpoint string; else an example."""
    found = re.fullmatch(r"(?:\[?(.*?)\]?:)?([0-9]{1,5})", text)
    host, port = (found[1] or "", found[2]) if found else ("", "7007")
    if side is _CLIENT:
        return f"tcp:host:port, as in tcp:{_quoted(host) if is_host(host) else 'localhost'}:{port}"
    host = "127.0.0.1" if host == "localhost" else host
    return f"tcp:{port}:interface={_quoted(host)}" if is_ip(host) else f"tcp:{port}"


def _fields(whole: str, rest: str) -> list[list[str]]:
    """`rest` cut at its bare ``:``, each piece at its first bare ``=``, escapes undone: as Twisted reads it."""
    fields = [[""]]
    for char in re.findall(r"\\?.", rest, re.DOTALL):
        if char == "\\":
            raise InvalidAddress(rf"{whole!r}: ends in a lone \; a \ is written \\ and a : inside a value \:")
        if char == ":":
            fields.append([""])
        elif char == "=" and len(fields[-1]) == 1:
            fields[-1].append("")
        else:
            fields[-1][-1] += char[-1]
    return fields if rest else []


def _values(whole: str, name: str, kind: _Kind, fields: list[list[str]]) -> dict[str, str]:
    """The values of `fields`, each under its name."""
    values: dict[str, str] = {}
    for key, value in (field for field in fields if len(field) == 2):
        if key not in kind.takes:
            takes = ", ".join(kind.takes) or "nothing"
            raise InvalidAddress(f"{whole!r}: {name} has no {key!r}; it takes {takes}{suggest(key, kind.takes)}")
        if key in values:
            raise InvalidAddress(f"{whole!r}: {key}= is given twice; give it once, as in {kind.example}")
        values[key] = value
    unnamed = [field[0] for field in fields if len(field) == 1]
    free = [key for key in kind.unnamed if key not in values]
    if len(unnamed) > len(free):
        hint = rf"a : inside a value is written \:, and all of it as in {kind.example}"
        raise InvalidAddress(f"{whole!r}: {name} has no place for {unnamed[len(free)]!r}; {hint}")
    values |= zip(free, unnamed, strict=False)
    for key in kind.needed:
        if key not in values:
            raise InvalidAddress(f"{whole!r}: has no {key}; write it as in {kind.example}")
    return values
