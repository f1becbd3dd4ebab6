"""Whether a connection is read from: as long as any reason speaks against it, it is not."""

from __future__ import annotations

from typing import Any

import pytest

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.ending import Ending
from tcpapp.inbox import FULL
from tcpapp.reading import FAST, KEPT, SHORT, Reading

CAUSE = CloseReason(EndedBy.US, "closed", "close() was called")


class Rig:
    """A reading, and what its transport and its deadlines are told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ending = Ending(self)  # type: ignore[arg-type]
        self.ending.open()
        self.reading = Reading(self, self.ending, self)  # type: ignore[arg-type]

    def stop(self, wait: str) -> None:
        """What the ending tells the deadlines."""

    def pause(self) -> None:
        self.told.append("our turn")

    def resume(self) -> None:
        self.told.append("its turn")

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


def test_it_is_read_from_again_when_no_reason_is_left() -> None:
    """Each is given and taken back as often as one likes; the transport and the deadlines are told of what changes."""
    rig = Rig()
    for why in (FULL, FULL, KEPT, FAST, SHORT):
        rig.reading.hold(why)
    assert rig.told == ["our turn", "pause"]
    for why in (FULL, KEPT, FAST, KEPT):
        rig.reading.let(why)
    assert rig.told == ["our turn", "pause"]
    rig.reading.let(SHORT)
    rig.reading.let(SHORT)
    assert rig.told == ["our turn", "pause", "its turn", "resume"]


@pytest.mark.parametrize("end", ["no_more", "close", "over"])
def test_one_that_ends_is_not_read_from_again(end: str) -> None:
    """Its own end has seen to that."""
    rig = Rig()
    rig.reading.hold(FULL)
    getattr(rig.ending, end)(CAUSE)
    rig.reading.let(FULL)
    assert rig.told == ["our turn", "pause"]


@pytest.mark.parametrize("end", ["close", "over"])
def test_one_that_has_ended_is_told_nothing(end: str) -> None:
    """There is nothing to read."""
    rig = Rig()
    getattr(rig.ending, end)(CAUSE)
    rig.reading.hold(FULL)
    rig.reading.let(FULL)
    told: Any = rig.told
    assert told == []
