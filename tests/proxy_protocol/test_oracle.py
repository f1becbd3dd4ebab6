"""
PROXY headers compared with another implementation: the library ``proxy-protocol``, which has both versions.

Where the two differ, the case is in `LAXER`, `STRICTER` or `OTHERWISE`, with the words of the specification.
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
    """Return what the library reads from `stream`, in as many calls as it needs; `None` if it refuses the stream."""
    while True:
        try:
            return ProxyProtocolDetect().unpack(stream)
        except ProxyProtocolIncompleteError as more:
            stream += bytes(more.want_read.want_bytes or 0) or b"\r\n"
        except (ValueError, struct.error):  # struct.error: a block is too short for its addresses
            return None


def says(result: ProxyResult | None, header: Header) -> bool:
    """Tell whether the library has read the content of `header`."""
    if result is None or not header.relayed:
        return result is not None and result.source is None and not dict(result.tlv)
    addresses = [
        (each.ip, each.port) if isinstance(each, InetAddress) else (each or b"").decode("latin-1")
        for each in (header.source, header.destination)
    ]
    protocol = KINDS[header.family] if header.version == 2 else None  # version 1 has only TCP
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
"""What the library accepts and our reader does not, each with the reason."""

STRICTER = {
    "v2 a family without a protocol or block": "2.2: UNSPEC's addresses are ignored; the library looks for some",
    "CRC32C of AWS": "2.2.3: of the whole header; the library first puts the TLVs into the order of their types",
}
"""What the library does not accept and our reader does."""

OTHERWISE = {
    "v2 UNIX and what was behind the path": "a path ends at its NUL; the library takes off the last ones",
    "v2 a family without a protocol": "2.2: the receiver should ignore the address information of UNSPEC",
    **dict.fromkeys(
        ["v2 LOCAL with addresses", "v2 LOCAL of a family that is none", "v2 LOCAL of HAProxy, with CRC32C and SSL"],
        "2.2: the receiver must discard the protocol block; the library reads it as TLVs, even if it is addresses",
    ),
}
"""What both accept, and read differently."""


@pytest.mark.parametrize("name", GOOD)
def test_valid_headers_are_valid_for_the_library(name: str) -> None:
    """The library reads each valid header as our reader does, except for the cases in the tables."""
    stream, header = GOOD[name]
    result = theirs(stream)
    assert (result is None) == (name in STRICTER)
    assert says(result, header) == (name not in {*STRICTER, *OTHERWISE})


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", BAD)
def test_invalid_headers_are_invalid_for_the_library(name: str) -> None:
    """The library refuses each invalid header, except for the cases in `LAXER`."""
    stream, _ = BAD[name]
    assert (theirs(stream) is not None) == (name in LAXER)


def test_the_tables_name_existing_cases() -> None:
    """Each name in the tables of differences is a case of `GOOD` or `BAD`."""
    assert set(GOOD) > {*STRICTER, *OTHERWISE}
    assert set(BAD) > set(LAXER)


with_ips = headers().filter(lambda header: isinstance(header.source, InetAddress))
in_ascii = headers().filter(
    lambda header: not isinstance(header.source, bytes) or (header.source + header.destination).isascii()
)


@pytest.mark.exhaustive
@given(in_ascii)
def test_the_library_reads_our_headers(header: Header) -> None:
    """The library reads any header that we write; of several TLVs of one type, it keeps the last."""
    assert says(theirs(frame(header)), header)


@pytest.mark.exhaustive
@given(with_ips.filter(lambda header: header.version == 2))
def test_the_library_accepts_our_checksum(header: Header) -> None:
    """
    The library accepts the checksum of a header that we write.

    The TLVs are in the order of their types, none twice, because the library sorts them before it checks.
    """
    tlvs = {**dict(header.tlvs), Type.CRC32C: bytes(4)}
    written = frame(replace(header, tlvs=sorted(tlvs.items())))
    assert says(theirs(written), HeaderReader().receive(written))


@pytest.mark.exhaustive
@given(with_ips)
def test_our_reader_reads_the_librarys_headers(header: Header) -> None:
    """Our reader reads any header that the library writes, with the checksum of a header of version 2."""
    kind = ProxyResultIPv4 if header.source.ip.version == 4 else ProxyResultIPv6
    ends = (header.source.ip, header.source.port), (header.destination.ip, header.destination.port)
    tlv = ProxyProtocolTLV(init=dict(header.tlvs))
    written = WRITERS[header.version].pack(kind(*ends, protocol=KINDS[header.family], tlv=tlv))
    found = HeaderReader().receive(written + b"rest")
    sums = [each for each in found.tlvs if each.type == Type.CRC32C]
    assert len(sums) == (header.version == 2)
    assert found == replace(header, tlvs=sorted({**dict(header.tlvs), **dict(sums)}.items()))


@pytest.mark.exhaustive
@given(st.binary(max_size=300))
def test_crc32c_gives_the_checksum_of_a_library(data: bytes) -> None:
    """For any bytes, `crc32c` gives the checksum that a library in C gives."""
    assert crc32c(data) == library.crc32c(data)


def test_our_reader_reads_the_librarys_headers_without_addresses() -> None:
    """Our reader accepts the spaces behind the library's UNKNOWN, and the checksum of its LOCAL."""
    unknown = HeaderReader().receive(ProxyProtocolV1().pack(ProxyResultUnknown()))
    assert unknown == GOOD["the short UNKNOWN"][1]
    assert HeaderReader().receive(ProxyProtocolV2().pack(ProxyResultLocal())) == GOOD["v2 LOCAL"][1]
