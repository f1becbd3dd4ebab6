"""The states of a client, for functions and for ``async for``."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tcpapp.client.reconnecting.states import MOST_STATES, Connecting, Observed, States, Stopped


def states_of(states: States, most: int = 1000) -> list[Any]:
    """Its states, as they come; ``"over"`` at its end."""
    seen: list[Any] = []

    async def take() -> None:
        async for each in states:
            seen.append(each)
            if len(seen) == most:
                return
        seen.append("over")

    Deferred.fromCoroutine(take())
    return seen


def test_each_watcher_is_told_until_it_watches_no_more(logged_errors: Any) -> None:
    """A watcher that raises harms nothing, and is logged once: failures of one kind make a line a second."""
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


def test_states_are_iterated_from_the_one_there_is() -> None:
    """Until it stops; a stopped client can start again."""
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
    """There is no more of them than a few."""
    observed = Observed()
    states = States(observed)
    for number in range(200):
        observed.become(Connecting(number, "a"))
    assert states_of(states, MOST_STATES) == [Connecting(number, "a") for number in range(200 - MOST_STATES, 200)]
