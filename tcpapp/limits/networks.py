"""
Networks of addresses in CIDR notation (RFC 4632 and RFC 4291 section 2.3): which peers are allowed.

A socket for both families shows IPv4 peers with IPv4-mapped IPv6 addresses (``::ffff:192.0.2.1``, RFC 4291 section
2.5.5.2). Such an address counts as the IPv4 address in it, and a network of them as the IPv4 network:
``::ffff:192.0.2.0/120`` is ``192.0.2.0/24``. Peers without an IP address (UNIX sockets) are in no network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tcpapp.errors import InvalidAddress

__all__ = ["Networks", "Place", "ip_of", "name_of", "place_of", "places_of", "plain_host"]

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
"""The IPv4-mapped IPv6 addresses."""
Place = tuple[int, bytes]
"""
A network as a key to count peers by: the version of IP, and the bits that all its addresses share.

The bits are `bytes`, because hashes of `bytes` have a secret seed. As numbers, a client could choose addresses with
equal hashes.
"""


def ip_of(address: Any) -> IP | None:
    """Return the IP address of a peer's Twisted `address`; `None` without one. A zone (``%eth0``) is left out."""
    host = getattr(address, "host", None)
    return _ip(host) if isinstance(host, str) else None


@lru_cache(maxsize=1024)  # each connection looks up its address twice, and some addresses come often
def _ip(host: str) -> IP | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def plain_host(host: str) -> str:
    """
    Return the `host` of an address for people to read. An IPv4-mapped IPv6 address becomes the IPv4 address in it.
    """
    return str(_ip(host) or host) if host[:7].lower() == "::ffff:" else host


def place_of(ip: IP, bits_ipv4: int, bits_ipv6: int) -> Place:
    """Return the network of `ip` with this many leading bits; 32 bits (IPv6: 128) are the address itself."""
    bits = bits_ipv4 if ip.version == 4 else bits_ipv6
    return ip.version, (int(ip) >> (ip.max_prefixlen - bits)).to_bytes(ip.max_prefixlen // 8, "big")


@lru_cache(maxsize=1024)  # each connection looks up its places twice; connections from one address share the result
def places_of(host: str, bits_ipv4: int, bits_ipv6: int) -> tuple[Place, Place] | None:
    """
    Return the address and the network of a peer's `host`, with this many leading bits; `None` if that is no IP address.
    """
    ip = _ip(host)
    return None if ip is None else (place_of(ip, 32, 128), place_of(ip, bits_ipv4, bits_ipv6))


def name_of(ip: IP, bits: int) -> str:
    """Return the network of `ip` with this many bits in CIDR notation: ``192.0.2.0/24``."""
    return str(ipaddress.ip_network(f"{ip}/{bits}", strict=False))


class Networks:
    """
    The addresses of allowed peers: every address in `allow` (empty: all addresses) and not in `deny`.

    Each entry is a network such as ``192.0.2.0/24`` or ``2001:db8::/32``, or an address. `deny` has precedence,
    whatever `allow` contains. Peers without an IP address are allowed.

    Raises `InvalidAddress` for an entry that is no network, also if bits behind the mask are set: ``192.0.2.1/24``.
    """

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self.allow = tuple(_network(each) for each in allow)
        self.deny = tuple(_network(each) for each in deny)

    def __bool__(self) -> bool:
        return bool(self.allow or self.deny)

    def admits(self, ip: IP | None) -> bool:
        """Return whether a peer at `ip` is allowed."""
        if ip is None:
            return True
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if any(ip in each for each in self.deny):
            return False
        return not self.allow or any(ip in each for each in self.allow)


def _network(text: str) -> Network:
    takes = "takes a network or an address, as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1"
    if not isinstance(text, str):  # ipaddress also accepts numbers and packed bytes
        raise InvalidAddress(f"{text!r}: {takes}")
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidAddress(f"{text!r}: {takes}{_hint(text)}") from error
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        return ipaddress.IPv4Network((int(network[0]) & 0xFFFFFFFF, network.prefixlen - MAPPED.prefixlen))
    return network


def _hint(text: str) -> str:
    """Return a suggestion for what was most likely meant: the network of the address."""
    try:
        return f"; did you mean {ipaddress.ip_network(text, strict=False)}?"
    except ValueError:
        return ""
