"""Numbered requests through faults and drains: none is lost, handled twice, or answered twice."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from tcpapp.errors import NotConnected

from .ledger import CLIENTS, Ledger, keep

REQUESTS = 20_000
"""Requests that take some seconds, with each fault; `make ledger` makes 100,000."""


@pytest_twisted.ensureDeferred
async def test_the_ledger_is_in_order(global_reactor: Any) -> None:
    """
    Each send and each request fires once, each reply belongs to its request, and each request is handled at most once.
    """
    ledger = await keep(global_reactor, REQUESTS)
    assert ledger.faults() == []
    assert ledger.asked >= REQUESTS
    assert ledger.answered > REQUESTS // 10
    assert ledger.answered < ledger.asked  # faults have happened
    assert len(ledger.drained_with) >= CLIENTS


def test_the_ledger_finds_every_kind_of_error() -> None:
    """The ledger reports every kind of error: lost, doubled and wrong replies, and doubled work."""
    ledger = Ledger(7, 0)
    ledger.asked = 7
    ledger.told = {
        0: [b"r0"],
        1: [b"r1", b"r1"],
        2: [],
        3: [b"r4"],
        4: [b"r4"],
        5: [_failed(NotConnected("gone", None))],
        6: [_failed(ValueError("what?"))],
    }
    ledger.sent = {number: [None] for number in range(6)} | {6: []}
    ledger.handled.update([0, 0, 1, 3, 5])
    ledger.noted.update([0, 0])
    ledger.drained_with = {5}
    assert sorted(ledger.faults()) == sorted(
        [
            "request 1 fired 2 times",
            "request 2 fired 0 times",
            "request 3 was given the reply b'r4'",
            "request 4 was answered by nobody",
            "request 5 was handled before a drain, and its reply was lost",
            "request 6 failed with ValueError('what?')",
            "send 6 fired 0 times",
            "request 0 came 2 times",
            "note 0 came 2 times",
        ]
    )


def _failed(error: Exception) -> Any:
    from twisted.python.failure import Failure

    return Failure(error)
