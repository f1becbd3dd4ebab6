"""The content of a PROXY header of either version: the client of a connection that a proxy has opened."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from typing_extensions import override

from tcpapp.errors import InvalidProxyHeader
from tcpapp.framing.base import quoted
from tcpapp.proxy_protocol import tlv
from tcpapp.proxy_protocol.tlv import CUSTOM, EXPERIMENT, FUTURE, Ssl, Tlv, Type

__all__ = ["Address", "Command", "Family", "Header", "InetAddress"]

LONGEST_PATH = 108
"""The bytes of a UNIX socket's address (section 2.2), as many as ``sun_path`` has in Linux."""

MOST_BEHIND = 0xFFFF
"""The most bytes after the first 16 bytes of version 2, whose length field has 16 bits."""


class Command(IntEnum):
    """Why the proxy opened the connection (section 2.2)."""

    LOCAL = 0x0
    """The proxy itself opened it, to check our health."""
    PROXY = 0x1
    """The proxy opened it for its client."""


class Family(IntEnum):
    """The client's protocol and address family, as in the 14th byte of version 2 (section 2.2)."""

    UNSPEC = 0x00
    """Unknown, or a protocol that has no addresses in the header: UNKNOWN in version 1."""
    TCP4 = 0x11
    UDP4 = 0x12
    TCP6 = 0x21
    UDP6 = 0x22
    UNIX_STREAM = 0x31
    UNIX_DGRAM = 0x32

    @property
    def size(self) -> int:
        """The number of bytes of both addresses in version 2."""
        return {0x1: 2 * (4 + 2), 0x2: 2 * (16 + 2), 0x3: 2 * LONGEST_PATH}.get(self >> 4, 0)


@dataclass(frozen=True)
class InetAddress:
    """An IP address without a zone, and a port, 0 to 65535. Raises `InvalidProxyHeader`, the caller's fault."""

    ip: IPv4Address | IPv6Address
    port: int

    def __post_init__(self) -> None:
        if not isinstance(self.ip, IPv4Address | IPv6Address):
            raise InvalidProxyHeader(f"ip {self.ip!r}: takes an IPv4Address or an IPv6Address")
        if isinstance(self.ip, IPv6Address) and self.ip.scope_id is not None:
            raise InvalidProxyHeader(
                f"ip {self.ip}: takes an address without a zone, which has no meaning on other machines"
            )
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 0xFFFF:
            raise InvalidProxyHeader(f"port {self.port!r}: takes a whole number from 0 to 65535")

    @override
    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


Address: TypeAlias = InetAddress | bytes | None
"""IP and port, or the path of a UNIX socket (an abstract one begins with NUL, an unnamed one is empty), or `None`."""


