"""The plan that all connections of a proxy share, and their counters."""

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
    """What happened to the connections of a proxy since it was made."""

    accepted: int = 0
    """Connections of clients that the proxy accepted."""
    refused: int = 0
    """Accepted connections that the proxy reset because the server could not be connected to."""
    reset: int = 0
    """Connections that ended by a reset: of a peer, of a toxic, or by `ProxiedConnection.reset`."""
    cut: int = 0
    """
    Connections that the proxy closed: by a toxic, by `ProxiedConnection.close`, or when it was disabled or stopped.
    """
    bytes_upstream: int = 0
    """Bytes that were passed on to the server."""
    bytes_downstream: int = 0
    """Bytes that were passed on to clients."""


@dataclass(frozen=True)
class Plan:
    """
    Settings for connections: where they lead, and their toxics. `over` is called with the number of an ended
    connection.
    """

    upstream: IStreamClientEndpoint
    clock: IReactorTime
    seed: int
    bound: int
    counters: Counters
    toxics: list[Toxic]
    over: Callable[[int], None]
