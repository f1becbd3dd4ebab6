"""A limit that comes near is reported once, in all and by place, and again once it was left behind."""

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


def test_it_is_told_at_four_fifths_and_not_again() -> None:
    """Until seven tenths were reached on the way down; clients without an address count in all."""
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
def test_a_place_has_its_name(limits: dict[str, int], address: Any, told: tuple[Any, ...]) -> None:
    """Each address, and each network; and each is left behind by itself."""
    rig = Rig(**limits)
    those = rig.come(4, address)
    assert rig.told == [told]
    rig.go(those)
    rig.come(4, address)
    assert rig.told == [told] * 2
    rig.come(3, type(address)("TCP", "::1" if ":" in address.host else "10.0.0.1", 1))
    assert len(rig.told) == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_there_is_nothing_near_to_full_below_five(limit: int) -> None:
    """Each client would be reported; the rejected one is."""
    rig = Rig(max_connections=limit)
    rig.come(limit)
    assert rig.told == []


def test_nothing_is_remembered_of_closed_connections() -> None:
    """However many places come near."""
    rig = Rig(max_connections=1000, max_per_address=5)
    for host in range(100):
        rig.go(rig.come(4, IPv4Address("TCP", f"192.0.2.{host}", 1)))
    assert rig.admission._thresholds is not None
    assert (len(rig.told), rig.admission._thresholds._near) == (100, set())


def test_bits_may_change_while_they_are_there() -> None:
    """An earlier client is counted at its place."""
    rig = Rig(max_per_network=5)
    those = rig.come(4, IPv4Address("TCP", "192.0.2.7", 1))
    rig.admission.limits = Limits(max_per_network=5, network_ipv4=8)
    rig.go(those)
    assert len(rig.admission) == 0


def test_a_server_tells_its_telemetry() -> None:
    """A function that is given to it is the callback."""
    events: list[Any] = []
    factory = MessageServerFactory(echo, limits=Limits(max_connections=5), telemetry=Telemetry(events.append))
    for _ in range(4):
        joined(factory)
    assert [each for each in events if isinstance(each, LimitNear)] == [LimitNear("max_connections", 4, 5)]
