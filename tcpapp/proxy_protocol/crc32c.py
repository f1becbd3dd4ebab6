"""CRC32c, the checksum of PROXY headers (section 2.2.3), SCTP and iSCSI."""

from __future__ import annotations

__all__ = ["crc32c"]

POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial 0x1EDC6F41 with its bits reversed, because the lowest bit of a byte goes first."""


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_remainder, range(256)))


def crc32c(data: bytes) -> int:
    """Return the CRC32c of `data`, a number of 32 bits. Source: RFC 4960, appendix B; RFC 3720, section 12.1."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
