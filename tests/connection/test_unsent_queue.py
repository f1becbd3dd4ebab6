"""Waiting bytes: what is joined, what is shared, and what they count for."""

from __future__ import annotations

from typing import Any

from tcpapp.connection.lifecycle import Event
from tcpapp.connection.shared_message import LEAST_SHARED, PLACE_COST, SharedMessage
from tcpapp.limits.memory_budget import MemoryBudget
from tests.connection.outboxes import HIGH, Rig


def shared_of(size: int) -> SharedMessage:
    """Return a message of `size` bytes."""
    return SharedMessage(b"", bytes(size), MemoryBudget(0, lambda total, limit: None))


def blocked() -> tuple[Rig, Any]:
    """Return an outbox that is blocked, and how many bytes it holds for that."""
    rig = Rig(max_unsent=10 * LEAST_SHARED)
    rig.block()
    return rig, rig.outbox.held


def test_a_shared_message_is_not_copied() -> None:
    """The queue has the same object, and counts its place only; bytes behind it are not joined to it."""
    rig, before = blocked()
    shared = shared_of(LEAST_SHARED)
    assert not rig.outbox.write_shared(shared)
    rig.outbox.write(b"more")
    assert rig.outbox._queue is not None
    assert rig.outbox._queue[0].data is shared.data
    assert (rig.outbox.unsent, rig.outbox.held - before) == (LEAST_SHARED + 4, PLACE_COST + 4)


def test_a_shared_message_is_fed_in_pieces() -> None:
    """The transport gets pieces up to the write mark. The place counts until the last piece has gone."""
    rig, before = blocked()
    shared = shared_of(LEAST_SHARED)
    rig.outbox.write_shared(shared)
    while rig.outbox.unsent:
        assert (rig.outbox.held - before, shared.connections, shared.held_bytes) == (PLACE_COST, 1, LEAST_SHARED)
        rig.transport.flush()
        assert len(rig.transport.writes[-1]) <= HIGH
    rig.transport.flush()
    assert (rig.outbox._shared, shared.held_bytes) == (0, 0)
    assert b"".join(rig.transport.writes) == shared.data
    assert rig.counts[0] == 3


def test_a_short_shared_message_is_joined_to_its_neighbours() -> None:
    """Short messages are copied, and counted in full."""
    rig, before = blocked()
    for _ in range(2):
        rig.outbox.write_shared(shared_of(LEAST_SHARED - 1))
    assert (rig.outbox.held - before, rig.outbox._shared) == (2 * LEAST_SHARED - 2, 0)


def test_dropped_bytes_are_no_place_of_a_shared_message() -> None:
    """After the end, the message is dropped, and waits for nobody."""
    rig, _ = blocked()
    before, after = shared_of(LEAST_SHARED), shared_of(LEAST_SHARED)
    rig.outbox.write_shared(before)
    rig.ending.happen(Event.ABORT)
    rig.outbox.drop()
    assert (before.held_bytes, rig.outbox._shared) == (0, 0)
    rig.outbox.end(False)
    rig.outbox.write_shared(after)
    assert (after.held_bytes, rig.outbox.unsent) == (0, 0)
