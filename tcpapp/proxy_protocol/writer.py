"""`Header` → bytes. A proxy sends them before all other bytes, in one write (section 2)."""

from __future__ import annotations

from dataclasses import replace

from tcpapp.proxy_protocol import version1, version2
from tcpapp.proxy_protocol.header import Header
from tcpapp.proxy_protocol.tlv import Tlv, Type

__all__ = ["frame"]


def frame(header: Header, *, checksum: bool = False) -> bytes:
    """
    Return the bytes of `header`, in its version.

    `checksum` adds a CRC32C after the TLVs, if there is none among them (section 2.2.3). An existing checksum is set to
    the right value, so a header that was read and changed can be written.

    Raises `InvalidProxyHeader`, the caller's fault, if `checksum` is asked for and the header cannot have TLVs, or has
    no room for one more. Every other `Header` can be written.
    """
    if checksum and header.crc32c is None:
        header = replace(header, tlvs=(*header.tlvs, Tlv(Type.CRC32C, bytes(4))))
    return version1.write(header) if header.version == 1 else version2.write(header)
