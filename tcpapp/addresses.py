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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from twisted.internet import endpoints, interfaces
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.plugin import getPlugins

from tcpapp.errors import InvalidAddress
from tcpapp.proxied import Proxied
from tcpapp.spec import suggest

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

    An abstract socket is ``unix:@name``, as systemd and ss have it; one without a name, as most clients' are, is
    ``unix:``, as nginx has it. Control characters are escaped: behind a proxy, a peer chooses what its address says.
    """
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        text = "unix:" + (b"@" + name[1:] if name.startswith(b"\0") else name).decode("utf-8", "backslashreplace")
    elif isinstance(address, (IPv4Address, IPv6Address)):
        text = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
    else:
        text = str(address)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


# What values there are ------------------------------------------------------------------------------------------------

_LABEL = re.compile("[A-Za-z0-9_-]+")
_NUMBER = re.compile("[0-9]+|0[xX][0-9A-Fa-f]*")
_BACKLOG = "1024"
"""Clients who may wait to be taken in: ranch's backlog. Twisted's 50 is soon full where many come back at once."""

_LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes in a socket's path: sun_path is 108 on Linux (unix(7)) and 104 on BSD and macOS, with the NUL at its end."""


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return re.fullmatch("[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?", value) is not None


def _is_host(value: str) -> bool:
    """Whether `value` is an IP address or a host name (RFC 1123, and ``_``, for there are such hosts)."""
    if _is_ip(value):
        return True
    if len(value) > 254:  # 253 (RFC 1035) and a closing dot; the codec is slow on more
        return False
    try:
        name = value.encode("idna").decode().removesuffix(".")  # which refuses labels over 63
    except UnicodeError:
        return False
    *_, last = labels = name.split(".")
    # a name that ends in a number is read as an IPv4 address (WHATWG URL, "ends in a number"), and this is none
    return len(name) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(last)


def _is_socket(value: str) -> bool:
    try:
        path = os.fsencode(value)
    except UnicodeEncodeError:
        return False
    # a leading NUL makes the name abstract (unix(7))
    return 0 < len(path) <= _LONGEST_PATH and path != b"\0" and b"\0" not in path[1:]


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
    "host": (_is_host, r"an IP address (IPv6: \:\:1, no brackets) or a host name (RFC 1123; not ending in a number)"),
    "interface": (lambda value: not value or _is_ip(value), r"an IP address (IPv6: \:\:1), or nothing for all"),
    "ip": (_is_ip, r"an IP address (IPv6: \:\:1)"),
    "listening": (_whole(0, 65535), "a number from 0 (any free port) to 65535"),
    "lockfile": (_like("[01]"), "0 or 1"),
    "minimum": (_like(r"1\.[23]"), "1.2 or 1.3"),
    "mode": (_like("[0-7]{1,4}"), "permissions in octal, such as 660"),
    "name": (_like(".+"), "a name"),
    "port": (_whole(1, 65535), "a number from 1 to 65535"),
    "socket": (_is_socket, f"a path of 1 to {_LONGEST_PATH} bytes, no NUL among them"),
    "roots": (
        lambda value: _is_readable(value) and not Path(value).is_socket(),
        "a readable file, or a directory of them",
    ),
    "timeout": (_whole(1, 2**31 - 1), "a whole number of seconds, 1 or more"),
    "watch": (_whole(0, 2**31 - 1), "a whole number of seconds (0: never)"),
}
"""What each value must be, and how that is said."""

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
_HANDED = "it takes either the index= or the name= (FileDescriptorName) of a socket that systemd handed over"
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
        "systemd": _Kind("systemd:domain=INET:name=app", "domain index:backlog name", trouble=_HANDED),
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

    `kept` is the string as it was, but with absolute paths. `proxied` says that ``haproxy:`` stands before it. A kind
    that others plug in has no values, and its own `text`.
    """

    kind: str
    values: dict[str, str]
    text: str
    kept: str
    proxied: bool = False
    trouble: str = ""


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
    """The endpoint that was read: Twisted's, but for TLS, and for what stands behind a proxy."""
    if side is _CLIENT:
        return _tls_client(reactor, read) if read.kind == "tls" else side.make(reactor, read.text)
    if read.kind == "tls" or (read.kind == "ssl" and read.proxied):
        made = _tls_server(reactor, read)
    else:
        made = side.make(reactor, read.text)
    return Proxied(made) if read.proxied else made


def _tls_server(reactor: Any, read: _Read) -> Any:
    """TLS on the port, or on the endpoint, that the string names; ``ssl:`` calls the files otherwise."""
    from tcpapp.tls.endpoints import tls_server  # late: it needs pyOpenSSL, which other kinds do not

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
    plain = values.get("endpoint") or _plain_port(values)
    return tls_server(_SERVER.make(reactor, plain), values, reactor)


def _plain_port(values: dict[str, str]) -> str:
    interface = values.get("interface", "")
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{values['port']}:interface={_quoted(interface)}:backlog={values['backlog']}"


def _tls_client(reactor: Any, read: _Read) -> Any:
    from tcpapp.tls.endpoints import tls_client  # late, as above

    values = read.values
    if "endpoint" in values:
        return tls_client(_CLIENT.make(reactor, values["endpoint"]), values)
    names = [name for name in ("host", "port", "timeout", "bindAddress") if name in values]
    plain = "tcp:" + ":".join(f"{name}={_quoted(values[name])}" for name in names)
    return tls_client(_CLIENT.make(reactor, plain), values)


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
        moved = moved or found != value
        values[key] = found
    kept = dict(values)
    if "endpoint" in values:
        below = _checked(whole, values["endpoint"], side, timeout, folder)
        moved = moved or below.kept != values["endpoint"]
        values["endpoint"], kept["endpoint"] = below.text, below.kept
    elif "timeout" in kind.takes:
        values.setdefault("timeout", str(timeout))
    if "backlog" in kind.takes:
        values.setdefault("backlog", _BACKLOG)
    return _Read(name, values, _joined(name, values), _joined(name, kept) if moved else text, proxied, kind.trouble)


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
        return f"tcp:host:port, as in tcp:{_quoted(host) if _is_host(host) else 'localhost'}:{port}"
    host = "127.0.0.1" if host == "localhost" else host
    return f"tcp:{port}:interface={_quoted(host)}" if _is_ip(host) else f"tcp:{port}"


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
