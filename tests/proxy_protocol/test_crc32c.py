"""CRC32c, compared with the vectors of RFC 3720."""

from __future__ import annotations

import pytest

from tcpapp.proxy_protocol.crc32c import crc32c

READ_10 = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720, appendix B.4, which writes the lowest byte first.
        (bytes(32), "aa36918a"),
        (b"\xff" * 32, "43aba862"),
        (bytes(range(32)), "4e79dd46"),
        (bytes(range(31, -1, -1)), "5cdb3f11"),
        (READ_10, "563a96d9"),
        # The check value of CRC-32C in Ross Williams's catalogue of parameters, and no bytes.
        (b"123456789", "839206e3"),
        (b"", "00000000"),
    ],
)
def test_known_checksums(data: bytes, checksum: str) -> None:
    """`crc32c` gives the checksums of RFC 3720 and of the catalogue of CRC parameters."""
    assert crc32c(data).to_bytes(4, "little").hex() == checksum