@dataclass(frozen=True)
class Header:
    """
    The content of a PROXY header.

    - `version`: 1 or 2.
    - `command`: `Command.PROXY`, or `Command.LOCAL` (version 2 only).
    - `family`: the client's protocol and address family; UDP and UNIX only in version 2.
    - `source`, `destination`: the addresses that the client connected from and to, in that family. If the family is
      UNSPEC they are `None`, and `relayed` is false: then use the connection's own addresses.
    - `tlvs`: types and values in their order, only in version 2 and with addresses. All TLVs of a repeated type are
      kept. The properties return the first, as HAProxy does; `None` if there is no such TLV, or if its text is invalid.
      `values` returns the raw values.

    Raises `InvalidProxyHeader`, the caller's fault, for a header that is invalid, or too long to be written.
    """

    version: int
    command: Command
    family: Family
    source: Address = None
    destination: Address = None
    tlvs: tuple[Tlv, ...] = ()

    def __post_init__(self) -> None:
        self._check_kind()
        for name, address in (("source", self.source), ("destination", self.destination)):
            _check_address(name, address, self.family)
        object.__setattr__(self, "tlvs", tlv.checked(self.tlvs))
        if self.tlvs and (self.version == 1 or self.family is Family.UNSPEC):
            raise InvalidProxyHeader("TLVs need a header of version 2 with addresses, which this is not")
        behind = self.family.size + sum(tlv.LEAST + len(each.value) for each in self.tlvs)
        if behind > MOST_BEHIND:
            raise InvalidProxyHeader(f"a header with {behind} bytes of addresses and TLVs; it takes {MOST_BEHIND}")

    def _check_kind(self) -> None:
        if self.version not in {1, 2}:
            raise InvalidProxyHeader(f"version {self.version!r}: takes 1 or 2")
        for name, value, kind in (("command", self.command, Command), ("family", self.family, Family)):
            if not isinstance(value, kind):
                raise InvalidProxyHeader(f"{name} {value!r}: takes one of {', '.join(each.name for each in kind)}")
        if self.version == 1 and self.command is Command.LOCAL:
            raise InvalidProxyHeader("version 1 has no LOCAL; write version 2, or the addresses of the connection")
        if self.version == 1 and self.family not in _OF_VERSION_1:
            raise InvalidProxyHeader(f"version 1 has no {self.family.name}, but TCP4, TCP6 and UNSPEC; write 2")
        if self.command is Command.LOCAL and self.family is not Family.UNSPEC:
            raise InvalidProxyHeader(f"LOCAL with {self.family.name}: it has no addresses, and takes UNSPEC")

    @property
    def relayed(self) -> bool:
        """Whether `source` and `destination` are the client's. If not, use the addresses of the connection itself."""
        return self.family is not Family.UNSPEC

    def values(self, kind: int) -> tuple[bytes, ...]:
        """Return the values of all TLVs of one type, in their order."""
        return tuple(value for each, value in self.tlvs if each == kind)

    @property
    def alpn(self) -> bytes | None:
        """The protocol over the connection, with its ALPN name: ``b"h2"`` (section 2.2.1)."""
        return tlv.first(self.tlvs, Type.ALPN)

    @property
    def authority(self) -> str | None:
        """The host name that the client asked for, as in TLS's SNI (section 2.2.2)."""
        return tlv.text(self.tlvs, Type.AUTHORITY, "utf-8")

    @property
    def crc32c(self) -> int | None:
        """
        The checksum of the header (section 2.2.3). `HeaderReader` has verified the checksum of a header that it read.
        """
        value = tlv.first(self.tlvs, Type.CRC32C)
        return None if value is None else int.from_bytes(value, "big")

    @property
    def unique_id(self) -> bytes | None:
        """The proxy's identifier of the connection, at most 128 bytes (section 2.2.5)."""
        return tlv.first(self.tlvs, Type.UNIQUE_ID)

    @property
    def ssl(self) -> Ssl | None:
        """The client's TLS with the proxy (section 2.2.6)."""
        value = tlv.first(self.tlvs, Type.SSL)
        return None if value is None else Ssl.from_bytes(value)

    @property
    def netns(self) -> str | None:
        """The name of the proxy's network namespace (section 2.2.7)."""
        return tlv.text(self.tlvs, Type.NETNS)

    @property
    def custom(self) -> tuple[Tlv, ...]:
        """The TLVs of applications' own types, 0xE0 to 0xEF (section 2.2.8)."""
        return self._within(CUSTOM)

    @property
    def experiment(self) -> tuple[Tlv, ...]:
        """The TLVs of experimental types, 0xF0 to 0xF7 (section 2.2.8)."""
        return self._within(EXPERIMENT)

    @property
    def future(self) -> tuple[Tlv, ...]:
        """The TLVs of reserved types, 0xF8 to 0xFF (section 2.2.8)."""
        return self._within(FUTURE)

    def _within(self, kinds: Container[int]) -> tuple[Tlv, ...]:
        return tuple(each for each in self.tlvs if each.type in kinds)


_OF_VERSION_1 = {Family.UNSPEC, Family.TCP4, Family.TCP6}


def _check_address(name: str, address: Address, family: Family) -> None:
    """Refuse an address that is not of `family`: both addresses must have that family (sections 2.1 and 2.2)."""
    takes: dict[int, tuple[type, str]] = {
        0x0: (type(None), "None"),
        0x1: (IPv4Address, "an InetAddress with an IPv4Address"),
        0x2: (IPv6Address, "an InetAddress with an IPv6Address"),
        0x3: (bytes, "a path in bytes"),
    }
    kind, words = takes[family >> 4]
    if not isinstance(address.ip if isinstance(address, InetAddress) else address, kind):
        raise InvalidProxyHeader(f"{name} {address!r} with {family.name}: takes {words}")
    if isinstance(address, bytes):
        _check_path(name, address)


def _check_path(name: str, path: bytes) -> None:
    """Refuse a path that a reader would see differently, because NULs fill up its 108 bytes."""
    if len(path) > LONGEST_PATH:
        raise InvalidProxyHeader(f"{name} {quoted(path)}: takes at most {LONGEST_PATH} bytes, not {len(path)}")
    if path.endswith(b"\0") or (b"\0" in path and not path.startswith(b"\0")):
        raise InvalidProxyHeader(f"{name} {quoted(path, LONGEST_PATH)}: takes a path without NUL, or one NUL before it")
