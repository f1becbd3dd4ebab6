"""Counters: the received messages and bytes of all connections, and their rates."""

from __future__ import annotations

from tcpapp.telemetry.counters import Counters


def test_rates_are_averages_of_the_last_ten_seconds() -> None:
    """The rates of messages and bytes are averages over ten seconds; older counts are dropped."""
    counters = Counters()
    assert counters.rates(0.0) == (0.0, 0.0)
    for second in range(100, 130):
        counters.mark(second)
        counters.messages += 5
        counters.bytes += 100
    assert (counters.messages, counters.bytes) == (150, 3000)
    assert counters.rates(129.5) == (5.0, 100.0)
    assert counters.rates(1000.0) == (0.0, 0.0)
    assert len(counters._marks) <= 11
