"""The bits of an outcome: what the parts of a connection report, and what the connection does about each."""

from __future__ import annotations

from tcpapp.connection import outcomes
from tcpapp.connection.protocol import STEPS

BITS = {name: getattr(outcomes, name) for name in outcomes.__all__ if name not in ("NOTHING", "Settler")}


def test_each_is_a_bit_of_its_own() -> None:
    """So that one report can hold several."""
    assert sorted(BITS.values()) == [1 << place for place in range(len(BITS))]


def test_each_is_settled_in_the_order_in_which_they_stand() -> None:
    """By one step."""
    assert [bit for bit, _ in STEPS] == sorted(BITS.values())
