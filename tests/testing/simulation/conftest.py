"""A simulation, which is the same each time."""

from __future__ import annotations

import pytest

from tcpapp.testing.simulation import Simulation


@pytest.fixture
def sim():
    with Simulation(4) as sim:
        yield sim
