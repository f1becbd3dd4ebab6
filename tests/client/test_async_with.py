"""A client of any kind in an ``async with`` block."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tcpapp.client.async_with import StartedInBlock
from tests.peers import outcome


class Started(StartedInBlock):
    """A client that notes the calls of `start` and `stop`."""

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


def test_a_client_runs_inside_the_block() -> None:
    """A client is started before the block, and stopped after it."""
    started = Started()
    assert outcome(Deferred.fromCoroutine(entered(started))) == [["start"]]
    assert started.told == ["start", "stop"]


def test_a_block_that_cannot_be_entered_leaves_nothing_started() -> None:
    """If the start fails, the client is stopped, and the error is raised."""
    started = Started(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        raise outcome(Deferred.fromCoroutine(entered(started)))[0]
    assert started.told == ["start", "stop"]
