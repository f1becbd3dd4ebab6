"""Addresses as text for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

from tcpapp.transport.addresses import describe

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "127.0.0.1", 7007), "127.0.0.1:7007"),
        (IPv6Address("TCP", "::1", 7007), "[::1]:7007"),
        (IPv6Address("TCP", "fe80::1%eth0", 7007), "[fe80::1%eth0]:7007"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 7007), "192.0.2.1:7007"),
        (IPv4Address("TCP", "1.2\r\n\x1b[31m", 7007), r"1.2\r\n\x1b[31m:7007"),
        (UNIXAddress("/run/app.sock"), "unix:/run/app.sock"),
        (UNIXAddress(b"/run/app.sock"), "unix:/run/app.sock"),
        (UNIXAddress("/run/å pp"), "unix:/run/å pp"),
        (UNIXAddress(None), "unix:"),
        (UNIXAddress(b""), "unix:"),
        (UNIXAddress(b"\0app"), "unix:@app"),
        (UNIXAddress(b"\0app\0\0"), r"unix:@app\x00\x00"),
        (UNIXAddress(b"/a\r\n\x1b\xff\xe2\x80\xae"), r"unix:/a\r\n\x1b\xff\u202e"),
        (HostnameAddress(b"localhost", 7007), "HostnameAddress(hostname=b'localhost', port=7007)"),
        ("a\nb", r"a\nb"),
        (None, "None"),
    ],
)
def test_an_address_reads_as_operators_write_it(address: object, text: str) -> None:
    """`describe` gives an address as one printable line, whatever a peer put into it."""
    assert text == describe(address)
