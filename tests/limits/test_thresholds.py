"""A limit that is nearly reached is reported once, for the server and for each place."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tcpapp import Limits, MessageServerFactory, Telemetry
from tcpapp.apps import echo
from tcpapp.limits.admission import Admission
from tcpapp.limits.networks import Networks
from tcpapp.limits.thresholds import Thresholds
from tcpapp.telemetry import LimitNear
from tests.peers import joined


class Rig:
    """An admission with an alarm, the reported alarms, and clients that come from an address and leave again."""

    def __init__(self, **limits: int) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.admission: Admission[int] = Admission(Limits(**limits), Networks(), Thresholds(self._notify))
        self.count = 0

    def _notify(self, name: str, value: int, limit: int, where: str = "") -> None:
        self.told.append((name, value, limit, where))

    def come(self, count: int, address: Any = None) -> list[int]:
        those = list(range(self.count, self.count + count))
        self.count += count
        for each in those:
            self.admission.admit(each, address)
        return those

    def go(self, those: list[int]) -> None:
        for each in those:
            self.admission.release(each)


def test_a_near_limit_is_reported_once_at_four_fifths() -> None:
    """The alarm comes at four fifths of the limit, and comes again only after the number fell to seven tenths."""
    rig = Rig(max_connections=10)
    rig.come(7, UNIXAddress(None))
    assert rig.told == []
    last = rig.come(2, UNIXAddress(None))
    assert rig.told == [("max_connections", 8, 10, "")]
    rig.go(last[:1])
    rig.go(rig.come(1))
    assert len(rig.told) == 1
    rig.go(last)
    rig.come(1)
    assert rig.told == [("max_connections", 8, 10, "")] * 2


@pytest.mark.parametrize(
    ("limits", "address", "told"),
    [
        ({"max_per_address": 5}, IPv4Address("TCP", "192.0.2.7", 1), ("max_per_address", 4, 5, "192.0.2.7")),
        ({"max_per_network": 5}, IPv4Address("TCP", "192.0.2.7", 1), ("max_per_network", 4, 5, "192.0.2.0/24")),
        ({"max_per_network": 5}, IPv6Address("TCP", "2001:db8::7", 1), ("max_per_network", 4, 5, "2001:db8::/64")),
    ],
)
def test_an_alarm_names_the_address_or_the_network(limits: dict[str, int], address: Any, told: tuple[Any, ...]) -> None:
    """Each address and each network has its own alarm with its name, again after its clients have left."""
    rig = Rig(**limits)
    those = rig.come(4, address)
    assert rig.told == [told]
    rig.go(those)
    rig.come(4, address)
    assert rig.told == [told] * 2
    rig.come(3, type(address)("TCP", "::1" if ":" in address.host else "10.0.0.1", 1))
    assert len(rig.told) == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_limit_below_five_has_no_alarm(limit: int) -> None:
    """A limit below 5 has no alarm: it would come for nearly each client, and a rejected client is reported anyway."""
    rig = Rig(max_connections=limit)
    rig.come(limit)
    assert rig.told == []


def test_nothing_is_remembered_of_closed_connections() -> None:
    """When all clients of a hundred addresses have left, nothing is remembered of these addresses."""
    rig = Rig(max_connections=1000, max_per_address=5)
    for host in range(100):
        rig.go(rig.come(4, IPv4Address("TCP", f"192.0.2.{host}", 1)))
    assert rig.admission._thresholds is not None
    assert (len(rig.told), rig.admission._thresholds._near) == (100, set())


def test_the_bits_of_a_network_can_change_while_clients_are_admitted() -> None:
    """A client that was admitted before the bits changed can be released."""
    rig = Rig(max_per_network=5)
    those = rig.come(4, IPv4Address("TCP", "192.0.2.7", 1))
    rig.admission.limits = Limits(max_per_network=5, network_ipv4=8)
    rig.go(those)
    assert len(rig.admission) == 0


def test_a_server_reports_a_near_limit_to_its_telemetry() -> None:
    """When four of at most five connections are open, the listener of the telemetry gets one `LimitNear`."""
    events: list[Any] = []
    factory = MessageServerFactory(echo, limits=Limits(max_connections=5), telemetry=Telemetry(events.append))
    for _ in range(4):
        joined(factory)
    assert [each for each in events if isinstance(each, LimitNear)] == [LimitNear("max_connections", 4, 5)]
