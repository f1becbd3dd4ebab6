"""The oracles are imported from one place."""

from __future__ import annotations

from tcpapp.testing import check_apps, check_framings, oracles


def test_the_oracles():
    assert oracles.__all__ == ["check_app", "check_framing"]
    assert oracles.check_app is check_apps.check_app
    assert oracles.check_framing is check_framings.check_framing
