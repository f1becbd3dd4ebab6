"""The parts that the tests of PROXY headers share: a table of streams with their results, and cuts of streams."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from random import Random

from tcpapp.errors import MalformedProxyHeader
from tcpapp.proxy_protocol import Address, Command, Family, Header, HeaderReader, InetAddress, Tlv

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
"""The signature of version 2, as section 2.2 writes it."""

REST = b"GET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"
"""The bytes behind the line in the example of section 2.1."""

LINE = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
"""The line of the example of section 2.1."""

FULL = "ffff:" * 7 + "ffff"
INET = bytes.fromhex("C0A80001 C0A8000B DC04 01BB")
INET6 = ip_address("2001:db8::1").packed + ip_address("2001:db8::2").packed + bytes.fromhex("DC04 01BB")
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")


def v2(versioned: int, family: int, behind: bytes = b"", length: int | None = None) -> bytes:
    """
    Return a header of version 2 from its bytes.

    The bytes are: version and command, family and protocol, the bytes behind the length, and the length.
    """
    return SIGNATURE + struct.pack(">BBH", versioned, family, len(behind) if length is None else length) + behind


def tlv(kind: int, value: bytes) -> bytes:
    """Return a TLV of this type."""
    return struct.pack(">BH", kind, len(value)) + value


def tcp4(*tlvs: bytes) -> bytes:
    """Return a header of version 2 with IPv4 addresses and these TLVs."""
    return v2(0x21, 0x11, INET + b"".join(tlvs))


def inet(host: str, port: int) -> InetAddress:
    """Return the address of this host and port."""
    return InetAddress(ip_address(host), port)


SOURCE, DESTINATION = inet("192.168.0.1", 56324), inet("192.168.0.11", 443)
SOURCE6, DESTINATION6 = inet("2001:db8::1", 56324), inet("2001:db8::2", 443)


def line(family: Family, source: Address, destination: Address) -> Header:
    """Return a header of version 1."""
    return Header(1, Command.PROXY, family, source, destination)


def relayed(family: Family, source: Address, destination: Address, *tlvs: tuple[int, bytes]) -> Header:
    """Return a header of version 2 with these addresses and TLVs."""
    return Header(2, Command.PROXY, family, source, destination, tuple(Tlv(*each) for each in tlvs))


def carrying(*tlvs: tuple[int, bytes]) -> Header:
    """Return a header of version 2 with IPv4 addresses and these TLVs."""
    return relayed(Family.TCP4, SOURCE, DESTINATION, *tlvs)


UNKNOWN = Header(1, Command.PROXY, Family.UNSPEC)
UNSPEC = Header(2, Command.PROXY, Family.UNSPEC)
LOCAL = Header(2, Command.LOCAL, Family.UNSPEC)

SSL = b"\x07\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, "Zoë".encode()) + tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256")
VPCE = b"\x01vpce-08d2bf15fac5001c9"

GOOD: dict[str, tuple[bytes, Header]] = {
    # version 1, section 2.1
    "the example": (LINE, line(Family.TCP4, SOURCE, DESTINATION)),
    "the longest TCP4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        line(Family.TCP4, inet("255.255.255.255", 65535), inet("255.255.255.255", 65535)),
    ),
    "the longest TCP6": (
        f"PROXY TCP6 {FULL} {FULL} 65535 65535\r\n".encode(),
        line(Family.TCP6, inet(FULL, 65535), inet(FULL, 65535)),
    ),
    "the short UNKNOWN": (b"PROXY UNKNOWN\r\n", UNKNOWN),
    "the worst case": (f"PROXY UNKNOWN {FULL} {FULL} 65535 65535\r\n".encode(), UNKNOWN),
    "UNKNOWN and a space": (b"PROXY UNKNOWN \r\n", UNKNOWN),
    "UNKNOWN and nonsense": (b"PROXY UNKNOWN \0\xff 999.9 -1\t\r\n", UNKNOWN),
    "the least of all": (
        b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
        line(Family.TCP4, inet("0.0.0.0", 0), inet("0.0.0.0", 0)),
    ),
    "TCP6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", line(Family.TCP6, SOURCE6, DESTINATION6)),
    "TCP6 in capitals": (b"PROXY TCP6 2001:DB8::1 2001:dB8::2 56324 443\r\n", line(Family.TCP6, SOURCE6, DESTINATION6)),
    "TCP6 in full": (
        b"PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0001 2001:db8:0:0:0:0:0:2 56324 443\r\n",
        line(Family.TCP6, SOURCE6, DESTINATION6),
    ),
    "TCP6 loopback": (b"PROXY TCP6 ::1 :: 1 2\r\n", line(Family.TCP6, inet("::1", 1), inet("::", 2))),
    "TCP6 of one zero": (
        b"PROXY TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2\r\n",
        line(Family.TCP6, inet("1:2:3:4:5:6:7:0", 1), inet("0:2:3:4:5:6:7:8", 2)),
    ),
    "TCP6 mapped": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:201 1 2\r\n",
        line(Family.TCP6, inet("::ffff:192.0.2.1", 1), inet("::ffff:192.0.2.1", 2)),
    ),
    # version 2, section 2.2: each of the protocol bytes
    "v2 TCP4": (v2(0x21, 0x11, INET), relayed(Family.TCP4, SOURCE, DESTINATION)),
    "v2 UDP4": (v2(0x21, 0x12, INET), relayed(Family.UDP4, SOURCE, DESTINATION)),
    "v2 TCP6": (v2(0x21, 0x21, INET6), relayed(Family.TCP6, SOURCE6, DESTINATION6)),
    "v2 UDP6": (v2(0x21, 0x22, INET6), relayed(Family.UDP6, SOURCE6, DESTINATION6)),
    "v2 UNIX stream": (v2(0x21, 0x31, UNIX), relayed(Family.UNIX_STREAM, b"/run/client", b"/run/server")),
    "v2 UNIX datagram": (v2(0x21, 0x32, UNIX), relayed(Family.UNIX_DGRAM, b"/run/client", b"/run/server")),
    "v2 UNIX paths of 108 bytes": (
        v2(0x21, 0x31, b"s" * 108 + b"d" * 108),
        relayed(Family.UNIX_STREAM, b"s" * 108, b"d" * 108),
    ),
    "v2 UNIX unnamed and abstract": (
        v2(0x21, 0x31, bytes(108) + b"\0abstract\0name".ljust(108, b"\0")),
        relayed(Family.UNIX_STREAM, b"", b"\0abstract\0name"),
    ),
    "v2 UNIX and what was behind the path": (
        v2(0x21, 0x31, b"/a\0/stack/of/the/proxy".ljust(108, b"!") + b"/b".ljust(108, b"\0")),
        relayed(Family.UNIX_STREAM, b"/a", b"/b"),
    ),
    "v2 UNSPEC": (v2(0x21, 0x00), UNSPEC),
    "v2 UNSPEC with a block": (v2(0x21, 0x00, b"\xff" * 50), UNSPEC),
    "v2 a family without a protocol": (v2(0x21, 0x10, INET), UNSPEC),
    "v2 a family without a protocol or block": (v2(0x21, 0x20), UNSPEC),
    "v2 a protocol without a family": (v2(0x21, 0x01, INET), UNSPEC),
    "v2 datagrams without a family": (v2(0x21, 0x02, b"?"), UNSPEC),
    "v2 LOCAL": (v2(0x20, 0x00), LOCAL),
    "v2 LOCAL with addresses": (v2(0x20, 0x11, INET), LOCAL),
    "v2 LOCAL with a short block": (v2(0x20, 0x21, b"?"), LOCAL),
    "v2 LOCAL of a family that is none": (v2(0x20, 0xFF, b"???"), LOCAL),
    "v2 LOCAL of HAProxy, with CRC32C and SSL": (
        v2(0x20, 0x00, tlv(3, bytes.fromhex("889DA1DF")) + tlv(0x20, bytes(5))),
        LOCAL,
    ),
    "v2 the longest by default": (
        tcp4(tlv(4, bytes(4096 - 16 - 12 - 3))),
        carrying((4, bytes(4096 - 16 - 12 - 3))),
    ),
    # TLVs, sections 2.2.1 to 2.2.8
    "ALPN": (tcp4(tlv(1, b"h2")), carrying((1, b"h2"))),
    "ALPN of any bytes": (tcp4(tlv(1, b"\xff\0")), carrying((1, b"\xff\0"))),
    "AUTHORITY": (tcp4(tlv(2, b"example.org")), carrying((2, b"example.org"))),
    "AUTHORITY in UTF-8": (tcp4(tlv(2, "bücher.example".encode())), carrying((2, "bücher.example".encode()))),
    "CRC32C of AWS": (
        v2(
            0x21,
            0x11,
            bytes.fromhex("AC1F0771 AC1F0A1F C8F2 0050")
            + tlv(3, bytes.fromhex("E8D6892D"))
            + tlv(0xEA, VPCE)
            + tlv(4, bytes(36)),
        ),
        relayed(
            Family.TCP4,
            inet("172.31.7.113", 51442),
            inet("172.31.10.31", 80),
            (3, bytes.fromhex("E8D6892D")),
            (0xEA, VPCE),
            (4, bytes(36)),
        ),
    ),
    "CRC32C alone": (tcp4(tlv(3, bytes.fromhex("1C1AE9C6"))), carrying((3, bytes.fromhex("1C1AE9C6")))),
    "NOOP": (tcp4(tlv(4, b"")), carrying((4, b""))),
    "NOOP of any bytes": (tcp4(tlv(4, b"\xff" * 9)), carrying((4, b"\xff" * 9))),
    "UNIQUE_ID": (tcp4(tlv(5, bytes(range(128)))), carrying((5, bytes(range(128))))),
    "UNIQUE_ID of none": (tcp4(tlv(5, b"")), carrying((5, b""))),
    "SSL": (tcp4(tlv(0x20, SSL)), carrying((0x20, SSL))),
    "SSL of a client without it": (tcp4(tlv(0x20, bytes(5))), carrying((0x20, bytes(5)))),
    "SSL with bits of the future": (tcp4(tlv(0x20, b"\xf9\0\0\0\1")), carrying((0x20, b"\xf9\0\0\0\1"))),
    "SSL with a type of the future": (
        tcp4(tlv(0x20, bytes(5) + tlv(0x2F, b"\xff"))),
        carrying((0x20, bytes(5) + tlv(0x2F, b"\xff"))),
    ),
    "AUTHORITY that is no text": (tcp4(tlv(2, b"\xff")), carrying((2, b"\xff"))),
    "NETNS that is no text": (tcp4(tlv(0x30, b"bl\xc3\xa4u")), carrying((0x30, b"bl\xc3\xa4u"))),
    "SSL with a name in Latin-1": (
        tcp4(tlv(0x20, bytes(5) + tlv(0x22, b"Zo\xeb"))),
        carrying((0x20, bytes(5) + tlv(0x22, b"Zo\xeb"))),
    ),
    "NETNS": (tcp4(tlv(0x30, b"blue")), carrying((0x30, b"blue"))),
    "a type that is not registered": (tcp4(tlv(0x77, b"\xff")), carrying((0x77, b"\xff"))),
    "types of every range": (
        tcp4(*[tlv(kind, b"x") for kind in (0, 0xE0, 0xEF, 0xF0, 0xF7, 0xF8, 0xFF)]),
        carrying(*[(kind, b"x") for kind in (0, 0xE0, 0xEF, 0xF0, 0xF7, 0xF8, 0xFF)]),
    ),
    "a type that comes twice": (
        tcp4(tlv(2, b"a.example"), tlv(4, b""), tlv(2, b"b.example")),
        carrying((2, b"a.example"), (4, b""), (2, b"b.example")),
    ),
    "TLVs behind TCP6": (
        v2(0x21, 0x21, INET6 + tlv(1, b"h2")),
        relayed(Family.TCP6, SOURCE6, DESTINATION6, (1, b"h2")),
    ),
    "TLVs behind UNIX": (
        v2(0x21, 0x31, UNIX + tlv(1, b"h2")),
        relayed(Family.UNIX_STREAM, b"/run/client", b"/run/server", (1, b"h2")),
    ),
}
"""Streams, and the header with which each begins."""

NO_BEGINNING = (
    "begins the stream; a PROXY header begins with 'PROXY TCP4 ', 'PROXY TCP6 ' or 'PROXY UNKNOWN' (version 1), "
    r"or '\r\n\r\n\x00\r\nQUIT\n' (version 2)"
)
IPV4 = "takes an IPv4 address: four numbers from 0 to 255, without leading zeros, separated by dots"
IPV6 = "takes an IPv6 address: groups of hex digits, separated by colons, without zone or brackets"
PORT = "takes 0 to 65535, without zero or sign before it"
BYTE_13 = "in a PROXY header; version 2 has 0x20 (LOCAL) and 0x21 (PROXY)"
BYTE_14 = "in a PROXY header; the families are 0 to 3, the protocols 0 to 2"
FIELDS = "it has 6, one space apart: PROXY TCP4, source, destination, source port, destination port"


def _beginnings() -> Iterator[tuple[str, bytes, str]]:
    for name, stream in {
        "HTTP": b"G",
        "TLS": b"\x16",
        "a NUL": b"\0",
        "LF": b"\n",
        "POST": b"PO",
        "small letters": b"p",
        "a small letter": b"PROXy",
        "a space before": b" ",
        "a tab": b"PROXY\t",
        "two spaces": b"PROXY  ",
        "no space": b"PROXYT",
        "the line's end for a space": b"PROXY\r",
        "TCP5": b"PROXY TCP5",
        "TCP without a number": b"PROXY TCP ",
        "UDP4": b"PROXY UD",
        "small tcp4": b"PROXY t",
        "TCP4 and more": b"PROXY TCP4X",
        "TCP4 and the end": b"PROXY TCP4\r",
        "TCP46": b"PROXY TCP46",
        "UNKNOWN and more": b"PROXY UNKNOWNX",
        "UNKNOWN and LF": b"PROXY UNKNOWN\n",
        "small unknown": b"PROXY u",
        "UNIX": b"PROXY UNI",
        "an empty line": b"\r\n\r\nG",
        "CR alone": b"\rP",
        "a signature cut": b"\r\n\r\n\0\r\nQUIT ",
        "a signature of small letters": b"\r\n\r\n\0\r\nq",
        "a signature without NUL": b"\r\n\r\n\r",
    }.items():
        yield f"no beginning: {name}", stream, f"{stream!r} {NO_BEGINNING}"


def _lines() -> Iterator[tuple[str, bytes, str]]:
    for name, address in {
        "above 255": "999.1.1.1",
        "256": "1.1.1.256",
        "a zero before": "192.168.00.1",
        "octal": "010.0.0.1",
        "hex": "0x7f.0.0.1",
        "three numbers": "192.168.1",
        "five numbers": "1.2.3.4.5",
        "one number": "3232235521",
        "a dot behind": "1.2.3.4.",
        "a sign": "+1.2.3.4",
        "a name": "localhost",
        "IPv6": "::1",
        "a network": "10.0.0.0/8",
        "a tab": "1.2.3.4\t",
        "NUL": "1.2.3.4\0",
        "other digits": "1.2.3.٤",
        "nothing": "",
    }.items():
        field = address.encode()
        bad = f"PROXY TCP4 {address} 192.168.0.11 56324 443\r\n".encode()
        yield f"IPv4: {name}", bad, f"source address {field!r} in a PROXY line: {IPV4}"
    for name, address in {
        "IPv4": "192.168.0.1",
        "a zone": "fe80::1%eth0",
        "an empty zone": "fe80::1%",
        "brackets": "[::1]",
        "two double colons": "1::2::3",
        "nine groups": "1:2:3:4:5:6:7:8:9",
        "seven groups": "1:2:3:4:5:6:7",
        "eight groups and a double colon": "1:2:3:4::5:6:7:8",
        "five digits": "12345::",
        "no hex": "g::",
        "a colon before": ":1:2:3:4:5:6:7",
        "a colon behind": "1:2:3:4:5:6:7:",
        "IPv4 in the middle": "::1.2.3.4:1",
        "a bad mapped one": "::ffff:1.2.3.04",
        "a length": "::1/128",
        "nothing": "",
    }.items():
        bad = f"PROXY TCP6 ::1 {address} 56324 443\r\n".encode()
        yield f"IPv6: {name}", bad, f"destination address {address.encode()!r} in a PROXY line: {IPV6}"
    for port in (
        "65536",
        "99999",
        "100000",
        "-1",
        "+1",
        "00",
        "01",
        "080",
        "1.0",
        "0x50",
        "http",
        "8_0",
        "٨٠",
        "80\t",
        "",
    ):
        field = port.encode()
        bad = f"PROXY TCP4 192.168.0.1 192.168.0.11 {port} 443\r\n".encode()
        yield f"source port: {port!r}", bad, f"source port {field!r} in a PROXY line: {PORT}"
    yield (
        "destination port",
        b"PROXY TCP6 ::1 ::1 0 123456789012345678901234567890\r\n",
        f"destination port b'1234567890123456'… in a PROXY line: {PORT}",
    )


def _fields() -> Iterator[tuple[str, bytes, str]]:
    for count, text in (
        (3, "PROXY TCP4 \r\n"),
        (3, "PROXY TCP4 192.168.0.1\r\n"),
        (5, "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n"),
        (7, "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n"),
        (7, "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 80\r\n"),
        (7, "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n"),
        (7, "PROXY TCP4 192.168.0.1  192.168.0.11 56324 443\r\n"),
        (7, "PROXY TCP4 192.168.0.1 192.168.0.11 56324  443\r\n"),
    ):
        bad = text.encode()
        yield f"fields: {text!r}", bad, f"{count} fields in the PROXY line {bad!r}; {FIELDS}"


def _endings() -> Iterator[tuple[str, bytes, str]]:
    for name, start in {"TCP4": LINE[:-2], "UNKNOWN": b"PROXY UNKNOWN x"}.items():
        for alone, ending in (("LF", b"\n"), ("CR", b"\rG"), ("CR", b"\r\r")):
            bad = start + ending
            yield f"{name}: {ending!r} ends it", bad, f"{alone} alone in the PROXY line {bad!r}; it ends in CRLF"
    yield "the short UNKNOWN: CR alone", b"PROXY UNKNOWN\r ", r"CR alone in the PROXY line b'PROXY UNKNOWN\r '"
    yield "LF early", b"PROXY TCP4 \n", r"LF alone in the PROXY line b'PROXY TCP4 \n'; it ends in CRLF"
    for start in (b"PROXY UNKNOWN ", b"PROXY TCP4 ", b"PROXY TCP6 1"):
        bad = start.ljust(106, b"1")
        text = f"a PROXY line of more than 107 bytes, {bad[:16]!r}…; it ends in CRLF within them"
        yield f"too long: {start!r}", bad, text


def _prefixes() -> Iterator[tuple[str, bytes, str]]:
    for byte in (0x00, 0x01, 0x10, 0x11, 0x22, 0x2F, 0x30, 0x31, 0xFF):
        yield f"v2 byte 13 {byte:#04x}", SIGNATURE + bytes([byte]), f"version and command {byte:#04x} {BYTE_13}"
    for byte in (0x03, 0x13, 0x1F, 0x40, 0x41, 0xF0, 0xFF):
        yield f"v2 byte 14 {byte:#04x}", SIGNATURE + bytes([0x21, byte]), f"family and protocol {byte:#04x} {BYTE_14}"
    for family, name, size in ((0x11, "TCP4", 12), (0x12, "UDP4", 12), (0x21, "TCP6", 36), (0x22, "UDP6", 36)):
        text = f"{size - 1} bytes of addresses in a PROXY header; {name} takes {size}"
        yield f"v2 {name} cut", v2(0x21, family, length=size - 1), text
    yield "v2 UNIX cut", v2(0x21, 0x31, length=215), "215 bytes of addresses in a PROXY header; UNIX_STREAM takes 216"
    yield "v2 datagrams cut", v2(0x21, 0x32, length=0), "0 bytes of addresses in a PROXY header; UNIX_DGRAM takes 216"
    for name, versioned, family in (("PROXY", 0x21, 0x11), ("LOCAL", 0x20, 0x00), ("UNSPEC", 0x21, 0x00)):
        for length in (4081, 65535):
            text = f"a PROXY header of {16 + length} bytes is announced; at most 4096 (max) are accepted"
            yield f"v2 {name} of {length} bytes", v2(versioned, family, length=length), text


def _tlvs() -> Iterator[tuple[str, bytes, str]]:
    checksum = tlv(3, bytes.fromhex("1C1AE9C6"))
    for name, behind, text in (
        ("one byte", b"\4", r"b'\x04' behind the last TLV; a TLV has 3 bytes or more"),
        ("two bytes", tlv(4, b"") + b"\4\0", r"b'\x04\x00' behind the last TLV; a TLV has 3 bytes or more"),
        ("beyond the end", b"\1\0\1", "the TLV ALPN (0x01) of 1 bytes goes beyond its end; 0 bytes are left"),
        ("far beyond", b"\xea\xff\xfdx", "the TLV 0xea of 65533 bytes goes beyond its end; 1 bytes are left"),
        ("CRC32C of 3 bytes", tlv(3, b"abc"), "the TLV CRC32C (0x03) takes 4 bytes, not b'abc'"),
        ("CRC32C of 5 bytes", tlv(3, b"abcde"), "the TLV CRC32C (0x03) takes 4 bytes, not b'abcde'"),
        ("CRC32C of none", tlv(3, b""), "the TLV CRC32C (0x03) takes 4 bytes, not b''"),
        ("CRC32C twice", checksum * 2, "two TLVs CRC32C (0x03); a header has one checksum"),
        ("UNIQUE_ID of 129 bytes", tlv(5, b"u" * 129), "the TLV UNIQUE_ID (0x05) takes at most 128 bytes, not 129"),
        ("SSL of 4 bytes", tlv(0x20, bytes(4)), r"the TLV SSL (0x20) takes 5 bytes or more, not b'\x00\x00\x00\x00'"),
        ("SSL and two bytes", tlv(0x20, bytes(5) + b"\x21\0"), r"b'!\x00' behind the last TLV"),
        ("SSL beyond its end", tlv(0x20, bytes(5) + b"\x21\0\2x"), "of 2 bytes goes beyond its end; 1 bytes are left"),
        ("a wrong checksum", tlv(3, bytes(4)), "CRC32C 0x00000000 in a PROXY header whose checksum is 0x1c1ae9c6"),
        ("a checksum the wrong way round", tlv(3, bytes.fromhex("C6E91A1C")), "CRC32C 0xc6e91a1c in a PROXY header"),
        ("a checksum of less", checksum + tlv(4, b""), "CRC32C 0x1c1ae9c6 in a PROXY header whose checksum is"),
    ):
        yield f"TLV: {name}", tcp4(behind), text


BAD: dict[str, tuple[bytes, str]] = {
    name: (stream, text)
    for part in (_beginnings, _lines, _fields, _endings, _prefixes, _tlvs)
    for name, stream, text in part()
}
"""Streams that do not begin with a header, up to the first wrong byte, and the words of the error."""


def cuts(stream: bytes, seed: int = 0) -> Iterator[list[bytes]]:
    """Give the stream whole, byte by byte, and cut at random places, which are the same for the same `seed`."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    random = Random(seed)
    for _ in range(6):
        places = sorted(random.choices(range(len(stream) + 1), k=random.randint(1, 5)))
        yield [stream[first:last] for first, last in zip([0, *places], [*places, len(stream)], strict=True)]


def read(reader: HeaderReader, chunks: Iterable[bytes]) -> tuple[Header | None, bytes]:
    """Return the header in `chunks`, and all bytes behind it. Raises only the reader's errors."""
    header, rest = None, b""
    for chunk in chunks:
        header = reader.receive(chunk)
        rest += reader.rest
        assert reader.held <= reader.max
        assert header is reader.header
        assert header is None or reader.held == 0
        assert header is not None or reader.rest == b""
    return header, rest


def outcome(reader: HeaderReader, chunks: Iterable[bytes]) -> tuple[Header | None, bytes] | str:
    """Return what `read` returns, or the text of the error."""
    try:
        return read(reader, chunks)
    except MalformedProxyHeader as error:
        caught = error
    assert caught is reader.failure
    assert reader.held == 0
    return str(caught)
