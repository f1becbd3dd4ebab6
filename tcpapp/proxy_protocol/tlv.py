"""
TLVs, the further values in a header of version 2: type, length, value, one after the other::

    02 00 0B 'example.org'   AUTHORITY, 11 bytes
    04 00 00                 NOOP, 0 bytes

The names are the names of the specification without ``PP2_TYPE_``, ``PP2_SUBTYPE_SSL_`` and ``PP2_CLIENT_``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

from typing_extensions import Self

from tcpapp.errors import InvalidProxyHeader
from tcpapp.framing.base import quoted

__all__ = ["CUSTOM", "EXPERIMENT", "FUTURE", "Ssl", "SslClient", "SslType", "Tlv", "Type"]

LONGEST_ID = 128
"""The most bytes of a UNIQUE_ID (section 2.2.5)."""

CUSTOM = range(0xE0, 0xF0)
"""The types that the protocol leaves to applications: MIN_CUSTOM to MAX_CUSTOM (section 2.2.8)."""

EXPERIMENT = range(0xF0, 0xF8)
"""The types for experiments, not for production: MIN_EXPERIMENT to MAX_EXPERIMENT (section 2.2.8)."""

FUTURE = range(0xF8, 0x100)
"""The types reserved for extensions of the protocol: MIN_FUTURE to MAX_FUTURE (section 2.2.8)."""


class Type(IntEnum):
    """The registered types of a TLV (section 2.2)."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    NETNS = 0x30


class SslType(IntEnum):
    """The registered types of a TLV within SSL (section 2.2.6; the types from 0x26 on were added after 2020)."""

    VERSION = 0x21
    CN = 0x22
    CIPHER = 0x23
    SIG_ALG = 0x24
    KEY_ALG = 0x25
    GROUP = 0x26
    SIG_SCHEME = 0x27
    CLIENT_CERT = 0x28


class SslClient(IntFlag):
    """The flags of an SSL TLV about the client (section 2.2.6). Other bits are kept, and have no meaning yet."""

    SSL = 0x01
    """The client connected over TLS."""
    CERT_CONN = 0x02
    """The client presented a certificate on this connection."""
    CERT_SESS = 0x04
    """The client presented a certificate at least once in the TLS session of this connection."""


class Tlv(NamedTuple):
    """One TLV: its type, 0 to 255, and its value, at most 65535 bytes."""

    type: int
    value: bytes


_FIELDS = struct.Struct(">BH")
_SSL_FIELDS = struct.Struct(">BI")

LEAST = _FIELDS.size
"""The bytes of an empty TLV."""


def pack(tlvs: Iterable[Tlv]) -> bytes:
    """Return the bytes of `tlvs`, one after the other."""
    return b"".join([_FIELDS.pack(kind, len(value)) + value for kind, value in tlvs])


def unpack(block: bytes) -> tuple[Tlv, ...]:
    """Return the TLVs in `block`. Raises `InvalidProxyHeader` if the last TLV does not end where the block ends."""
    found = []
    at = 0
    while at < len(block):
        if len(block) - at < LEAST:
            raise InvalidProxyHeader(f"{quoted(block[at:])} behind the last TLV; a TLV has {LEAST} bytes or more")
        kind, length = _FIELDS.unpack_from(block, at)
        at += LEAST
        if length > len(block) - at:
            raise InvalidProxyHeader(
                f"the TLV {named(kind)} of {length} bytes goes beyond its end; {len(block) - at} bytes are left"
            )
        found.append(Tlv(kind, block[at : at + length]))
        at += length
    return tuple(found)


def first(tlvs: Iterable[Tlv], kind: int) -> bytes | None:
    """Return the value of the first TLV of this type; `None` if there is none."""
    return next((value for each, value in tlvs if each == kind), None)


def text(tlvs: Iterable[Tlv], kind: int, encoding: str = "ascii") -> str | None:
    """
    Return the value as `first` does, decoded; `None` if it is not valid in that encoding.

    Proxies pass on texts of clients, such as a host name or the name in a certificate, without checking them. An
    invalid text must not harm a service that does not use it. So it counts as missing, and raises no error.
    """
    value = first(tlvs, kind)
    try:
        return None if value is None else value.decode(encoding)
    except UnicodeDecodeError:
        return None


def named(kind: int) -> str:
    """Return a type of TLV for an error's text: its name, if it is registered, and its number."""
    known: dict[int, str] = {each: f"{each.name} ({each:#04x})" for each in (*Type, *SslType)}
    return known.get(kind) or f"{kind:#04x}"


