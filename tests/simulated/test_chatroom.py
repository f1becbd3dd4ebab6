"""The chat room keeps its promises with every fault of the network, and a broken promise is found."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.apps.chat import Room
from tcpapp.testing.simulation import SimulationFailed, replay, simulate
from tests.simulated.chatroom import scenario

RUNS = 8
"""Runs that take some seconds; `make simulate` makes 10,000."""


def test_the_chat_room_keeps_its_promises_in_every_run() -> None:
    """In every run, no line on an open connection is lost or doubled, and each call and each end gets its result."""
    assert simulate(scenario, seeds=range(RUNS), keep=2000) == RUNS


def test_a_message_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that loses messages once a member has left is found, and the run can be replayed."""

    def tell_until_one_has_left(room: Any, text: str, *, but: Any = None) -> None:
        room.known = {**getattr(room, "known", {}), **room.members}
        for name, member in room.known.items():
            if name not in room.members:
                return
            if member is not but:
                member.tell(text)

    monkeypatch.setattr(Room, "tell_all", tell_until_one_has_left)
    with pytest.raises(SimulationFailed) as found:
        simulate(scenario, seeds=range(RUNS), shrinks=5, keep=2000)
    assert type(found.value.error) is AssertionError
    with pytest.raises(AssertionError, match="heard"):
        replay(scenario, found.value.seed, found.value.schedule, keep=2000)
