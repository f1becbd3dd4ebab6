"""Fixtures for the tests of the oracles."""

from __future__ import annotations

import pytest

from tcpapp.testing.oracles import costs


@pytest.fixture
def little_flood(monkeypatch):
    """Let the checks of costs take an eighth of their bytes: the code is the same, and coverage makes it slow."""
    monkeypatch.setattr(costs, "FLOOD", 1 << 15)
