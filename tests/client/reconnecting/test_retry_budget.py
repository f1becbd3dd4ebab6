"""The budget for requests that are sent again."""

from __future__ import annotations

from twisted.internet.task import Clock

from tcpapp.client.reconnecting.retry_budget import MOST_SAVED, RetryBudget
from tcpapp.limits import Recovery


def taken(budget: RetryBudget) -> int:
    """Take retries until there are none, and return their number."""
    count = 0
    while budget.take():
        count += 1
    return count


def test_requests_earn_a_part_of_a_retry() -> None:
    """Each request earns a fifth of a retry. Unused retries are saved, up to a bound."""
    budget = RetryBudget(Recovery(retries_least=0), Clock().seconds)
    assert taken(budget) == 0
    for _ in range(50):
        budget.earn()
    assert taken(budget) in (9, 10)  # sums of floats
    for _ in range(5000):
        budget.earn()
    assert taken(budget) == MOST_SAVED


def test_a_few_retries_can_be_made_in_each_second() -> None:
    """A few retries are allowed in each second, however few requests there are."""
    clock = Clock()
    budget = RetryBudget(Recovery(retries_least=3, retry_percent=0), clock.seconds)
    budget.earn()
    assert taken(budget) == 3
    clock.advance(1)
    assert taken(budget) == 3
    clock.advance(0.4)
    assert taken(budget) == 1
