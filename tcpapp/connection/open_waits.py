"""The waits of an open connection that begin again and again: all connections of a factory share one object."""

from __future__ import annotations

from math import inf
from typing import Final

from tcpapp.limits import Timeouts, numbers_of

__all__ = ["NO_WAITS", "SINCE", "OpenWaits", "waits_of"]

_ROWS: Final = {each.name: each.metadata for each in numbers_of(Timeouts)}

SINCE: Final[dict[str, str]] = {name: about["since"] for name, about in _ROWS.items() if about["since"]}
"""The waits that begin again and again on an open connection, and the event from which each is counted."""

OF_SERVERS: Final = frozenset(name for name, about in _ROWS.items() if about["side"] == "server")
"""The waits that only servers have."""


def waits_of(timeouts: Timeouts, *, serves: bool, heartbeats: bool) -> dict[str, float]:
    """
    The seconds of the waits that begin again and again on an open connection, as `OpenWaits` takes them.

    Only a server (`serves`) limits how long its peer is idle. `heartbeats`: the connection sends heartbeats.
    """
    return {
        wait: getattr(timeouts, wait)
        for wait, since in SINCE.items()
        if (serves or wait not in OF_SERVERS) and (heartbeats or since != "heartbeat")
    }


class OpenWaits:
    """
    The waits of an open connection, which all connections of a factory share.

    `tracked` are the waits that begin again and again, with their seconds. The first of them can end after `shortest`
    seconds. `first_message` and `message_timeout` are seconds, too: infinity means that there is no such wait.
    """

    __slots__ = ("first_message", "message_timeout", "shortest", "tracked")

    def __init__(self, message_timeout: float, tracked: dict[str, float], first_message: float = 0.0) -> None:
        self.message_timeout = message_timeout or inf
        self.first_message = first_message or inf
        self.tracked = tuple([(wait, seconds) for wait, seconds in tracked.items() if seconds])
        self.shortest = min([seconds for _, seconds in self.tracked], default=inf)


NO_WAITS: Final = OpenWaits(0.0, {})
"""The waits of a connection that is not open."""
