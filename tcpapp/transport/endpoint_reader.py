"""Reading endpoint strings: they are cut into named values, and each value is checked. No endpoint is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from twisted.internet import endpoints
from twisted.plugin import getPlugins

from tcpapp.errors import InvalidAddress
from tcpapp.spec import suggest
from tcpapp.transport.endpoint_kinds import CLIENT, SERVER, Kind, Side
from tcpapp.transport.endpoint_values import ADDRESSES, BACKLOG, absolute, lacks_interface
from tcpapp.transport.hostnames import is_host, is_ip

__all__ = ["EndpointString", "cut", "joined", "read_string"]

_quoted: Callable[[str], str] = endpoints.quoteStringArgument


@dataclass(frozen=True)
class EndpointString:
    """
    The content of an endpoint string: its kind, and its values by name, which were checked.

    `kept` is the string with absolute paths. `proxied` says that it begins with ``haproxy:``, and `inner` is the
    content of its ``endpoint=``. A string for a plugin of another package has no values; `text` has it unchanged.
    """

    kind: str
    values: dict[str, str]
    text: str
    kept: str
    proxied: bool = False
    trouble: str = ""
    inner: EndpointString | None = None


def read_string(whole: str, text: str, side: Side, timeout: int, folder: str) -> EndpointString:
    """Read `text`, a part of `whole`: name and check every value, and make paths absolute. Raises `InvalidAddress`."""
    # haproxy: is a prefix of another endpoint of a server
    plain = re.sub(r"^(haproxy(:|$))+", "", text, flags=re.IGNORECASE) if side is SERVER else text
    proxied = plain != text
    name, _, rest = plain.partition(":")
    kind = side.kinds.get(name := name.lower())
    if kind is None:
        _check_plugin(whole, name, side)
        return EndpointString(name, {}, plain, plain, proxied)
    fields = cut(whole, rest)
    if side is SERVER and name == "tls" and fields and len(fields[0]) == 1 and fields[0][0].isdecimal():
        fields[0].insert(0, "port")  # in Twisted's own form the directory comes first
    values = _values(whole, name, kind, fields)
    moved = _check(whole, kind, values, folder)
    kept = dict(values)
    inner = None
    if "endpoint" in values:
        inner = read_string(whole, values["endpoint"], side, timeout, folder)
        moved = moved or inner.kept != values["endpoint"]
        values["endpoint"], kept["endpoint"] = inner.text, inner.kept
        proxied, inner = proxied or inner.proxied, replace(inner, proxied=False)  # the header is always below TLS
    elif "timeout" in kind.takes:
        values.setdefault("timeout", str(timeout))
    if "backlog" in kind.takes:
        values.setdefault("backlog", BACKLOG)
    kept_text = joined(name, kept) if moved else text
    return EndpointString(name, values, joined(name, values), kept_text, proxied, kind.trouble, inner)


def _check(whole: str, kind: Kind, values: dict[str, str], folder: str) -> bool:
    """Check all `values`, and make paths in them absolute. Returns whether that changed a value."""
    moved = False
    for key, value in values.items():
        right, takes = kind.takes[key]
        found = absolute(value, folder) if key in kind.paths else value
        if not right(found):
            raise InvalidAddress(f"{whole!r}: {key} is {value!r}; it takes {takes}, as in {kind.example}")
        if key in ADDRESSES and lacks_interface(value):
            raise InvalidAddress(
                f"{whole!r}: {key} is {value!r}, which every interface can have; write which one: {_quoted(value)}%eth0"
            )
        moved = moved or found != value
        values[key] = found
    return moved


def joined(name: str, values: dict[str, str]) -> str:
    """Return the endpoint string of this kind with these values."""
    return f"{name}:" + ":".join(f"{key}={_quoted(value)}" for key, value in values.items())


def _check_plugin(whole: str, name: str, side: Side) -> None:
    """Raise `InvalidAddress` for an unknown kind `name`, unless there is a plugin for it."""
    plugins = {str(plugin.prefix).lower() for plugin in getPlugins(side.plugins)}
    if name not in plugins:
        known = sorted(plugins | set(side.kinds))
        hint = suggest(name, known) or f"; write {_rewritten(whole, side)}"
        raise InvalidAddress(f"{whole!r}: {name!r} is no kind of endpoint; there are {', '.join(known)}{hint}")


def _rewritten(text: str, side: Side) -> str:
    """Return ``host:port``, ``:port`` or ``port`` as an endpoint string; for another `text`, an example."""
    found = re.fullmatch(r"(?:\[?(.*?)\]?:)?([0-9]{1,5})", text)
    host, port = (found[1] or "", found[2]) if found else ("", "7007")
    if side is CLIENT:
        return f"tcp:host:port, as in tcp:{_quoted(host) if is_host(host) else 'localhost'}:{port}"
    host = "127.0.0.1" if host == "localhost" else host
    return f"tcp:{port}:interface={_quoted(host)}" if is_ip(host) else f"tcp:{port}"


def cut(whole: str, rest: str) -> list[list[str]]:
    """
    Cut `rest` at each unescaped ``:``, and each piece at its first unescaped ``=``; undo the escapes. Twisted does the
    same.
    """
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


def _values(whole: str, name: str, kind: Kind, fields: list[list[str]]) -> dict[str, str]:
    """Return the values of `fields` by name."""
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
