r"""
Version 2, binary (section 2.2)::

    0   the signature, 12 bytes: \r\n\r\n\0\r\nQUIT\n
    12  version (2) and command, 4 bits each
    13  address family and protocol, 4 bits each
    14  the length of the following bytes, 16 bits
    16  the addresses, then TLVs
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from tcpapp.errors import MalformedProxyHeader
from tcpapp.proxy_protocol import tlv
from tcpapp.proxy_protocol.crc32c import crc32c
from tcpapp.proxy_protocol.header import MOST_BEHIND, Address, Command, Family, Header, InetAddress
from tcpapp.proxy_protocol.tlv import Type

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

PREFIX = 16
"""The bytes before the addresses."""

LONGEST = PREFIX + MOST_BEHIND
"""The most bytes in a header."""

_COMMANDS = {0x20 | each: each for each in Command}
_INET = {4: struct.Struct(">4s4sHH"), 16: struct.Struct(">16s16sHH")}
_UNIX = struct.Struct("108s108s")


def end(window: bytes | bytearray, most: int) -> int | None:
    """
    Return how many bytes the header at the start of `window` has, signature included; `None` while its length is
    incomplete.

    Raises `MalformedProxyHeader` at the first wrong byte: for the version, the command, the family, a header of more
    than `most` bytes, or a length that is too short for the addresses.
    """
    if len(window) > 12 and window[12] not in _COMMANDS:
        raise MalformedProxyHeader(
            f"version and command {window[12]:#04x} in a PROXY header; version 2 has 0x20 (LOCAL) and 0x21 (PROXY)"
        )
    if len(window) > 13:
        _family(window)
    if len(window) < PREFIX:
        return None
    length = int.from_bytes(window[14:16], "big")
    _check_length(length, most, _family(window))
    return PREFIX + length if len(window) >= PREFIX + length else None


def _family(window: bytes | bytearray) -> Family:
    """
    Return the family of the addresses that follow. Raises `MalformedProxyHeader`.

    With LOCAL the byte is ignored. If one half of the byte is UNSPEC, so is the family. Values that are not in the
    table "must be rejected as invalid by receivers".
    """
    byte = window[13]
    if _COMMANDS[window[12]] is Command.LOCAL:
        return Family.UNSPEC
    if byte >> 4 > 0x3 or byte & 0xF > 0x2:
        raise MalformedProxyHeader(
            f"family and protocol {byte:#04x} in a PROXY header; the families are 0 to 3, the protocols 0 to 2"
        )
    return Family(byte) if byte >> 4 and byte & 0xF else Family.UNSPEC


def _check_length(length: int, most: int, family: Family) -> None:
    if PREFIX + length > most:
        text = f"a PROXY header of {PREFIX + length} bytes is announced; at most {most} (max) are accepted"
        raise MalformedProxyHeader(text, value=PREFIX + length, limit=most)
    if length < family.size:
        text = f"{length} bytes of addresses in a PROXY header; {family.name} takes {family.size}"
        raise MalformedProxyHeader(text, value=length, limit=family.size)


def read(data: bytes) -> Header:
    """
    Return the content of the whole header. Raises `MalformedProxyHeader`, or `InvalidProxyHeader` for a TLV.

    Bytes after LOCAL or UNSPEC are skipped, because the specification does not define their form. HAProxy and nginx do
    the same.
    """
    command, family = _COMMANDS[data[12]], _family(data)
    if family is Family.UNSPEC:
        return Header(2, command, family)
    at = PREFIX + family.size
    source, destination = _addresses(data[PREFIX:at], family)
    header = Header(2, command, family, source, destination, tlv.unpack(data[at:]))
    announced = header.crc32c
    if announced is not None and announced != (found := crc32c(_with_checksum(data, header, 0))):
        raise MalformedProxyHeader(f"CRC32C {announced:#010x} in a PROXY header whose checksum is {found:#010x}")
    return header


def _addresses(block: bytes, family: Family) -> tuple[Address, Address]:
    if family in {Family.UNIX_STREAM, Family.UNIX_DGRAM}:
        source, destination = _UNIX.unpack(block)
        return _path(source), _path(destination)
    kind, form = (IPv4Address, _INET[4]) if family in {Family.TCP4, Family.UDP4} else (IPv6Address, _INET[16])
    source, destination, source_port, destination_port = form.unpack(block)
    return InetAddress(kind(source), source_port), InetAddress(kind(destination), destination_port)


def _path(field: bytes) -> bytes:
    """
    Return the path, which ends before its first NUL. An abstract path begins with NUL, and ends before the last NULs.
    """
    return field.rstrip(b"\0") if field.startswith(b"\0") else field.partition(b"\0")[0]


def _with_checksum(data: bytes, header: Header, checksum: int) -> bytes:
    """Return the bytes of `header`, with its checksum set to this value."""
    at = PREFIX + header.family.size + tlv.LEAST
    for kind, value in header.tlvs:
        if kind == Type.CRC32C:
            return data[:at] + checksum.to_bytes(4, "big") + data[at + 4 :]
        at += len(value) + tlv.LEAST
    return data


def write(header: Header) -> bytes:
    """Return the bytes of `header`, with the right checksum if it has a TLV for one."""
    behind = _block(header.source, header.destination) + tlv.pack(header.tlvs)
    fields = struct.pack(">BBH", 0x20 | header.command, header.family, len(behind))
    data = _with_checksum(SIGNATURE + fields + behind, header, 0)
    return _with_checksum(data, header, crc32c(data)) if header.crc32c is not None else data


def _block(source: Address, destination: Address) -> bytes:
    """Return the bytes of both addresses, which are of one family."""
    if isinstance(source, InetAddress) and isinstance(destination, InetAddress):
        ips = source.ip.packed, destination.ip.packed
        return _INET[len(ips[0])].pack(*ips, source.port, destination.port)
    if isinstance(source, bytes) and isinstance(destination, bytes):
        return _UNIX.pack(source, destination)
    return b""
