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


@pytest.fixture(scope="module")
def kept_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Give programs that serve for all tests of a module, and stop them after the last test."""
    started = Services(tmp_path_factory.mktemp("services"))
    yield started
    started.end()
