"""Lines that the log could not write are counted, and reported once the log can be written again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent, globalLogPublisher

from tcpapp.process.log_loss import LogLoss


class Log:
    """An observer of the log that raises while its disk is full."""

    def __init__(self) -> None:
        self.full = False
        self.lines: list[str] = []

    def __call__(self, event: Any) -> None:
        if event["log_namespace"] in ("tests", "tcpapp"):
            if self.full:
                raise OSError(28, "No space left on device")
            self.lines.append(formatEvent(event))


@pytest.fixture
def log() -> Iterator[Any]:
    """Give an observer of the log."""
    made: Any = Log()
    globalLogPublisher.addObserver(made)
    yield made
    globalLogPublisher.removeObserver(made)


def test_lost_lines_are_reported_when_the_log_can_be_written_again(log: Any, logged_errors: Any) -> None:
    """`LogLoss` tries a line a second to report the lost lines; a lost report is not counted."""
    clock, say = Clock(), Logger("tests").info
    lost = LogLoss(clock)
    lost.start()
    lost.start()
    say("before")
    log.full = True
    say("one")
    say("two")
    clock.advance(1)
    assert (lost.count, log.lines) == (2, ["before"])
    say("three")
    log.full = False
    say("after")
    clock.advance(1)
    assert log.lines == ["before", "after", "the log could not write 3 line(s): [Errno 28] No space left on device"]
    assert (lost.count, clock.getDelayedCalls()) == (3, [])
    assert len(logged_errors.take()) == 4  # Twisted reports these errors to every other observer
    lost.stop()


def test_stop_cancels_the_timer(log: Any, logged_errors: Any) -> None:
    """`stop` cancels the timer of a report, and later lost lines are not counted."""
    clock = Clock()
    lost = LogLoss(clock)
    lost.start()
    log.full = True
    Logger("tests").info("one")
    lost.stop()
    Logger("tests").info("two")
    assert (lost.count, clock.getDelayedCalls()) == (1, [])
    logged_errors.take()
