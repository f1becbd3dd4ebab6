"""The content of a `Header`, and headers that cannot be made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from ipaddress import IPv6Address, ip_address

import pytest

from tcpapp import proxy_protocol
from tcpapp.errors import InvalidProxyHeader
from tcpapp.proxy_protocol import Address, Command, Family, Header, InetAddress, Tlv
from tests.proxy_protocol.cases import (
    DESTINATION,
    DESTINATION6,
    GOOD,
    LOCAL,
    SOURCE,
    SOURCE6,
    UNKNOWN,
    UNSPEC,
    carrying,
    inet,
    relayed,
)


def test_an_address_reads_as_people_write_it() -> None:
    """An address is written as host:port, with brackets around an IPv6 host."""
    assert [str(SOURCE), str(SOURCE6)] == ["192.168.0.1:56324", "[2001:db8::1]:56324"]


@pytest.mark.parametrize("header", [UNKNOWN, UNSPEC, LOCAL])
def test_a_header_without_addresses_is_not_relayed(header: Header) -> None:
    """A header with UNKNOWN, UNSPEC or LOCAL does not name the peer: the connection's addresses are used."""
    assert not header.relayed
    assert (header.source, header.destination, header.tlvs) == (None, None, ())


def test_a_header_with_addresses_is_relayed() -> None:
    """A header with addresses names the client."""
    assert GOOD["the example"][1].relayed
    assert GOOD["v2 UNIX unnamed and abstract"][1].relayed


def test_a_header_cannot_be_changed() -> None:
    """The fields of a header cannot be set, and equal headers have one hash."""
    with pytest.raises(FrozenInstanceError):
        LOCAL.version = 1  # type: ignore[misc]
    assert hash(carrying((1, b"h2"))) == hash(carrying((1, b"h2")))


def test_tlvs_are_named_tuples() -> None:
    """TLVs can be given as pairs in any sequence, and are kept as `Tlv`."""
    header = Header(2, Command.PROXY, Family.TCP4, SOURCE, DESTINATION, [(1, b"h2"), (4, b"")])
    assert header.tlvs == (Tlv(1, b"h2"), Tlv(4, b""))
    assert header.tlvs[0].value == b"h2"


@pytest.mark.parametrize(
    ("family", "size"),
    [
        (Family.UNSPEC, 0),
        (Family.TCP4, 12),
        (Family.UDP4, 12),
        (Family.TCP6, 36),
        (Family.UDP6, 36),
        (Family.UNIX_STREAM, 216),
        (Family.UNIX_DGRAM, 216),
    ],
)
def test_the_size_of_a_familys_addresses(family: Family, size: int) -> None:
    """The addresses of a family have the size that section 2.2 lists."""
    assert family.size == size


OTHERS: list[tuple[Family, Address, str]] = [
    (Family.TCP4, SOURCE6, "takes an InetAddress with an IPv4Address"),
    (Family.UDP4, b"/run/client", "takes an InetAddress with an IPv4Address"),
    (Family.TCP4, None, "takes an InetAddress with an IPv4Address"),
    (Family.TCP6, SOURCE, "takes an InetAddress with an IPv6Address"),
    (Family.UDP6, None, "takes an InetAddress with an IPv6Address"),
    (Family.UNIX_STREAM, SOURCE, "takes a path in bytes"),
    (Family.UNIX_DGRAM, None, "takes a path in bytes"),
    (Family.UNIX_DGRAM, "/run/client", "takes a path in bytes"),
    (Family.UNSPEC, SOURCE, "takes None"),
    (Family.UNSPEC, b"", "takes None"),
]


@pytest.mark.parametrize(("family", "other", "takes"), OTHERS)
def test_both_addresses_are_of_the_family(family: Family, other: Address, takes: str) -> None:
    """A source or a destination of another family than the header's is refused."""
    own: Address = {0: None, 1: SOURCE, 2: SOURCE6, 3: b"/run/server"}[family >> 4]
    for name, source, destination in (("source", other, own), ("destination", own, other)):
        with pytest.raises(InvalidProxyHeader) as caught:
            Header(2, Command.PROXY, family, source, destination)
        assert str(caught.value) == f"{name} {other!r} with {family.name}: {takes}"


