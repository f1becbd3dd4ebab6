"""The states of a client, for functions and for ``async for``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tcpapp.client.reconnecting.states import MOST_STATES, Connecting, Observed, States, Stopped


def states_of(states: States, most: int = 1000) -> list[Any]:
    """Return a list to which the states are added as they come, and ``"over"`` at their end."""
    seen: list[Any] = []

    async def take() -> None:
        async for each in states:
            seen.append(each)
            if len(seen) == most:
                return
        seen.append("over")

    Deferred.fromCoroutine(take())
    return seen


def test_each_watcher_is_called_until_it_is_removed(logged_errors: Any) -> None:
    """A watcher that raises does not harm the others, and is logged once, because errors of one kind are limited."""
    observed, told, more = Observed(lambda: 100.0), [], []

    def raises(state: Any) -> None:
        raise ZeroDivisionError

    observed.watch(raises)
    stop = observed.watch(told.append)
    observed.watch(more.append)
    first, second = Connecting(1, "a"), Connecting(2, "b")
    observed.become(first)
    stop()
    observed.become(second)
    assert (told, more, observed.state) == ([first], [first, second], second)
    assert len(logged_errors.take(ZeroDivisionError)) == 1


def test_states_are_iterated_from_the_current_one() -> None:
    """The iteration begins with the current state, even with `Stopped`, and ends when the client stops."""
    observed = Observed()
    seen = states_of(States(observed))
    assert seen == [Stopped()]
    observed.become(Connecting(1, "a"))
    assert seen == [Stopped(), Connecting(1, "a")]
    error = ValueError()
    observed.become(Stopped(error))
    assert seen[2:] == [Stopped(error), "over"]
    assert observed._watchers == ()


def test_a_slow_watcher_has_the_newest_state() -> None:
    """A slow iteration gets the newest states, because only `MOST_STATES` of them are kept."""
    observed = Observed()
    states = States(observed)
    for number in range(200):
        observed.become(Connecting(number, "a"))
    assert states_of(states, MOST_STATES) == [Connecting(number, "a") for number in range(200 - MOST_STATES, 200)]
