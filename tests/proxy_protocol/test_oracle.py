"""
PROXY headers beside another implementation: the library ``proxy-protocol``, which reads and writes both versions.

Where the two differ, the case stands in `LAXER`, `STRICTER` or `OTHERWISE` with what the specification says of it.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import crc32c as library
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxyprotocol import ProxyProtocolIncompleteError
from proxyprotocol.detect import ProxyProtocolDetect
from proxyprotocol.result import ProxyResult, ProxyResultIPv4, ProxyResultIPv6, ProxyResultLocal, ProxyResultUnknown
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from tcpapp.proxy_protocol import Family, Header, HeaderReader, InetAddress, Type, frame
from tcpapp.proxy_protocol.crc32c import crc32c
from tests.proxy_protocol.cases import BAD, GOOD
from tests.proxy_protocol.strategies import headers

KINDS = {
    Family.TCP4: socket.SOCK_STREAM,
    Family.TCP6: socket.SOCK_STREAM,
    Family.UNIX_STREAM: socket.SOCK_STREAM,
    Family.UDP4: socket.SOCK_DGRAM,
    Family.UDP6: socket.SOCK_DGRAM,
    Family.UNIX_DGRAM: socket.SOCK_DGRAM,
}
WRITERS = {1: ProxyProtocolV1(), 2: ProxyProtocolV2()}


def theirs(stream: bytes) -> ProxyResult | None:
    """The library's reading of `stream` with all its calls; `None` if it refuses it."""
    while True:
        try:
            return ProxyProtocolDetect().unpack(stream)
        except ProxyProtocolIncompleteError as more:
            stream += bytes(more.want_read.want_bytes or 0) or b"\r\n"
        except (ValueError, struct.error):  # the latter where a block is too short for its addresses
            return None


def says(result: ProxyResult | None, header: Header) -> bool:
    """Whether the library has read what `header` says."""
    if result is None or not header.relayed:
        return result is not None and result.source is None and not dict(result.tlv)
    addresses = [
        (each.ip, each.port) if isinstance(each, InetAddress) else (each or b"").decode("latin-1")
        for each in (header.source, header.destination)
    ]
    protocol = KINDS[header.family] if header.version == 2 else None  # TCP, which goes without saying
    found = [result.source, result.dest], result.protocol, dict(result.tlv)
    return found == (addresses, protocol, dict(header.tlvs))


LAXER = {
    "IPv6: a zone": "a zone means nothing on another host; inet_pton takes none",
    **dict.fromkeys(
        ["source port: '00'", "source port: '01'", "source port: '080'"],
        "2.1: heading zeroes are not permitted in front of numbers",
    ),
    **dict.fromkeys(
        ["source port: '+1'", "source port: '8_0'", "source port: '80\\t'", r"TCP4: b'\r\r' ends it"],
        "2.1: a port is a decimal integer; int() takes signs, underscores and white space",
    ),
    **dict.fromkeys(
        [r"UNKNOWN: b'\rG' ends it", r"UNKNOWN: b'\r\r' ends it"],
        "2.1: the receiver must not tolerate a single CR; that which is ignored ends at the CRLF",
    ),
    "too long: b'PROXY UNKNOWN '": "2.1: a line without CRLF in the first 107 characters is invalid",
    **dict.fromkeys(
        [f"v2 byte 14 {byte}" for byte in ("0x03", "0x40", "0x41", "0xf0", "0xff")],
        "2.2: other values of the family and of the protocol must be rejected as invalid by receivers",
    ),
    **dict.fromkeys(
        [f"v2 {name} of {length} bytes" for name in ("PROXY", "LOCAL", "UNSPEC") for length in (4081, 65535)],
        "our own bound; the library waits for all that is announced",
    ),
    **dict.fromkeys(
        [f"TLV: {name}" for name in ("one byte", "two bytes", "beyond the end", "far beyond")],
        "2.2: the value has as many bytes as its length says; the library cuts it short",
    ),
    "TLV: UNIQUE_ID of 129 bytes": "2.2.5: up to 128 bytes",
    **dict.fromkeys(
        [f"TLV: {name}" for name in ("SSL of 4 bytes", "SSL and two bytes", "SSL beyond its end")],
        "2.2.6: client and verify have 5 bytes, and TLVs follow",
    ),
}
"""What the library takes and we do not, each with the reason."""

