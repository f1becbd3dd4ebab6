"""
Admission: whether a client is accepted, by its network, and by the number of connections in total and from one place.

The server asks it once for each client, before any work for the client. It does no I/O. The server decides what happens
to a rejected or waiting client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from tcpapp.limits.limits import Limits
from tcpapp.limits.networks import Networks, Place, ip_of, name_of, places_of
from tcpapp.limits.thresholds import NEAR, Thresholds

__all__ = ["Admission", "Refusal"]


@dataclass(frozen=True)
class Refusal:
    """
    Why a client is rejected: the `rule`, and the `value` that has reached the `limit`, if the rule has a limit.

    `detail` is a text for people, for rules that count nothing.
    """

    rule: str
    value: float | None = None
    limit: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        if self.detail:
            return self.detail
        if self.limit is None:
            return "its network is not allowed"
        return (
            f"{self.value} connections {COUNTED[self.rule]}are open, which is the limit ({self.rule.replace('-', '_')})"
        )


COUNTED = {
    "max-connections": "",
    "max-per-address": "from its address ",
    "max-per-network": "from its network ",
}
"""The words that say which connections each rule counts."""

Client = TypeVar("Client", bound=Hashable)


class Admission(Generic[Client]):
    """
    Counts the accepted clients, and says for each new client whether it can be accepted.

    `limits` and `networks` can be replaced at any time; the new ones hold for later clients. `refused` counts the
    rejected clients by rule. `alarm` gets each change of the counts, and raises an alarm when a limit is near.

    An accepted client is counted from `admit` to `release`. A client without an IP address (over a UNIX socket) counts
    only in the total. Only accepted clients are remembered.
    """

    def __init__(self, limits: Limits, networks: Networks, alarm: Thresholds | None = None) -> None:
        self.limits = limits
        self._thresholds = alarm
        self.networks = networks
        self.refused: Counter[str] = Counter()
        self._addresses: dict[Place, int] = {}
        self._networks: dict[Place, int] = {}
        self._admitted: dict[Client, tuple[Place, Place] | None] = {}

    def __len__(self) -> int:
        """Return how many clients are accepted now."""
        return len(self._admitted)

    @property
    def admitted(self) -> AbstractSet[Client]:
        """The accepted clients, in the order in which they came."""
        return self._admitted.keys()

    def check(self, address: Any) -> Refusal | None:
        """
        Return why a client from this address must be rejected; `None` if it can be accepted. A rejection is counted.
        """
        refusal = self._refusal(address)
        if refusal is not None:
            self.refused[refusal.rule] += 1
        return refusal

    def refuse(self, refusal: Refusal) -> Refusal:
        """Count a client that is rejected for a reason that `check` does not know; returns the `refusal`."""
        self.refused[refusal.rule] += 1
        return refusal

    def admit(self, client: Client, address: Any) -> None:
        """Count an accepted `client` from this address."""
        places = self._places(address)
        self._admitted[client] = places
        if places is not None:
            one, all_near = places
            self._addresses[one] = self._addresses.get(one, 0) + 1
            self._networks[all_near] = self._networks.get(all_near, 0) + 1
        if self._thresholds is not None and self._is_near(places):
            self._note_increase(self._thresholds, address, places)

    def _is_near(self, places: tuple[Place, Place] | None) -> bool:
        """Whether a limit can be near: most clients come when none is. A limit of 0 is no limit."""
        limits = self.limits
        if len(self._admitted) >= limits.max_connections * NEAR:
            return True
        if places is None:
            return False
        one, all_near = limits.max_per_address * NEAR, limits.max_per_network * NEAR
        return 0 < one <= self._addresses[places[0]] or 0 < all_near <= self._networks[places[1]]

    def release(self, client: Client) -> None:
        """Count `client` no longer. Does nothing for a client that was not accepted."""
        places = self._admitted.pop(client, None)
        if places is not None:
            _subtract(self._addresses, places[0])
            _subtract(self._networks, places[1])
        if self._thresholds:
            self._note_decrease(self._thresholds, places)

    def _note_increase(self, alarm: Thresholds, address: Any, places: tuple[Place, Place] | None) -> None:
        limits, ip = self.limits, ip_of(address)
        alarm.increased("max_connections", len(self._admitted), limits.max_connections)
        if places is not None and ip is not None:
            one, all_near = places
            bits = limits.network_ipv4 if ip.version == 4 else limits.network_ipv6
            count, most = self._addresses[one], limits.max_per_address
            alarm.increased("max_per_address", count, most, one, partial(str, ip))
            count, most = self._networks[all_near], limits.max_per_network
            alarm.increased("max_per_network", count, most, all_near, partial(name_of, ip, bits))

    def _note_decrease(self, alarm: Thresholds, places: tuple[Place, Place] | None) -> None:
        limits = self.limits
        alarm.decreased("max_connections", len(self._admitted), limits.max_connections)
        if places is not None:
            one, all_near = places
            alarm.decreased("max_per_address", self._addresses.get(one, 0), limits.max_per_address, one)
            alarm.decreased("max_per_network", self._networks.get(all_near, 0), limits.max_per_network, all_near)

    def _places(self, address: Any) -> tuple[Place, Place] | None:
        host = getattr(address, "host", None)
        return places_of(host, self.limits.network_ipv4, self.limits.network_ipv6) if type(host) is str else None

    def _refusal(self, address: Any) -> Refusal | None:
        limits = self.limits
        if self.networks and not self.networks.admits(ip_of(address)):
            return Refusal("network-denied")
        if len(self._admitted) >= limits.max_connections:
            return Refusal("max-connections", len(self._admitted), limits.max_connections)
        return self._over_place_limits(address)

    def _over_place_limits(self, address: Any) -> Refusal | None:
        limits = self.limits
        if not limits.max_per_address and not limits.max_per_network:
            return None
        places = self._places(address)
        if places is None:
            return None
        from_address, from_network = self._addresses.get(places[0], 0), self._networks.get(places[1], 0)
        if 0 < limits.max_per_address <= from_address:
            return Refusal("max-per-address", from_address, limits.max_per_address)
        if 0 < limits.max_per_network <= from_network:
            return Refusal("max-per-network", from_network, limits.max_per_network)
        return None


def _subtract(counts: dict[Place, int], place: Place) -> None:
    """Count one client less at this place. Only places with clients are remembered."""
    left = counts[place] - 1
    if left:
        counts[place] = left
    else:
        del counts[place]
