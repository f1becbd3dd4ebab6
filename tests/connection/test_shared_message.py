"""A message that many connections send: when the memory budget counts it, and which connections end for it."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection.outcomes import MEMORY_SHORT
from tcpapp.connection.shared_message import SharedMessage
from tcpapp.limits.memory_budget import MemoryBudget


class Rig:
    """A message of 100 bytes, in a budget, and the connections that send it."""

    is_handling = False

    def __init__(self, limit: int = 1000) -> None:
        self.budget = MemoryBudget(limit, lambda total, limit: None)
        self.shared = SharedMessage(b"x" * 98, b"x" * 100, self.budget)
        self.told: list[Any] = []

    def settle(self, outcome: int, detail: Any = None) -> None:
        self.told.append((outcome, detail.rule, str(detail)))
        self.shared.leave(self)


def test_it_counts_while_it_waits_anywhere() -> None:
    """The first outbox counts, and the others do not; the last one that leaves frees it."""
    rig, other = Rig(), Rig()
    for each in (rig, other):
        rig.shared.wait(each)
        assert (rig.budget.total, rig.shared.held_bytes) == (100, 100)
    assert rig.shared.connections == 2
    rig.shared.leave(other)
    rig.shared.leave(other)
    assert rig.budget.total == 100
    rig.shared.leave(rig)
    assert (rig.budget.total, rig.shared.held_bytes, rig.shared.connections) == (0, 0, 1)


@pytest.mark.parametrize("waits_longer", [False, True])
def test_it_counts_while_it_is_gathered(waits_longer: bool) -> None:
    """It counts once while it waits for a turn in some outboxes, and for the peer in others."""
    rig = Rig()
    if waits_longer:
        rig.shared.wait(rig)
    rig.shared.begin_gathering()
    assert rig.budget.total == 100
    if not waits_longer:
        rig.shared.wait(rig)
        rig.shared.leave(rig)
    assert rig.budget.total == 100
    rig.shared.take_turn()
    assert rig.budget.total == 100 * waits_longer
    rig.shared.leave(rig)
    assert rig.budget.total == 0


def test_the_connections_that_it_waits_for_end_where_memory_is_short() -> None:
    """Reading does not concern it; where it is the largest part, its connections give up all of it."""
    rig = Rig(limit=50)
    rig.shared.wait(rig)
    [(outcome, rule, text)] = rig.told
    assert (outcome, rule, rig.budget.total, rig.budget.shed) == (MEMORY_SHORT, "memory-short", 0, 1)
    assert "100 of them for a message that this one and 0 others have not taken" in text
    rig.shared.resume_reading()