def checked(tlvs: Iterable[tuple[int, bytes]]) -> tuple[Tlv, ...]:
    """
    Return `tlvs`, after a check of their forms (sections 2.2.3, 2.2.5 and 2.2.6).

    The specification does not mention repeated types, and they are kept. But two checksums are refused: each covers the
    whole header, so neither can be verified. Raises `InvalidProxyHeader`.
    """
    found = _sized(tlvs)
    if sum(kind == Type.CRC32C for kind, _ in found) > 1:
        raise InvalidProxyHeader("two TLVs CRC32C (0x03); a header has one checksum")
    for kind, value in found:
        if kind == Type.CRC32C and len(value) != 4:
            raise InvalidProxyHeader(f"the TLV CRC32C (0x03) takes 4 bytes, not {quoted(value)}")
        if kind == Type.UNIQUE_ID and len(value) > LONGEST_ID:
            raise InvalidProxyHeader(
                f"the TLV UNIQUE_ID (0x05) takes at most {LONGEST_ID} bytes, not {len(value)}: {quoted(value)}"
            )
        if kind == Type.SSL:
            Ssl.from_bytes(value)
    return found


def _sized(tlvs: Iterable[tuple[int, bytes]]) -> tuple[Tlv, ...]:
    found = tuple(Tlv(kind, value) for kind, value in tlvs)
    for kind, value in found:
        if not isinstance(kind, int) or not 0 <= kind <= 0xFF:
            raise InvalidProxyHeader(f"a TLV of type {kind!r}: takes a number from 0 to 255")
        if not isinstance(value, bytes) or len(value) > 0xFFFF:
            what = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
            raise InvalidProxyHeader(f"the TLV {named(kind)} takes at most 65535 bytes, not {what}")
    return found


@dataclass(frozen=True)
class Ssl:
    """
    The value of an SSL TLV: the client's TLS with the proxy (section 2.2.6).

    - `client`: whether the client used TLS, and presented a certificate.
    - `verify`: 0 if the client's certificate was verified. A proxy can also send 0 if there was no certificate (HAProxy
      does), so use `verified`.
    - `tlvs`: the TLVs within, in their order. The properties return the first of each type; `None` if there is none, or
      if its text is invalid.

    ``Tlv(Type.SSL, bytes(ssl))`` is the TLV. Raises `InvalidProxyHeader`, the caller's fault.
    """

    client: SslClient
    verify: int
    tlvs: tuple[Tlv, ...] = ()

    def __post_init__(self) -> None:
        for name, value, most in (("client", self.client, 0xFF), ("verify", self.verify, 0xFFFFFFFF)):
            if not 0 <= value <= most:
                raise InvalidProxyHeader(f"{name} {value} of an SSL TLV: takes a number from 0 to {most}")
        object.__setattr__(self, "tlvs", _sized(self.tlvs))

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """Parse the value of an SSL TLV. Raises `InvalidProxyHeader`."""
        if len(value) < _SSL_FIELDS.size:
            raise InvalidProxyHeader(f"the TLV SSL (0x20) takes {_SSL_FIELDS.size} bytes or more, not {quoted(value)}")
        client, verify = _SSL_FIELDS.unpack_from(value)
        return cls(SslClient(client), verify, unpack(value[_SSL_FIELDS.size :]))

    def __bytes__(self) -> bytes:
        return _SSL_FIELDS.pack(self.client, self.verify) + pack(self.tlvs)

    @property
    def verified(self) -> bool:
        """
        Whether the client presented a certificate, on this connection or in its session, and the proxy verified it.
        """
        return self.verify == 0 and bool(self.client & (SslClient.CERT_CONN | SslClient.CERT_SESS))

    @property
    def version(self) -> str | None:
        """The version of TLS, as in ``TLSv1.3``."""
        return text(self.tlvs, SslType.VERSION)

    @property
    def cn(self) -> str | None:
        """The Common Name in the client's certificate."""
        return text(self.tlvs, SslType.CN, "utf-8")

    @property
    def cipher(self) -> str | None:
        """The cipher, as in ``ECDHE-RSA-AES128-GCM-SHA256``."""
        return text(self.tlvs, SslType.CIPHER)

    @property
    def sig_alg(self) -> str | None:
        """The signature algorithm of the proxy's certificate, as in ``RSA-SHA256``."""
        return text(self.tlvs, SslType.SIG_ALG)

    @property
    def key_alg(self) -> str | None:
        """The key algorithm of the proxy's certificate, as in ``RSA2048``."""
        return text(self.tlvs, SslType.KEY_ALG)

    @property
    def group(self) -> str | None:
        """The group of the key exchange, as in ``secp256r1``."""
        return text(self.tlvs, SslType.GROUP)

    @property
    def sig_scheme(self) -> str | None:
        """The signature scheme of the proxy's handshake, as in ``rsa_pss_rsae_sha256``."""
        return text(self.tlvs, SslType.SIG_SCHEME)

    @property
    def client_cert(self) -> bytes | None:
        """The client's certificate, in DER, unchecked."""
        return first(self.tlvs, SslType.CLIENT_CERT)
