"""Read control: while any reason to pause holds, the connection does not read."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from tcpapp.close_reason import CloseReason, EndedBy
from tcpapp.connection.inbox import INBOX_FULL
from tcpapp.connection.lifecycle import Event, Lifecycle, Stage
from tcpapp.connection.read_control import (
    LARGEST_METERED_READ,
    MEMORY_PRESSURE,
    MESSAGES_PENDING,
    OVER_BYTE_RATE,
    SMALLEST_READ,
    ReadControl,
)

USUAL = 100_000
CAUSE = CloseReason(EndedBy.US, "closed", "close() was called")


class Rig:
    """A read control, and the calls on its transport and its deadlines."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.full = False
        self.lifecycle = Lifecycle(self)  # type: ignore[arg-type]
        self.lifecycle.stage = Stage.OPEN
        self.bufferSize = USUAL
        self.read_control = ReadControl(self, self.lifecycle, self, USUAL)  # type: ignore[arg-type]

    def stop(self, wait: str) -> None:
        """Ignore a call on the deadlines."""

    def pause(self) -> None:
        self.told.append("our turn")

    def resume(self) -> None:
        self.told.append("its turn")

    def begin_memory_pressure(self) -> None:
        self.told.append("memory short")

    def end_memory_pressure(self) -> None:
        self.told.append("memory there")

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        if self.full:
            raise OSError(errno.ENOSPC, "no watch left")

    def abortConnection(self) -> None:
        self.told.append("abort")


def test_reading_resumes_when_no_reason_is_left() -> None:
    """Each reason can be given and removed several times. Transport and deadlines get only the changes."""
    rig = Rig()
    for why in (INBOX_FULL, INBOX_FULL, MESSAGES_PENDING, OVER_BYTE_RATE, MEMORY_PRESSURE):
        rig.read_control.pause(why)
    assert rig.told == ["our turn", "pause", "memory short"]
    for why in (INBOX_FULL, MESSAGES_PENDING, OVER_BYTE_RATE, MESSAGES_PENDING):
        rig.read_control.resume(why)
    assert rig.told == ["our turn", "pause", "memory short"]
    rig.read_control.resume(MEMORY_PRESSURE)
    rig.read_control.resume(MEMORY_PRESSURE)
    assert rig.told == ["our turn", "pause", "memory short", "its turn", "resume"]


def test_a_connection_that_goes_on_reads_when_no_reason_is_left() -> None:
    """`go_on()` undoes `stop()`, but not a pause: then reading resumes when its reason is gone."""
    rig = Rig()
    rig.read_control.stop()
    rig.read_control.go_on()
    assert rig.told == ["pause", "resume"]
    rig.read_control.pause(INBOX_FULL)
    rig.read_control.stop()
    rig.told.clear()
    rig.read_control.go_on()
    told: Any = rig.told
    assert told == []
    rig.read_control.resume(INBOX_FULL)
    assert told == ["its turn", "resume"]


def test_the_deadlines_learn_of_the_end_of_memory_pressure_during_a_pause() -> None:
    """The deadlines learn of the end of memory pressure, even if another reason still pauses reading."""
    rig = Rig()
    rig.read_control.pause(MEMORY_PRESSURE)
    rig.read_control.pause(OVER_BYTE_RATE)
    rig.read_control.resume(MEMORY_PRESSURE)
    assert rig.told == ["our turn", "pause", "memory short", "memory there"]


def test_the_size_of_a_read_is_the_least_that_anything_asks_for() -> None:
    """The read size is the least of the normal size, the small size, and the size of a rate. Each can change alone."""
    rig = Rig()
    sizes = []
    read_control = rig.read_control
    for change in (
        lambda: read_control.read_small(5000),
        lambda: read_control.read_small(1),  # it stays as it was
        lambda: read_control.limit_next_read(7000),
        lambda: read_control.limit_next_read(3),
        read_control.read_normal,
        lambda: read_control.read_small(1),
        lambda: read_control.limit_next_read(10**9),
        read_control.read_normal,
    ):
        change()
        sizes.append(rig.bufferSize)
    assert sizes == [5000, 5000, 5000, 3, 3, 3, SMALLEST_READ, LARGEST_METERED_READ]
    assert not read_control.reads_small


def test_the_first_size_is_the_usual_one() -> None:
    """The first read size is the usual one, which Twisted uses as the write mark as well."""
    rig = Rig()
    rig.bufferSize = 5
    ReadControl(rig, rig.lifecycle, rig, USUAL)  # type: ignore[arg-type]
    assert rig.bufferSize == USUAL


def test_the_read_size_is_set_on_the_transport_below_all_wrappers() -> None:
    """Wrappers such as TLS pass on calls, but not attributes, so the size is set on the innermost transport."""
    rig = Rig()
    rig.bufferSize = 5
    below: Any = rig
    for _ in range(2):
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = below
        below = wrapper
    ReadControl(below, rig.lifecycle, rig, USUAL)  # type: ignore[arg-type]
    assert rig.bufferSize == USUAL


def test_a_transport_without_a_size_is_given_none() -> None:
    """A transport without a read size, such as a `StringTransport`, gets none."""
    rig = Rig()
    del rig.bufferSize
    rig.read_control = ReadControl(rig, rig.lifecycle, rig, USUAL)  # type: ignore[arg-type]
    rig.read_control.read_small(5000)
    assert rig.read_control.reads_small
    assert not hasattr(rig, "bufferSize")


@pytest.mark.parametrize("end", [Event.INPUT_OVER, Event.CLOSE, Event.LOST])
def test_a_connection_that_ends_is_not_read_from_again(end: Event) -> None:
    """After the end of the input, `resume()` does not resume the transport."""
    rig = Rig()
    rig.read_control.pause(INBOX_FULL)
    rig.lifecycle.happen(end, CAUSE)
    rig.read_control.resume(INBOX_FULL)
    assert rig.told == ["our turn", "pause"]


@pytest.mark.parametrize("end", [Event.CLOSE, Event.LOST])
def test_a_transport_that_has_ended_is_not_called(end: Event) -> None:
    """After a close or a loss, `pause()` and `resume()` do not call the transport."""
    rig = Rig()
    rig.lifecycle.happen(end, CAUSE)
    rig.read_control.pause(INBOX_FULL)
    rig.read_control.resume(INBOX_FULL)
    told: Any = rig.told
    assert told == []


def test_a_connection_that_the_system_cannot_watch_any_more_is_cut() -> None:
    """If the reactor cannot watch the socket again, the connection is cut, and `resume()` does not raise."""
    rig = Rig()
    rig.full = True
    rig.read_control.pause(MESSAGES_PENDING)
    rig.read_control.resume(MESSAGES_PENDING)
    assert rig.told == ["our turn", "pause", "its turn", "resume", "abort"]