STRICTER = {
    "v2 a family without a protocol or block": "2.2: UNSPEC's addresses are ignored; the library looks for some",
    "CRC32C of AWS": "2.2.3: of the whole header; the library first puts the TLVs into the order of their types",
}
"""What the library does not take and we do."""

OTHERWISE = {
    "v2 UNIX and what was behind the path": "a path ends at its NUL; the library takes off the last ones",
    "v2 a family without a protocol": "2.2: the receiver should ignore the address information of UNSPEC",
    **dict.fromkeys(
        ["v2 LOCAL with addresses", "v2 LOCAL of a family that is none", "v2 LOCAL of HAProxy, with CRC32C and SSL"],
        "2.2: the receiver must discard the protocol block; the library reads it as TLVs, even if it is addresses",
    ),
}
"""What both take, and read differently."""


@pytest.mark.parametrize("name", GOOD)
def test_what_is_good_is_good_there(name: str) -> None:
    """It reads the same, except for the cases in the tables."""
    stream, header = GOOD[name]
    result = theirs(stream)
    assert (result is None) == (name in STRICTER)
    assert says(result, header) == (name not in {*STRICTER, *OTHERWISE})


@pytest.mark.parametrize("name", BAD)
def test_what_is_bad_is_bad_there(name: str) -> None:
    """Whatever comes behind it, except for the cases in the table."""
    stream, _ = BAD[name]
    assert (theirs(stream) is not None) == (name in LAXER)


def test_the_tables_are_of_the_cases() -> None:
    assert set(GOOD) > {*STRICTER, *OTHERWISE}
    assert set(BAD) > set(LAXER)


with_ips = headers().filter(lambda header: isinstance(header.source, InetAddress))
in_ascii = headers().filter(
    lambda header: not isinstance(header.source, bytes) or (header.source + header.destination).isascii()
)


@given(in_ascii)
def test_what_we_write_is_read_there(header: Header) -> None:
    """Any header; of the TLVs of one type, the library keeps the last."""
    assert says(theirs(frame(header)), header)


@given(with_ips.filter(lambda header: header.version == 2))
def test_our_checksum_is_right_there(header: Header) -> None:
    """With the TLVs in the order of their types, none twice, because the library orders them so before it checks."""
    tlvs = {**dict(header.tlvs), Type.CRC32C: bytes(4)}
    written = frame(replace(header, tlvs=sorted(tlvs.items())))
    assert says(theirs(written), HeaderReader().receive(written))


@given(with_ips)
def test_what_they_write_is_read_here(header: Header) -> None:
    """With the checksum that they put into every header of version 2."""
    kind = ProxyResultIPv4 if header.source.ip.version == 4 else ProxyResultIPv6
    ends = (header.source.ip, header.source.port), (header.destination.ip, header.destination.port)
    tlv = ProxyProtocolTLV(init=dict(header.tlvs))
    written = WRITERS[header.version].pack(kind(*ends, protocol=KINDS[header.family], tlv=tlv))
    found = HeaderReader().receive(written + b"rest")
    sums = [each for each in found.tlvs if each.type == Type.CRC32C]
    assert len(sums) == (header.version == 2)
    assert found == replace(header, tlvs=sorted({**dict(header.tlvs), **dict(sums)}.items()))


@given(st.binary(max_size=300))
def test_the_checksum_is_that_of_a_library(data: bytes) -> None:
    """Any bytes have the CRC32c that the library in C finds."""
    assert crc32c(data) == library.crc32c(data)


def test_what_they_write_without_addresses() -> None:
    """Their UNKNOWN has spaces behind it; their LOCAL has a checksum."""
    unknown = HeaderReader().receive(ProxyProtocolV1().pack(ProxyResultUnknown()))
    assert unknown == GOOD["the short UNKNOWN"][1]
    assert HeaderReader().receive(ProxyProtocolV2().pack(ProxyResultLocal())) == GOOD["v2 LOCAL"][1]
