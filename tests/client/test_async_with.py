"""A client of any kind in an ``async with`` block."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tcpapp.client.async_with import StartedInBlock
from tests.peers import outcome


class Started(StartedInBlock):
    """Something that is started, and notes what it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.told: list[str] = []

    def start(self) -> Deferred[Started]:
        self.told.append("start")
        return succeed(self) if self.error is None else fail(self.error)

    def stop(self) -> Deferred[None]:
        self.told.append("stop")
        return succeed(None)


async def entered(started: Started) -> list[str]:
    async with started as it:
        assert it is started
        return list(it.told)


def test_it_runs_inside_the_block() -> None:
    """And not behind it."""
    started = Started()
    assert outcome(Deferred.fromCoroutine(entered(started))) == [["start"]]
    assert started.told == ["start", "stop"]


def test_a_block_that_cannot_be_entered_leaves_nothing_started() -> None:
    """What it failed with is raised."""
    started = Started(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        raise outcome(Deferred.fromCoroutine(entered(started)))[0]
    assert started.told == ["start", "stop"]
