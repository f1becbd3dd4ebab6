"""Received messages and bytes of all connections, and their rates."""

from __future__ import annotations

from tcpapp.telemetry.counters import Counters


def test_traffic_has_its_rates() -> None:
    """Over the last ten seconds; earlier ones, and their times, are forgotten."""
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
