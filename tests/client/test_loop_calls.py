"""Calls into the reactor's thread: what a thread gets at the last moment. `test_blocking` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tcpapp.client.loop_calls import Call, Caller


class SameThread:
    """A reactor whose thread is the caller's: a call is made at once."""

    def callFromThread(self, function: Callable[[], None]) -> None:
        function()


def caller(monkeypatch: pytest.MonkeyPatch, wait: Callable[[Call, float | None], bool]) -> Caller:
    """Return a caller whose calls wait in this way."""
    monkeypatch.setattr(Call, "wait", wait)
    monkeypatch.setattr(Caller, "check", lambda self, name: None)
    return Caller(SameThread())


def test_a_result_that_comes_at_the_last_moment_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is over when the result comes, but the thread has not given up yet."""
    result: Deferred[str] = Deferred()

    def wait(call: Call, seconds: float | None) -> bool:
        if seconds is None:
            return True
        result.callback("late")
        return False

    assert caller(monkeypatch, wait).call("request", lambda: result, timeout=1) == "late"


def test_an_interrupt_after_the_result_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes when the result is there: nothing is cancelled."""
    result: Deferred[Any] = Deferred()

    def wait(call: Call, seconds: float | None) -> bool:
        result.callback("there")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller(monkeypatch, wait).call("request", lambda: result)
    assert result.called


def test_calls_behind_one_that_raises_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that raises an error ends the turn of the reactor, and the others are made in another turn."""
    turns: list[Callable[[], None]] = []
    calls = caller(monkeypatch, Call.wait)
    monkeypatch.setattr(SameThread, "callFromThread", lambda self, function: turns.append(function))
    made: list[str] = []
    calls.post(lambda: 1 / 0)
    calls.post(lambda: made.append("behind it"))
    with pytest.raises(ZeroDivisionError):
        turns.pop(0)()
    turns.pop(0)()
    assert (made, turns) == (["behind it"], [])
