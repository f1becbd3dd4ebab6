"""The writer of PROXY headers, and headers that cannot be written."""

from __future__ import annotations

import pytest
from hypothesis import given

from tcpapp.errors import InvalidProxyHeader
from tcpapp.proxy_protocol import Command, Family, Header, HeaderReader, Tlv, Type, frame
from tests.proxy_protocol.cases import (
    DESTINATION,
    GOOD,
    INET,
    LINE,
    LOCAL,
    UNKNOWN,
    UNSPEC,
    carrying,
    inet,
    line,
    relayed,
    tcp4,
    tlv,
    v2,
)
from tests.proxy_protocol.strategies import headers

OF_ONE_FORM = [
    "the example",
    "the longest TCP4",
    "the longest TCP6",
    "the short UNKNOWN",
    "TCP6",
    "v2 TCP4",
    "v2 UDP6",
    "v2 UNIX stream",
    "v2 UNIX paths of 108 bytes",
    "v2 UNIX unnamed and abstract",
    "v2 UNSPEC",
    "v2 LOCAL",
    "CRC32C of AWS",
    "SSL",
    "types of every range",
    "a type that comes twice",
]


@pytest.mark.parametrize("name", OF_ONE_FORM)
def test_a_header_is_written_as_it_was_read(name: str) -> None:
    """A header with only one valid form is written as the bytes that it was read from."""
    stream, header = GOOD[name]
    assert frame(header) == stream


@pytest.mark.parametrize(("stream", "header"), GOOD.values(), ids=GOOD)
def test_a_header_of_any_form_is_written(stream: bytes, header: Header) -> None:
    """A header that was read is equal after it has been written and read again."""
    assert HeaderReader().receive(frame(header)) == header


@pytest.mark.exhaustive
@given(headers())
def test_a_line_is_within_its_bound(header: Header) -> None:
    """No line that we write is longer than section 2.1 allows."""
    if header.version == 1:
        most = {Family.TCP4: 56, Family.TCP6: 104, Family.UNSPEC: 15}[header.family]
        assert len(frame(header)) <= most


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("::ffff:0.0.0.0", "::ffff:0:0"),
        ("::ffff:255.255.255.255", "::ffff:ffff:ffff"),
        ("::192.0.2.1", "::c000:201"),
        ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ],
)
def test_ipv6_is_written_in_hex_digits(address: str, text: str) -> None:
    """An IPv6 address is written without dots (section 2.1), which some versions of Python would write."""
    written = frame(line(Family.TCP6, inet(address, 1), inet("::", 2)))
    assert written == f"PROXY TCP6 {text} :: 1 2\r\n".encode()


def test_a_checksum_is_put_behind_the_tlvs() -> None:
    """With checksum=True, the correct checksum is written behind the TLVs."""
    assert frame(carrying(), checksum=True) == tcp4(tlv(3, bytes.fromhex("1C1AE9C6")))
    written = frame(carrying((1, b"h2")), checksum=True)
    assert [kind for kind, _ in HeaderReader().receive(written).tlvs] == [Type.ALPN, Type.CRC32C]


def test_an_existing_checksum_is_corrected() -> None:
    """An existing TLV CRC32C is written with the correct checksum, in its place."""
    for value in (bytes(4), b"what", bytes.fromhex("1C1AE9C6")):
        for checksum in (False, True):
            assert frame(carrying((3, value)), checksum=checksum) == tcp4(tlv(3, bytes.fromhex("1C1AE9C6")))
    between = carrying((4, b"x"), (3, b"what"), (5, b"id"))
    found = HeaderReader().receive(frame(between))
    assert [each.type for each in found.tlvs] == [4, 3, 5]


@pytest.mark.parametrize("header", [UNKNOWN, UNSPEC, LOCAL, GOOD["the example"][1]])
def test_a_checksum_without_a_place(header: Header) -> None:
    """A checksum is refused for a header that has no TLVs: of version 1, UNSPEC or LOCAL."""
    with pytest.raises(InvalidProxyHeader, match=r"^TLVs need a header of version 2 with addresses"):
        frame(header, checksum=True)


def test_a_checksum_without_room() -> None:
    """The longest header can be written, but not with a checksum."""
    longest = carrying((4, bytes(65535 - 12 - 3)))
    assert len(frame(longest)) == 65551
    assert HeaderReader(max=65551).receive(frame(longest)) == longest
    with pytest.raises(InvalidProxyHeader, match=r"^a header with 65542 bytes of addresses and TLVs; it takes 65535$"):
        frame(longest, checksum=True)


def test_the_examples_of_the_docstring_are_written() -> None:
    """`frame` writes the bytes of the two examples in its docstring."""
    assert frame(GOOD["the example"][1]) == LINE
    assert (
        frame(carrying())
        == v2(0x21, 0x11, INET)
        == bytes.fromhex("0D0A0D0A000D0A515549540A 21 11 000C C0A80001 C0A8000B DC04 01BB")
    )


def test_writing_does_not_change_the_header() -> None:
    """A header is unchanged after it was written with a checksum."""
    header = carrying((3, b"what"))
    frame(header, checksum=True)
    assert header.tlvs == (Tlv(3, b"what"),)
    assert header == relayed(Family.TCP4, header.source, DESTINATION, (3, b"what"))
    assert header.command is Command.PROXY
