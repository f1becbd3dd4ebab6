"""What one connection receives and sends, and the totals and rates of all connections of a factory."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from tcpapp.telemetry.counters import RECENT, MessageCounter, Throughput


def count(counter: MessageCounter, now: float, messages: int, size: int) -> None:
    """Count a chunk, as a connection does."""
    if now >= counter.until:
        counter.begin_second(now)
    counter.messages += messages
    counter.bytes += size


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """A rate is the average of the last ten seconds, and older counts are dropped."""
    throughput = Throughput()
    connections = [MessageCounter(throughput), MessageCounter(throughput)]
    assert throughput.totals(connections, 0.0) == (0, 0, 0.0, 0.0)
    for second in range(100, 130):
        for each in connections:
            count(each, second, 4, 90)
            count(each, second + 0.5, 1, 10)
    assert throughput.totals(connections, 129.5) == (300, 6000, 10.0, 200.0)
    assert throughput.totals(connections, 1000.0) == (300, 6000, 0.0, 0.0)
    assert len(throughput._seconds) <= 2 * RECENT + 1


def test_a_quiet_connection_has_no_part_in_the_rate() -> None:
    """Counts of an earlier second are not in the rate, although the connection reports them only now."""
    throughput = Throughput()
    quiet, busy = MessageCounter(throughput), MessageCounter(throughput)
    count(quiet, 100.0, 1000, 5000)
    for second in range(150, 161):
        count(busy, second, 2, 6)
    assert throughput.totals([quiet, busy], 160.9) == (1022, 5066, 2.0, 6.0)
    count(quiet, 161.0, 10, 30)
    assert throughput.totals([quiet, busy], 161.0) == (1032, 5096, 3.0, 9.0)


@pytest.mark.parametrize("later", [0.0, 5.0])
def test_the_counts_of_an_ended_connection_are_kept(later: float) -> None:
    """The totals keep the counts of an ended connection, and the rate has them while they are recent."""
    throughput = Throughput()
    counter = MessageCounter(throughput)
    count(counter, 7.0, 3, 20)
    count(counter, 7.0 + later, 7, 80)
    counter.end_counting()
    assert throughput.totals([], 7.0 + later) == (10, 100, 1.0, 10.0)
    assert throughput.totals([], 100.0) == (10, 100, 0.0, 0.0)


def test_a_connection_that_ends_later_adds_nothing_to_the_rate() -> None:
    """Messages belong to the second in which they came, and not to the second in which the connection ended."""
    throughput = Throughput()
    old, new = MessageCounter(throughput), MessageCounter(throughput)
    count(old, 7.0, 5, 50)
    count(new, 30.0, 10, 70)
    old.end_counting()
    assert throughput.totals([new], 30.0) == (15, 120, 1.0, 7.0)


def test_counts_from_before_count_in_the_totals_only() -> None:
    """The counts that a connection begins with are in the totals, and not in the rate."""
    throughput = Throughput()
    counter = MessageCounter(throughput)
    counter.messages, counter.bytes = 500, 9000
    count(counter, 3.0, 10, 20)
    assert throughput.totals([counter], 3.5) == (510, 9020, 1.0, 2.0)


def test_without_a_clock_there_are_totals_and_no_rates() -> None:
    """Where all times are 0, the totals are right and the rates are 0."""
    throughput = Throughput()
    counter = MessageCounter(throughput)
    count(counter, 0.0, 1, 5)
    count(counter, 0.0, 1, 5)
    assert throughput.totals([counter], 5000.0) == (2, 10, 0.0, 0.0)


def test_a_connection_that_moves_is_counted_by_both_factories_once() -> None:
    """A moved connection goes on with its own counts, and each factory counts only what happened there."""
    before, after = Throughput(), Throughput()
    old, new = MessageCounter(before), MessageCounter(after)
    count(old, 10.0, 3, 30)
    old.end_counting()
    new.continue_from(old.messages, old.bytes)
    assert after.totals([new], 500.0) == (0, 0, 0.0, 0.0)
    count(new, 501.0, 20, 200)
    assert (new.messages, new.bytes) == (23, 230)
    assert after.totals([new], 501.0) == (20, 200, 2.0, 20.0)
    new.end_counting()
    assert after.totals([], 501.0) == (20, 200, 2.0, 20.0)
    assert before.totals([], 10.5) == (3, 30, 0.3, 3.0)


def recent(chunks: Iterable[tuple[float, int, int]], now: float) -> tuple[float, float]:
    """Return the rates, computed from all chunks with their times."""
    known = [(messages, size) for at, messages, size in chunks if now - int(at) <= RECENT]
    return sum(each[0] for each in known) / RECENT, sum(each[1] for each in known) / RECENT


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(20))
def test_totals_and_rates_are_those_of_the_single_chunks(seed: int) -> None:
    """For connections that open, count and end at any times, totals and rates are sums over the single chunks."""
    random = Random(seed)
    throughput = Throughput()
    connections: list[MessageCounter] = []
    chunks: list[tuple[float, int, int]] = []
    now = 50.0
    for _ in range(300):
        now += random.choice([0, 0, 0.25, 0.5, 1, 4, 25 * (random.random() < 0.1)])
        step = random.random()
        if step < 0.1 or not connections:
            connections.append(MessageCounter(throughput))
        elif step < 0.15:
            connections.pop(random.randrange(len(connections))).end_counting()
        else:
            chunks.append((now, random.randrange(5), random.randrange(1000)))
            count(random.choice(connections), *chunks[-1])
        totals = (sum(each[1] for each in chunks), sum(each[2] for each in chunks))
        assert throughput.totals(connections, now) == (*totals, *recent(chunks, now))
