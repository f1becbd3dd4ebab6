"""TLVs: the values that a header has beside the addresses."""

from __future__ import annotations

import pytest
from hypothesis import given

from tcpapp.errors import InvalidProxyHeader
from tcpapp.proxy_protocol import CUSTOM, EXPERIMENT, FUTURE, HeaderReader, Ssl, SslClient, SslType, Tlv, Type
from tests.proxy_protocol.cases import GOOD, SSL, VPCE, carrying
from tests.proxy_protocol.strategies import ssls

NAMES = ("alpn", "authority", "crc32c", "unique_id", "ssl", "netns")


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("alpn", b"h2", b"h2"),
        ("authority", b"example.org", "example.org"),
        ("authority", "bücher.example".encode(), "bücher.example"),
        ("crc32c", bytes.fromhex("1C1AE9C6"), 0x1C1AE9C6),
        ("unique_id", b"\0\xff", b"\0\xff"),
        ("unique_id", b"", b""),
        ("ssl", bytes(5), Ssl(SslClient(0), 0)),
        ("netns", b"blue", "blue"),
    ],
)
def test_each_type_has_its_value(name: str, value: bytes, found: object) -> None:
    """The attribute of each type has the value of its TLV, and all other attributes are None."""
    header = carrying((Type[name.upper()], value))
    assert getattr(header, name) == found
    assert [each for each in NAMES if getattr(header, each) is not None] == [name]


def test_the_numbers_of_the_types() -> None:
    """`Type` has the types that section 2.2 registers, and `SslType` the types within SSL."""
    assert {each.name: int(each) for each in Type} == {
        "ALPN": 0x01,
        "AUTHORITY": 0x02,
        "CRC32C": 0x03,
        "NOOP": 0x04,
        "UNIQUE_ID": 0x05,
        "SSL": 0x20,
        "NETNS": 0x30,
    }
    assert [each.name for each in sorted(SslType)] == [
        "VERSION", "CN", "CIPHER", "SIG_ALG", "KEY_ALG", "GROUP", "SIG_SCHEME", "CLIENT_CERT",
    ]  # fmt: skip
    assert sorted(SslType) == list(range(0x21, 0x29))


def test_the_first_of_a_type_is_its_value() -> None:
    """The attribute of a type has the value of the first TLV; `values` has all of them in their order."""
    header = carrying((2, b"a.example"), (4, b""), (2, b"b.example"))
    assert header.authority == "a.example"
    assert header.values(Type.AUTHORITY) == (b"a.example", b"b.example")
    assert header.values(Type.ALPN) == ()


def test_the_ranges_of_types() -> None:
    """Section 2.2.8 reserves three ranges of types, which do not overlap and end at 0xff."""
    header = GOOD["types of every range"][1]
    assert [each.type for each in header.custom] == [0xE0, 0xEF]
    assert [each.type for each in header.experiment] == [0xF0, 0xF7]
    assert [each.type for each in header.future] == [0xF8, 0xFF]
    assert [*CUSTOM, *EXPERIMENT, *FUTURE] == list(range(0xE0, 0x100))


def test_an_applications_own_type() -> None:
    """The TLV of an application's own type, such as a load balancer's endpoint identifier, is in `custom`."""
    header = HeaderReader().receive(GOOD["CRC32C of AWS"][0])
    assert header.custom == (Tlv(0xEA, VPCE),)
    assert header.crc32c == 0xE8D6892D


def test_ssl_has_its_own_types() -> None:
    """The TLV SSL has the client's flags, the result of the verification, and TLVs of its own."""
    ssl = carrying((0x20, SSL)).ssl
    assert ssl.client == SslClient.SSL | SslClient.CERT_CONN | SslClient.CERT_SESS
    assert (ssl.verify, ssl.verified) == (0, True)
    assert (ssl.version, ssl.cn, ssl.cipher) == ("TLSv1.3", "Zoë", "ECDHE-RSA-AES128-GCM-SHA256")
    assert (ssl.sig_alg, ssl.key_alg, ssl.group, ssl.sig_scheme, ssl.client_cert) == (None,) * 5


def test_every_type_of_ssl_has_its_value() -> None:
    """The client's certificate is bytes, and every other value is text; the first TLV of a type counts."""
    tlvs = tuple(Tlv(kind, kind.name.encode()) for kind in SslType)
    ssl = Ssl(SslClient.SSL, 1, (*tlvs, Tlv(SslType.CN, b"another")))
    found = {kind.name: getattr(ssl, kind.name.lower()) for kind in SslType}
    assert found.pop("CLIENT_CERT") == b"CLIENT_CERT"
    assert found == {name: name for name in found}


@pytest.mark.parametrize(
    ("client", "verify", "verified"),
    [
        (SslClient.SSL | SslClient.CERT_CONN, 0, True),
        (SslClient.SSL | SslClient.CERT_SESS, 0, True),
        (SslClient.SSL | SslClient.CERT_CONN, 19, False),
        (SslClient.SSL, 0, False),
        (SslClient(0), 0, False),
        (SslClient(0xF8), 0, False),
    ],
)
def test_a_client_is_verified_by_a_certificate(client: SslClient, verify: int, verified: bool) -> None:
    """A client without a certificate is not verified, even if `verify` is 0."""
    assert Ssl(client, verify).verified is verified


@pytest.mark.parametrize(
    ("client", "verify", "words"),
    [
        (SslClient(0x100), 0, "client 256 of an SSL TLV: takes a number from 0 to 255"),
        (SslClient(0), 1 << 32, "verify 4294967296 of an SSL TLV: takes a number from 0 to 4294967295"),
        (SslClient(0), -1, "verify -1 of an SSL TLV: takes a number from 0 to 4294967295"),
    ],
)
def test_an_invalid_ssl_cannot_be_made(client: SslClient, verify: int, words: str) -> None:
    """A number out of its range raises `InvalidProxyHeader`."""
    with pytest.raises(InvalidProxyHeader, match=words.replace("(", r"\(")):
        Ssl(client, verify)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Type.AUTHORITY, b"\xff"),
        (Type.AUTHORITY, b"\xed\xa0\x80"),
        (Type.NETNS, b"bl\xc3\xa4u"),
        (SslType.VERSION, b"\xff"),
        (SslType.CN, b"Zo\xeb"),
        (SslType.CIPHER, "Zoë".encode()),
        (SslType.SIG_ALG, b"\x80"),
        (SslType.KEY_ALG, b"\x80"),
        (SslType.GROUP, b"\x80"),
        (SslType.SIG_SCHEME, b"\x80"),
    ],
)
def test_text_in_a_wrong_encoding_has_no_value(kind: Type | SslType, value: bytes) -> None:
    """The attribute of a text in a wrong encoding is None, even if a second TLV follows; the bytes are kept."""
    tlvs = (Tlv(kind, value), Tlv(kind, b"second"))
    holder = carrying(*tlvs) if isinstance(kind, Type) else Ssl(SslClient.SSL, 0, tlvs)
    assert getattr(holder, kind.name.lower()) is None
    assert holder.tlvs == tlvs


@given(ssls)
def test_ssl_is_read_as_it_was_written(ssl: Ssl) -> None:
    """Any `Ssl` is equal after it was written to bytes, or to a TLV, and read again."""
    assert Ssl.from_bytes(bytes(ssl)) == ssl
    assert carrying((Type.SSL, bytes(ssl))).ssl == ssl
