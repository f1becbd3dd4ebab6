"""Fixtures for the tests of the transport: a reactor in memory, and a folder of certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
from twisted.internet.testing import MemoryReactorClock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def reactor() -> MemoryReactorClock:
    """Give a reactor in memory."""
    return MemoryReactorClock()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of good and bad certificates: ``cert.pem`` and its ``key.pem``, ``both.pem``, and others."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    authority.issue_cert("other").private_key_pem.write_to_path(folder / "other.pem")
    (folder / "junk.pem").write_text("junk")
    (folder / "served").mkdir()
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "served" / "localhost.pem")
    return folder


@pytest.fixture
def in_certificates(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folder of certificates the current directory."""
    monkeypatch.chdir(certificates)
