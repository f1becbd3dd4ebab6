"""The fixture of the simulation's tests: a simulation with the same seed each time."""

from __future__ import annotations

import pytest

from tcpapp.testing.simulation import Simulation


@pytest.fixture
def sim():
    with Simulation(4) as sim:
        yield sim
