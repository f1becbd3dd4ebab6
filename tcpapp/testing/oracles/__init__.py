"""
The oracles: each checks a framing or an app against all its promises, by one call in a test.

They draw streams, cuts and schedules with Hypothesis (``pip install 'tcpapp[testing]'``). They report the smallest
failing example as an `AssertionError`, and keep no database. They need no reactor, no port and no pytest.
"""

from __future__ import annotations

import tcpapp.testing.strategies  # noqa: F401 - first: without Hypothesis, it says what to install
from tcpapp.testing.oracles.apps import check_app
from tcpapp.testing.oracles.framings import check_framing

__all__ = ["check_app", "check_framing"]
