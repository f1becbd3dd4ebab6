"""Networks: which addresses are in them, and which texts are no network."""

from __future__ import annotations

import ipaddress

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tcpapp.errors import InvalidAddress
from tcpapp.limits.networks import Networks, ip_of, place_of, plain_host

IN = ipaddress.ip_address


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        (IPv4Address("TCP", "192.0.2.1", 4711), "192.0.2.1"),
        (IPv6Address("TCP", "2001:db8::1", 4711), "2001:db8::1"),
        (IPv6Address("TCP", "::ffff:192.0.2.1", 4711), "192.0.2.1"),
        (IPv6Address("TCP", "fe80::1%eth0", 4711), "fe80::1"),
        (UNIXAddress("/run/app.sock"), None),
        (UNIXAddress(None), None),
        (IPv4Address("TCP", "no address", 1), None),
        (None, None),
    ],
)
def test_a_peer_has_one_ip_address_or_none(address, ip):
    """`ip_of` gives the peer's IP address, the IPv4 address of a mapped one, and None for any other address."""
    assert ip_of(address) == (ip and IN(ip))


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.255", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("0.0.0.1", "::1", False),
    ],
)
def test_a_place_is_a_network(one, other, together):
    """With 24 and 64 bits, addresses of one network have one place; IPv4 and IPv6 networks are never the same place."""
    assert (place_of(IN(one), 24, 64) == place_of(IN(other), 24, 64)) is together


def test_no_client_can_choose_the_hash_of_its_place():
    """Places are keys of counters. They are bytes, because integers that differ by 2^61 - 1 have the same hash."""
    one = IN("2001:db8::1")
    other = type(one)(int(one) + 2**61 - 1)
    assert hash(int(one)) == hash(int(other))
    assert hash(place_of(one, 32, 128)) != hash(place_of(other, 32, 128))


def test_a_place_can_be_one_address_or_all_addresses():
    """A place of all bits is one address; a place of 0 bits holds all addresses of its family."""
    assert place_of(IN("192.0.2.1"), 32, 128) == (4, IN("192.0.2.1").packed)
    assert place_of(IN("2001:db8::1"), 32, 128) == (6, IN("2001:db8::1").packed)
    assert place_of(IN("192.0.2.1"), 0, 0) == place_of(IN("198.51.100.1"), 0, 0) == (4, bytes(4))


@pytest.mark.parametrize(
    ("allow", "deny", "admitted", "refused"),
    [
        ([], [], ["192.0.2.1", "::1"], []),
        (["192.0.2.0/24"], [], ["192.0.2.0", "192.0.2.255"], ["192.0.3.0", "::1"]),
        ([], ["192.0.2.0/24"], ["192.0.3.1", "::1"], ["192.0.2.1"]),
        (["192.0.2.0/24"], ["192.0.2.7"], ["192.0.2.6"], ["192.0.2.7"]),
        (["192.0.2.7"], ["192.0.2.0/24"], [], ["192.0.2.7", "192.0.2.6"]),
        (["2001:db8::/32", "127.0.0.1"], [], ["2001:db8:1::1", "127.0.0.1"], ["127.0.0.2", "2001:db9::1"]),
        ([], ["::ffff:192.0.2.1"], ["192.0.2.2", "::1"], ["192.0.2.1"]),
        (["::ffff:192.0.2.0/120"], ["::ffff:c000:207"], ["192.0.2.6"], ["192.0.2.7", "192.0.3.1", "::1"]),
        (["::ffff:0.0.0.0/96"], [], ["192.0.2.7", "127.0.0.1"], ["::1"]),
    ],
)
def test_an_allowed_address_that_is_not_denied_is_admitted(allow, deny, admitted, refused):
    """An address is admitted if a network of `allow` has it, or `allow` is empty, and no network of `deny` has it."""
    networks = Networks(allow, deny)
    assert [ip for ip in admitted + refused if networks.admits(IN(ip))] == admitted
    assert networks.admits(None)
    assert bool(networks) is bool(allow or deny)


def test_a_mapped_address_is_admitted_as_the_ipv4_address_in_it() -> None:
    """Rules for an IPv4 address hold for its mapped IPv6 address, too."""
    assert not Networks(deny=["192.0.2.1"]).admits(IN("::ffff:192.0.2.1"))
    assert Networks(allow=["192.0.2.1"]).admits(IN("::ffff:192.0.2.1"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("192.0.2.1/24", r"did you mean 192\.0\.2\.0/24\?$"),
        ("2001:db8::1/32", r"did you mean 2001:db8::/32\?$"),
        ("192.0.2.0/33", r"or 192\.0\.2\.1$"),
        ("localhost", r"'localhost': takes a network or an address"),
        ("", "takes a network"),
        (None, "None: takes a network"),
        (b"\x7f\0\0\1", "takes a network"),
        (2130706433, "takes a network"),
    ],
)
def test_an_invalid_network_is_refused(text, hint):
    """A value that is no network raises InvalidAddress, which hints at the network that was probably meant."""
    with pytest.raises(InvalidAddress, match=hint):
        Networks(allow=[text])
    with pytest.raises(InvalidAddress, match=hint):
        Networks(deny=[text])


@pytest.mark.parametrize("bits", [(24, 64), (32, 128)])
def test_a_mapped_address_counts_as_the_ipv4_address_in_it(bits: tuple[int, int]) -> None:
    """Connections through a socket for both families count together with connections through an IPv4 socket."""
    mapped = ip_of(IPv6Address("TCP", "::ffff:192.0.2.1", 4711))
    assert mapped is not None
    assert place_of(mapped, *bits) == place_of(IN("192.0.2.1"), *bits)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("no address", "no address"),
    ],
)
def test_a_mapped_host_is_written_as_the_ipv4_address_in_it(host: str, plain: str) -> None:
    """`plain_host` writes a mapped address as its IPv4 address, and leaves every other host unchanged."""
    assert plain_host(host) == plain
