"""The endpoint of the next attempt to connect, and the wait before it."""

from __future__ import annotations

from random import Random

from tcpapp.client.reconnecting.backoff import Attempts
from tcpapp.limits import Recovery


def attempts(*endpoints: str, seed: int = 1, random_order: bool = False, **numbers: float) -> Attempts[str]:
    return Attempts(endpoints or ("a",), Recovery(**numbers), Random(seed), random_order=random_order)


def test_each_endpoint_is_tried_before_there_is_a_wait() -> None:
    """A round tries each endpoint, in order. The next round does the same."""
    made, tried = attempts("a", "b", "c"), []
    for _ in range(2):
        made.begin_round()
        while not made.round_is_over:
            tried.append((made.next(), made.number))
    assert tried == [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("b", 5), ("c", 6)]


def test_endpoints_can_be_tried_in_random_order() -> None:
    """With `random_order` each round tries all endpoints, in a new order."""
    made, rounds = attempts(*"abcdef", random_order=True), []
    for _ in range(5):
        made.begin_round()
        rounds.append("".join(made.next() for _ in range(6)))
    assert {"".join(sorted(each)) for each in rounds} == {"abcdef"}
    assert len({*rounds}) == 5


def test_waits_are_drawn_from_nothing_to_a_bound_that_doubles() -> None:
    """Waits are random, from 0 to a bound that doubles up to the longest wait. A success resets the bound."""
    bounds: list[float] = []
    for _ in range(2):
        drawn = [[made.wait() for _ in range(12)] for made in (attempts(seed=seed) for seed in range(400))]
        bounds = [max(column) for column in zip(*drawn, strict=True)]
        least = [min(column) for column in zip(*drawn, strict=True)]
        for bound, low, expected in zip(bounds, least, [2, 4, 8, 16, *[30] * 8], strict=True):
            assert 0.95 * expected < bound <= expected
            assert low < 0.05 * expected
    made = attempts(first_wait=2, longest_wait=1000)
    for _ in range(5000):
        made.wait()
    made.success()
    assert made.number == 0
    assert max(attempts(seed=seed, first_wait=2).wait() for seed in range(50)) <= 2
    assert made.wait() <= 2
