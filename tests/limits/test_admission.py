"""Admission: which clients are accepted, and why other clients are rejected."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tcpapp import Limits
from tcpapp.limits.admission import Admission, Refusal
from tcpapp.limits.networks import Networks


def at(host):
    """Return the address of a client at this host."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 4711)


def come(admission, *hosts):
    """Let a client of each host ask, and admit it if there is room; return the rules that rejected the others."""
    refused = []
    for number, host in enumerate(hosts):
        refusal = admission.check(at(host))
        if refusal is None:
            admission.admit((host, number), at(host))
        else:
            refused.append(refusal.rule)
    return refused


def test_clients_are_admitted_up_to_the_limit():
    """With max_connections=2, a third client is rejected and counted; there is room again when a client has left."""
    admission = Admission(Limits(max_connections=2), Networks())
    assert come(admission, "192.0.2.1", "192.0.2.2", "192.0.2.3") == ["max-connections"]
    assert len(admission) == 2
    assert list(admission.admitted) == [("192.0.2.1", 0), ("192.0.2.2", 1)]
    admission.release(("192.0.2.1", 0))
    assert admission.check(at("192.0.2.3")) is None
    assert admission.refused == {"max-connections": 1}


def test_an_address_has_at_most_max_per_address_clients():
    """`max_per_address` holds for IPv4 and IPv6; a mapped IPv4 address counts as this IPv4 address."""
    admission = Admission(Limits(max_per_address=2), Networks())
    hosts = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::1", "2001:db8::1"]
    assert come(admission, *hosts) == ["max-per-address"] * 2
    assert len(admission) == 5


def test_a_network_has_at_most_max_per_network_clients():
    """Addresses that share the leading bits of `network_ipv4` or `network_ipv6` count as one network."""
    limits = Limits(max_per_network=2, network_ipv4=30, network_ipv6=32)
    hosts = [
        "192.0.2.0",
        "192.0.2.3",
        "192.0.2.2",
        "192.0.2.4",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "2001:db8::2",
        "::1",
    ]
    assert come(Admission(limits, Networks()), *hosts) == ["max-per-network"] * 2


def test_a_client_without_an_address_counts_for_max_connections_only():
    """A client on a UNIX socket counts for `max_connections`, but not for an address or a network."""
    admission = Admission(Limits(max_per_address=1, max_per_network=1, max_connections=3), Networks())
    for number in range(3):
        assert admission.check(UNIXAddress(None)) is None
        admission.admit(number, UNIXAddress(None))
    assert admission.check(None) == Refusal("max-connections", 3, 3)


def test_a_client_that_leaves_is_forgotten():
    """Admission keeps nothing of clients that have left: a flood of addresses takes no memory."""
    admission = Admission(Limits(max_per_address=1), Networks())
    for number in range(100):
        host = f"198.51.100.{number}"
        admission.admit(number, at(host))
        admission.release(number)
        admission.release(number)
    assert (len(admission), len(admission._addresses), len(admission._networks)) == (0, 0, 0)


def test_a_denied_network_is_denied_first():
    """A client of a denied network is rejected as "network-denied", although `max_connections` is reached, too."""
    admission = Admission(Limits(max_connections=1), Networks(deny=["192.0.2.0/24"]))
    assert come(admission, "198.51.100.1", "192.0.2.1", "198.51.100.1") == ["network-denied", "max-connections"]


def test_limits_and_networks_change_while_it_runs():
    """New limits and networks hold for later clients; an admitted client frees its old place when it leaves."""
    admission = Admission(Limits(max_per_network=2), Networks())
    assert come(admission, "192.0.2.1", "192.0.2.2") == []
    admission.limits = Limits(max_per_network=2, network_ipv4=16)
    admission.networks = Networks(deny=["203.0.113.0/24"])
    assert come(admission, "192.0.3.1", "203.0.113.1") == ["network-denied"]
    for client in list(admission.admitted):
        admission.release(client)
    assert len(admission._networks) == 0


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (Refusal("max-connections", 9, 9), "9 connections are open, which is the limit (max_connections)"),
        (
            Refusal("max-per-address", 2, 2),
            "2 connections from its address are open, which is the limit (max_per_address)",
        ),
        (
            Refusal("max-per-network", 2, 2),
            "2 connections from its network are open, which is the limit (max_per_network)",
        ),
        (Refusal("network-denied"), "its network is not allowed"),
    ],
)
def test_a_refusal_says_why(refusal, text):
    """The text of a refusal has the number of connections and the limit, or says that the network is denied."""
    assert str(refusal) == text
