"""The parts that all connections of a proxy share, and the counters over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

    from tcpapp.testing.faultproxy.toxic import Toxic

__all__ = ["Counters", "Plan"]


@dataclass
class Counters:
    """What a proxy has done since it was made."""

    accepted: int = 0
    """Connections that clients made to it."""
    refused: int = 0
    """How many of these it reset because the server could not be connected."""
    reset: int = 0
    """Connections that ended in a reset: a peer's, a toxic's, or by `ProxiedConnection.reset`."""
    cut: int = 0
    """
    Connections that the proxy ended: by a toxic's close, by `ProxiedConnection.close`, or when it was disabled or
    stopped.
    """
    bytes_upstream: int = 0
    """Bytes that were passed on to the server."""
    bytes_downstream: int = 0
    """Bytes that were passed on to clients."""


@dataclass(frozen=True)
class Plan:
    """Where connections lead, what happens to them on the way, and who is told the number of one that is `over`."""

    upstream: IStreamClientEndpoint
    clock: IReactorTime
    seed: int
    bound: int
    counters: Counters
    toxics: list[Toxic]
    over: Callable[[int], None]
