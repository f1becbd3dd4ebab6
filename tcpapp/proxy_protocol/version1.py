r"""
Version 1, a line of text (section 2.1)::

    PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n
    PROXY UNKNOWN\r\n
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from tcpapp.errors import MalformedProxyHeader
from tcpapp.framing.base import quoted
from tcpapp.proxy_protocol.header import Command, Family, Header, InetAddress

LONGEST = 107
"""The most bytes in the line, CRLF included: ``UNKNOWN`` with two of the longest addresses and ports."""

STARTS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")
"""The beginnings of a line. The rest is decoded when the line is whole."""

_ENDINGS = re.compile(rb"[\r\n]")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


def end(window: bytes | bytearray) -> int | None:
    """
    Return how many bytes the line at the start of `window` has, CRLF included; `None` while its end has not come.

    Raises `MalformedProxyHeader` at the first byte that makes a valid end impossible: a CR or LF alone, or a 106th byte
    that is not CR.
    """
    mark = _ENDINGS.search(window, 0, LONGEST - 1)
    if mark is None:
        if len(window) >= LONGEST - 1:
            text = f"a PROXY line of more than {LONGEST} bytes, {quoted(bytes(window))}; it ends in CRLF within them"
            raise MalformedProxyHeader(text, value=LONGEST + 1, limit=LONGEST)
        return None
    at = mark.start()
    ending = bytes(window[at : at + 2])
    if ending == b"\r":
        return None
    if ending != b"\r\n":
        alone, line = ("LF", window[: at + 1]) if ending.startswith(b"\n") else ("CR", window[: at + 2])
        raise MalformedProxyHeader(f"{alone} alone in the PROXY line {quoted(bytes(line), LONGEST)}; it ends in CRLF")
    return at + 2


def read(line: bytes) -> Header:
    """Return the content of the whole `line`, which begins with one of `STARTS`. Raises `MalformedProxyHeader`."""
    family = _family(line)
    if family is Family.UNSPEC:  # "the receiver must ignore anything presented before the CRLF"
        return Header(1, Command.PROXY, family)
    fields = line[:-2].split(b" ")
    if len(fields) != 6:
        raise MalformedProxyHeader(
            f"{len(fields)} fields in the PROXY line {quoted(line, LONGEST)}; it has 6, one space apart: "
            f"PROXY {family.name}, source, destination, source port, destination port"
        )
    source, destination = _ip("source", fields[2], family), _ip("destination", fields[3], family)
    return Header(
        1,
        Command.PROXY,
        family,
        InetAddress(source, _port("source", fields[4])),
        InetAddress(destination, _port("destination", fields[5])),
    )


def _family(line: bytes) -> Family:
    return {b"4": Family.TCP4, b"6": Family.TCP6}.get(line[9:10], Family.UNSPEC)


def _ip(name: str, field: bytes, family: Family) -> IPv4Address | IPv6Address:
    """Read an address as ``inet_pton`` does: without a zone, without brackets, no zero before a decimal number."""
    with suppress(ValueError):
        if b"%" not in field:
            return IPv4Address(field.decode()) if family is Family.TCP4 else IPv6Address(field.decode())
    takes = {
        Family.TCP4: "an IPv4 address: four numbers from 0 to 255, without leading zeros, separated by dots",
        Family.TCP6: "an IPv6 address: groups of hex digits, separated by colons, without zone or brackets",
    }
    raise MalformedProxyHeader(f"{name} address {quoted(field, 45)} in a PROXY line: takes {takes[family]}")


def _port(name: str, field: bytes) -> int:
    if not _PORT.fullmatch(field) or int(field) > 0xFFFF:
        raise MalformedProxyHeader(
            f"{name} port {quoted(field)} in a PROXY line: takes 0 to 65535, without zero or sign before it"
        )
    return int(field)


def write(header: Header) -> bytes:
    """Return the line for `header`."""
    source, destination = header.source, header.destination
    if not isinstance(source, InetAddress) or not isinstance(destination, InetAddress):
        return b"PROXY UNKNOWN\r\n"
    ips = f"{_text(source.ip)} {_text(destination.ip)}"
    return f"PROXY {header.family.name} {ips} {source.port} {destination.port}\r\n".encode()


def _text(ip: IPv4Address | IPv6Address) -> str:
    """Write the address as in section 2.1, in hex digits only. Python 3.13 writes a mapped one as ::ffff:192.0.2.1."""
    if ip.version == 4 or ip.ipv4_mapped is None:
        return str(ip)
    high, low = divmod(int(ip.ipv4_mapped), 0x10000)
    return f"::ffff:{high:x}:{low:x}"