CANNOT_BE = {
    "version 0": (lambda: Header(0, Command.PROXY, Family.UNSPEC), "version 0: takes 1 or 2"),
    "version 3": (lambda: Header(3, Command.PROXY, Family.UNSPEC), "version 3: takes 1 or 2"),
    "a command": (lambda: Header(2, 2, Family.UNSPEC), "command 2: takes one of LOCAL, PROXY"),
    "a family": (
        lambda: Header(2, Command.PROXY, 0x13),
        "family 19: takes one of UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX",
    ),
    "LOCAL in version 1": (lambda: Header(1, Command.LOCAL, Family.UNSPEC), "version 1 has no LOCAL; write version 2"),
    "UDP in version 1": (
        lambda: Header(1, Command.PROXY, Family.UDP4, SOURCE, DESTINATION),
        "version 1 has no UDP4, but TCP4, TCP6 and UNSPEC; write 2",
    ),
    "UNIX in version 1": (
        lambda: Header(1, Command.PROXY, Family.UNIX_STREAM, b"/a", b"/b"),
        "version 1 has no UNIX_STREAM, but TCP4, TCP6 and UNSPEC; write 2",
    ),
    "LOCAL with addresses": (
        lambda: Header(2, Command.LOCAL, Family.TCP4, SOURCE, DESTINATION),
        "LOCAL with TCP4: it has no addresses, and takes UNSPEC",
    ),
    "TLVs in version 1": (
        lambda: Header(1, Command.PROXY, Family.TCP4, SOURCE, DESTINATION, (Tlv(1, b"h2"),)),
        "TLVs need a header of version 2 with addresses",
    ),
    "TLVs with LOCAL": (
        lambda: Header(2, Command.LOCAL, Family.UNSPEC, tlvs=(Tlv(1, b"h2"),)),
        "TLVs need a header of version 2 with addresses",
    ),
    "too many TLVs": (
        lambda: carrying(*[(4, bytes(1000))] * 66),
        "a header with 66210 bytes of addresses and TLVs; it takes 65535",
    ),
    "a byte too many": (
        lambda: carrying((4, bytes(65536 - 12 - 3))),
        "a header with 65536 bytes of addresses and TLVs; it takes 65535",
    ),
    "a port of -1": (lambda: inet("::", -1), "port -1: takes a whole number from 0 to 65535"),
    "a port of 65536": (lambda: inet("::", 65536), "port 65536: takes a whole number from 0 to 65535"),
    "a port of True": (lambda: inet("::", True), "port True: takes a whole number from 0 to 65535"),
    "a port of text": (lambda: inet("::", "80"), "port '80': takes a whole number from 0 to 65535"),
    "an ip of text": (lambda: InetAddress("::", 80), "ip '::': takes an IPv4Address or an IPv6Address"),
    "a zone": (
        lambda: InetAddress(IPv6Address("fe80::1%eth0"), 80),
        "ip fe80::1%eth0: takes an address without a zone",
    ),
    "a path of 109 bytes": (
        lambda: relayed(Family.UNIX_STREAM, b"/" * 109, b""),
        f"source {b'/' * 16!r}…: takes at most 108 bytes, not 109",
    ),
    "a path with NUL": (
        lambda: relayed(Family.UNIX_STREAM, b"", b"/a\0b"),
        r"destination b'/a\x00b': takes a path without NUL, or one NUL before it",
    ),
    "a path that ends in NUL": (
        lambda: relayed(Family.UNIX_STREAM, b"/a\0", b""),
        r"source b'/a\x00': takes a path without NUL, or one NUL before it",
    ),
    "a path of NUL": (
        lambda: relayed(Family.UNIX_STREAM, b"\0", b""),
        r"source b'\x00': takes a path without NUL, or one NUL before it",
    ),
    "a TLV of type 256": (lambda: carrying((256, b"")), "a TLV of type 256: takes a number from 0 to 255"),
    "a TLV of type -1": (lambda: carrying((-1, b"")), "a TLV of type -1: takes a number from 0 to 255"),
    "a TLV of type text": (lambda: carrying(("ALPN", b"")), "a TLV of type 'ALPN': takes a number from 0 to 255"),
    "a TLV of text": (lambda: carrying((1, "h2")), "the TLV ALPN (0x01) takes at most 65535 bytes, not str"),
    "a TLV of 65536 bytes": (
        lambda: carrying((0xE0, bytes(65536))),
        "the TLV 0xe0 takes at most 65535 bytes, not 65536 bytes",
    ),
    "an id of 129 bytes": (
        lambda: carrying((5, b"u" * 129)),
        "the TLV UNIQUE_ID (0x05) takes at most 128 bytes, not 129: b'uuuuuuuuuuuuuuuu'…",
    ),
}


@pytest.mark.parametrize(("build", "words"), CANNOT_BE.values(), ids=CANNOT_BE)
def test_an_invalid_header_cannot_be_made(build: object, words: str) -> None:
    """An invalid value raises `InvalidProxyHeader` at once, with the valid values: our fault, not the peer's."""
    with pytest.raises(InvalidProxyHeader) as caught:
        build()
    assert words in str(caught.value)


def test_mapped_addresses_are_ipv6() -> None:
    """A mapped IPv4 address in a TCP6 header stays an IPv6 address."""
    header = relayed(Family.TCP6, InetAddress(ip_address("::ffff:192.0.2.1"), 1), DESTINATION6)
    assert header.source.ip.version == 6


def test_the_package_exports_the_names_of_its_modules() -> None:
    """``proxy_protocol.__all__`` has the names of all its modules."""
    rooms = [proxy_protocol.header, proxy_protocol.reader, proxy_protocol.tlv, proxy_protocol.writer]
    assert sorted(proxy_protocol.__all__) == sorted(name for room in rooms for name in room.__all__)
