"""Received messages and bytes of all connections, and their rates."""

from __future__ import annotations

from tcpapp.telemetry.counters import Traffic


def test_traffic_has_its_rates() -> None:
    """Over the last ten seconds; earlier ones, and their times, are forgotten."""
    traffic = Traffic()
    assert traffic.rates(0.0) == (0.0, 0.0)
    for second in range(100, 130):
        traffic.mark(second)
        traffic.messages += 5
        traffic.bytes += 100
    assert (traffic.messages, traffic.bytes) == (150, 3000)
    assert traffic.rates(129.5) == (5.0, 100.0)
    assert traffic.rates(1000.0) == (0.0, 0.0)
    assert len(traffic._marks) <= 11
