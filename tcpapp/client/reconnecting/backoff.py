"""
Back-off: which endpoint to try next, and how long to wait before that.

All endpoints are tried, one after the other, before each wait. Waits are random, between zero and a bound that doubles
(AWS's "full jitter"). So thousands of clients that lost their server at the same moment do not all reconnect at the
same moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Generic, TypeVar

from tcpapp.limits import Recovery

__all__ = ["Attempts"]

Endpoint = TypeVar("Endpoint")


class Attempts(Generic[Endpoint]):
    """
    The attempts of a client to connect to one of several `endpoints`: in their order, or with `random_order` in a new
    random order in each round.

    `number` counts the attempts since the last `success`.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], recovery: Recovery, random: Random, *, random_order: bool = False
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._recovery = recovery
        self._random = random
        self._random_order = random_order
        self._round: list[Endpoint] = []
        self._waits = 0
        self.number = 0

    @property
    def round_is_over(self) -> bool:
        """Whether all endpoints have been tried since the last wait."""
        return not self._round

    def begin_round(self) -> None:
        """Begin a round, which tries each endpoint once."""
        self._round = list(self._endpoints)
        if self._random_order:
            self._random.shuffle(self._round)

    def next(self) -> Endpoint:
        """Return the endpoint of the next attempt. There must be one left in this round."""
        self.number += 1
        return self._round.pop(0)

    def wait(self) -> float:
        """Return the seconds to wait before the next round, and double the bound of the next wait."""
        recovery = self._recovery
        bound = min(recovery.longest_wait, recovery.first_wait * 2.0 ** min(self._waits, 60))
        self._waits += 1
        return self._random.uniform(0, bound)

    def success(self) -> None:
        """Note a healthy connection: waits begin small again, and the next round begins with the first endpoint."""
        self._waits = self.number = 0
        self._round = []
