"""`tcpapp.testing.oracles` offers all oracles in one place."""

from __future__ import annotations

from tcpapp.testing import oracles
from tcpapp.testing.oracles import apps, framings


def test_the_oracles_are_those_of_their_modules():
    """`tcpapp.testing.oracles` has exactly `check_app` and `check_framing`, from their modules."""
    assert oracles.__all__ == ["check_app", "check_framing"]
    assert oracles.check_app is apps.check_app
    assert oracles.check_framing is framings.check_framing
