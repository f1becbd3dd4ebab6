"""Addresses as texts for people."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tcpapp.limits.networks import plain_host

__all__ = ["describe"]


def describe(address: object) -> str:
    """
    Return an address as operators write it: ``127.0.0.1:7007``, ``[::1]:7007``, ``unix:/run/app.sock``.

    An IPv4-mapped IPv6 address (``::ffff:127.0.0.1``) is written as the IPv4 address in it.

    An abstract UNIX socket is ``unix:@name``, as systemd and ss write it. A UNIX socket without a name, as most clients
    have, is ``unix:``, as nginx writes it. Control characters are escaped: behind a proxy, a peer can choose the text
    of its address.
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
