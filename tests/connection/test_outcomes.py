"""The bits of an outcome: what the parts of a connection report, and what the connection does about each."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.connection import outcomes
from tcpapp.connection.protocol import STEPS
from tests.peers import Peer

BITS = {name: getattr(outcomes, name) for name in outcomes.__all__ if name not in ("NOTHING", "Settler")}


def test_each_outcome_is_a_bit_of_its_own() -> None:
    """Each outcome has its own bit, so that one report can hold several outcomes."""
    assert sorted(BITS.values()) == [1 << place for place in range(len(BITS))]


def test_each_outcome_has_a_step_of_its_own() -> None:
    """`STEPS` has one step for each bit, in the order of the bits."""
    assert list(STEPS) == sorted(BITS.values())
    assert len(set(STEPS.values())) == len(STEPS)


def test_the_bits_of_one_outcome_are_settled_in_their_order() -> None:
    """`settle()` runs the step of each bit once, with the same detail. Without bits no step runs."""
    done: list[tuple[int, Any]] = []
    peer = Peer()
    with pytest.MonkeyPatch.context() as patch:
        for bit in STEPS:
            patch.setitem(STEPS, bit, lambda _, detail, bit=bit: done.append((bit, detail)))
        peer.protocol.settle(outcomes.NOTHING)
        peer.protocol.settle(outcomes.APP_IDLE | outcomes.REFUSED | outcomes.BUFFERED_CHANGED, "detail")
    assert done == [(bit, "detail") for bit in (outcomes.REFUSED, outcomes.BUFFERED_CHANGED, outcomes.APP_IDLE)]
