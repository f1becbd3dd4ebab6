"""
Networks of addresses, as operators write them (CIDR, RFC 4632 and RFC 4291 section 2.3): who may come in.

An IPv4-mapped IPv6 address (``::ffff:192.0.2.1``, RFC 4291 section 2.5.5.2), as a socket for both families gives it, is
the IPv4 address in it, and a network of such addresses is the IPv4 network: ``::ffff:192.0.2.0/120`` is
``192.0.2.0/24``. Peers without an IP address (UNIX sockets) are in no network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tcpapp.errors import InvalidAddress

__all__ = ["Networks", "Place", "ip_of", "name_of", "place_of", "plain_host"]

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""The IPv4-mapped IPv6 addresses."""
Place = tuple[int, bytes]
"""
A network that peers are counted by: the version of IP, and the bits that all its addresses share.

These are bytes, whose hashes have a seed. A client could choose addresses so that numbers had the same hash.
"""


def ip_of(address: Any) -> IP | None:
    """The IP address of a peer's Twisted `address`; `None` where it has none. A zone (``%eth0``) is left out."""
    host = getattr(address, "host", None)
    return _ip(host) if isinstance(host, str) else None


@lru_cache(maxsize=1024)  # each connection asks for its own, twice; who comes often comes from few
def _ip(host: str) -> IP | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def plain_host(host: str) -> str:
    """The `host` of an address as it is written for people: an IPv4-mapped IPv6 address as the IPv4 address in it."""
    return str(_ip(host) or host) if host[:7].lower() == "::ffff:" else host


def place_of(ip: IP, bits_ipv4: int, bits_ipv6: int) -> Place:
    """The network of so many bits that `ip` is in: 32 or 128 bits are the address itself."""
    bits = bits_ipv4 if ip.version == 4 else bits_ipv6
    return ip.version, (int(ip) >> (ip.max_prefixlen - bits)).to_bytes(ip.max_prefixlen // 8, "big")


def name_of(ip: IP, bits: int) -> str:
    """The network of so many bits that `ip` is in, as operators write it: ``192.0.2.0/24``."""
    return str(ipaddress.ip_network(f"{ip}/{bits}", strict=False))


class Networks:
    """
    Who may come in, by address: whoever is in `allow` (empty: everyone) and not in `deny`.

    Each is a network such as ``192.0.2.0/24`` or ``2001:db8::/32``, or an address. A network that is denied stays so
    where a larger one is allowed, and where a smaller one is. Peers without an IP address may come in.

    Raises `InvalidAddress` for what is no network, also where bits are set behind the mask: ``192.0.2.1/24``.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self.allow = tuple(_network(each) for each in allow)
        self.deny = tuple(_network(each) for each in deny)

    def __bool__(self) -> bool:
        return bool(self.allow or self.deny)

    def admits(self, ip: IP | None) -> bool:
        """Whether a peer at `ip` may come in."""
        if ip is None:
            return True
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if any(ip in each for each in self.deny):
            return False
        return not self.allow or any(ip in each for each in self.allow)


def _network(text: str) -> Network:
    takes = "takes a network or an address, as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
    if not isinstance(text, str):  # ipaddress takes numbers and packed bytes, too
        raise InvalidAddress(f"{text!r}: {takes}")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidAddress(f"{text!r}: {takes}{_hint(text)}") from error
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        return ipaddress.IPv4Network((int(network[0]) & 0xFFFFFFFF, network.prefixlen - MAPPED.prefixlen))
    return network


def _hint(text: str) -> str:
    """What was most likely meant: the network that the address is in."""
    try:
        return f"; did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return ""
