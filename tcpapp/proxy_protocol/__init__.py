r"""
The PROXY protocol, without I/O: it tells the true peer of a connection that a proxy has opened.

A proxy sends a header before the first byte of the connection. Version 1 is a line of text, version 2 is binary::

    PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n

    0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A   the signature
    21                                    version 2, command PROXY
    11                                    TCP over IPv4
    00 0C                                 the length of the following bytes
    C0 A8 00 01  C0 A8 00 0B              the addresses of source and destination
    DC 04  01 BB                          the ports of source and destination

`HeaderReader` reads a header, however it is cut. `frame` writes one. A `Header` is its content. The modules::

    reader, writer      bytes → `Header` → bytes
    version1, version2  the two formats
    header              `Header`, and its parts
    tlv                 further values of version 2: ALPN, the requested host, TLS, …
    crc32c              the checksum of version 2

A `HeaderReader` is for connections that must begin with a header. It does not detect whether there is a header:
otherwise a client could choose its own address, and the specification forbids it (section 2). The specification also
asks for access filtering, so that only trusted proxies can send headers. The caller of the reader must do this, and
must limit the time for a header.

Source: The PROXY protocol, versions 1 & 2 (``doc/proxy-protocol.txt`` of HAProxy), of 2020-03-05. The sections named
here are from that document. The sub-types of SSL from 0x26 on are from later revisions.

Imports `errors` and `framing`. New here: each version of the header is a module.
"""

from __future__ import annotations

from tcpapp.proxy_protocol.header import Address, Command, Family, Header, InetAddress
from tcpapp.proxy_protocol.reader import DEFAULT_MAX, HeaderReader
from tcpapp.proxy_protocol.tlv import CUSTOM, EXPERIMENT, FUTURE, Ssl, SslClient, SslType, Tlv, Type
from tcpapp.proxy_protocol.writer import frame

__all__ = [
    "CUSTOM",
    "DEFAULT_MAX",
    "EXPERIMENT",
    "FUTURE",
    "Address",
    "Command",
    "Family",
    "Header",
    "HeaderReader",
    "InetAddress",
    "Ssl",
    "SslClient",
    "SslType",
    "Tlv",
    "Type",
    "frame",
]
