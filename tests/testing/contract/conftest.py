"""Shared fixtures of the transports' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tcpapp.testing.certificates import Certificates


@pytest.fixture(scope="session")
def contexts(tls_certificates: Certificates) -> tuple[Any, Any]:
    """Give the TLS contexts of a server, and of a client that trusts the server."""
    return tls_certificates.server_options(), tls_certificates.client_options()
