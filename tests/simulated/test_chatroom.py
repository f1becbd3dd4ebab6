"""The chat room holds whatever the network does to it; and what does not hold is found."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.apps.chat import Room
from tcpapp.testing.simulation import SimulationFailed, replay, simulate
from tests.simulated.chatroom import scenario

RUNS = 8
"""Of the 10,000 that `make simulate` makes; as many as take seconds."""


def test_what_holds_in_a_chat_room_holds_in_every_run() -> None:
    """Nothing lost on a line that stayed up, nothing doubled, every waiter told, every end with its reason."""
    assert simulate(scenario, seeds=range(RUNS), keep=2000) == RUNS


def test_a_message_that_is_lost_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that stops at the first member who has left is found out, and the run can be seen again."""

    def tell_until_one_has_left(room: Any, text: str, *, but: Any = None) -> None:
        room.known = {**getattr(room, "known", {}), **room.members}
        for name, member in room.known.items():
            if name not in room.members:
                return
            if member is not but:
                member.tell(text)

    monkeypatch.setattr(Room, "tell_all", tell_until_one_has_left)
    with pytest.raises(SimulationFailed) as found:
        simulate(scenario, seeds=range(RUNS), shrinks=20, keep=2000)
    assert type(found.value.error) is AssertionError
    with pytest.raises(AssertionError, match="heard"):
        replay(scenario, found.value.seed, found.value.schedule, keep=2000)
