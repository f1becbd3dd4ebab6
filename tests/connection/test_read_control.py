"""Read control: while any reason to pause holds, the connection is not read from."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.inbox import FULL
from tcpapp.connection.lifecycle import Ending, Event, Stage
from tcpapp.connection.read_control import FAST, KEPT, LEAST_SIP, METERED, SHORT, Reading

USUAL = 100_000
CAUSE = CloseReason(EndedBy.US, "closed", "close() was called")


class Rig:
    """A read control, and the calls on its transport and its deadlines."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.full = False
        self.ending = Ending(self)  # type: ignore[arg-type]
        self.ending.stage = Stage.OPEN
        self.bufferSize = USUAL
        self.reading = Reading(self, self.ending, self, USUAL)  # type: ignore[arg-type]

    def stop(self, wait: str) -> None:
        """The calls on the deadlines."""

    def pause(self) -> None:
        self.told.append("our turn")

    def resume(self) -> None:
        self.told.append("its turn")

    def press(self) -> None:
        self.told.append("memory short")

    def unpress(self) -> None:
        self.told.append("memory there")

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.full:
            raise OSError(errno.ENOSPC, "no watch left")

    def abortConnection(self) -> None:
        self.told.append("abort")


def test_it_is_read_from_again_when_no_reason_is_left() -> None:
    """Each reason can be given and taken back any number of times; the transport and the deadlines learn of changes."""
    rig = Rig()
    for why in (FULL, FULL, KEPT, FAST, SHORT):
        rig.reading.hold(why)
    assert rig.told == ["our turn", "pause", "memory short"]
    for why in (FULL, KEPT, FAST, KEPT):
        rig.reading.let(why)
    assert rig.told == ["our turn", "pause", "memory short"]
    rig.reading.let(SHORT)
    rig.reading.let(SHORT)
    assert rig.told == ["our turn", "pause", "memory short", "its turn", "resume"]


def test_the_deadlines_are_told_when_memory_is_short_no_more_though_it_is_not_read_from() -> None:
    """For another reason."""
    rig = Rig()
    rig.reading.hold(SHORT)
    rig.reading.hold(FAST)
    rig.reading.let(SHORT)
    assert rig.told == ["our turn", "pause", "memory short", "memory there"]


def test_the_size_of_a_read_is_the_least_that_anything_asks_for() -> None:
    """The normal size, the size while others wait, the size of a rate; each can change while the others stay."""
    rig = Rig()
    sizes = []
    reading = rig.reading
    for change in (
        lambda: reading.sip(5000),
        lambda: reading.sip(1),  # it stays as it was
        lambda: reading.allow(7000),
        lambda: reading.allow(3),
        reading.gulp,
        lambda: reading.sip(1),
        lambda: reading.allow(10**9),
        reading.gulp,
    ):
        change()
        sizes.append(rig.bufferSize)
    assert sizes == [5000, 5000, 5000, 3, 3, 3, LEAST_SIP, METERED]
    assert not reading.sips


def test_the_first_size_is_the_usual_one() -> None:
    """It is the write mark as well, which Twisted keeps in the same number."""
    rig = Rig()
    rig.bufferSize = 5
    Reading(rig, rig.ending, rig, USUAL)  # type: ignore[arg-type]
    assert rig.bufferSize == USUAL


def test_the_size_is_that_of_the_transport_below_all_wrappers() -> None:
    """TLS and the proxy protocol's wrapper are transports that pass on what is asked of them, and not what is set."""
    rig = Rig()
    rig.bufferSize = 5
    below: Any = rig
    for _ in range(2):
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = below
        below = wrapper
    Reading(below, rig.ending, rig, USUAL)  # type: ignore[arg-type]
    assert rig.bufferSize == USUAL


def test_a_transport_without_a_size_is_given_none() -> None:
    """As a `StringTransport`."""
    rig = Rig()
    del rig.bufferSize
    rig.reading = Reading(rig, rig.ending, rig, USUAL)  # type: ignore[arg-type]
    rig.reading.sip(5000)
    assert rig.reading.sips
    assert not hasattr(rig, "bufferSize")


@pytest.mark.parametrize("end", [Event.INPUT_OVER, Event.CLOSE, Event.LOST])
def test_one_that_ends_is_not_read_from_again(end: Event) -> None:
    """Its own end has seen to that."""
    rig = Rig()
    rig.reading.hold(FULL)
    rig.ending.happen(end, CAUSE)
    rig.reading.let(FULL)
    assert rig.told == ["our turn", "pause"]


@pytest.mark.parametrize("end", [Event.CLOSE, Event.LOST])
def test_one_that_has_ended_is_told_nothing(end: Event) -> None:
    """There is nothing to read."""
    rig = Rig()
    rig.ending.happen(end, CAUSE)
    rig.reading.hold(FULL)
    rig.reading.let(FULL)
    told: Any = rig.told
    assert told == []


def test_one_that_the_system_cannot_watch_any_more_is_cut() -> None:
    """It would never be read again; the code that resumed it is not to blame."""
    rig = Rig()
    rig.full = True
    rig.reading.hold(KEPT)
    rig.reading.let(KEPT)
    assert rig.told == ["our turn", "pause", "its turn", "resume", "abort"]
