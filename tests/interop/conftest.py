"""Fixtures for the tests with other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.services import Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Give other programs that serve, and stop them after the test."""
    started = Services(tmp_path)
    yield started
    started.end()
