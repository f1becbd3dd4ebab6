"""The slot of a message that an app works on beside others."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp.connection.reply_slot import SLOT_COST, Slot


def test_a_new_slot_is_empty() -> None:
    """A slot has no reply and no failure, and counts for nothing, until the dispatcher fills it in."""
    slot = Slot()
    assert (slot.reply, slot.replies, slot.failure, slot.stream) == (None, None, None, None)
    assert (slot.dropped, slot.since, slot.size, slot.weight) == (False, 0.0, 0, 0)


@pytest.mark.source
def test_a_slot_takes_no_more_memory_than_it_counts_for() -> None:
    """A slot with the Deferred of its reply, in the two collections of the dispatcher, takes at most `SLOT_COST`."""
    kept: list[OrderedDict[Slot, None]] = [OrderedDict(), OrderedDict()]

    def nothing(result: Any, slot: Slot) -> None: ...

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            slot = Slot()
            slot.reply = Deferred()
            slot.reply.addCallbacks(nothing, nothing, callbackArgs=(slot,), errbackArgs=(slot,))
            for each in kept:
                each[slot] = None
        taken = (tracemalloc.get_traced_memory()[0] - before) / 1000
    finally:
        tracemalloc.stop()
    assert taken <= SLOT_COST
