"""Twisted's own transports keep the contract, on each reactor that runs the tests."""

from __future__ import annotations

from inspect import getfile
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.default import install

from tcpapp.testing.contract import CHECKS, Planted, hold, name_of
from tests.testing.contract.loopback import proxied_tcp, proxied_unix, tcp, tls, unix

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

REACTORS = {"asyncio": "AsyncioSelectorReactor", "select": "SelectReactor", "uvloop": "UvloopReactor"}
"""The class of each reactor that ``--reactor`` can name; the default is the platform's."""


def test_the_tests_run_on_the_named_reactor(pytestconfig: pytest.Config, global_reactor: Any) -> None:
    """The tests run on the reactor that ``--reactor`` names, or on the platform's default."""
    default = Path(getfile(install)).stem
    named = pytestconfig.getoption("reactor")
    assert type(global_reactor).__name__.lower() == REACTORS.get(named, default).lower()


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_a_tcp_transport_keeps_the_contract(check: Any, global_reactor: Any, logged_errors: Any) -> None:
    """Twisted's TCP transport passes each check of the contract."""
    await hold(tcp(global_reactor), check)
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_a_unix_transport_keeps_the_contract(
    check: Any, global_reactor: Any, logged_errors: Any, tmp_path: Any
) -> None:
    """Twisted's UNIX transport passes each check of the contract."""
    await hold(unix(global_reactor, str(tmp_path / "socket")), check)
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_a_tls_transport_keeps_the_contract(
    check: Any, global_reactor: Any, logged_errors: Any, contexts: Any
) -> None:
    """Twisted's TLS transport passes each check of the contract."""
    await hold(tls(global_reactor, contexts), check)
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_tcp_through_a_fault_proxy_keeps_the_contract(
    check: Any, global_reactor: Any, logged_errors: Any
) -> None:
    """A fault proxy without toxics keeps the contract of sockets, except that the ends have other addresses."""
    await hold(proxied_tcp(global_reactor), check)
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_unix_through_a_fault_proxy_keeps_the_contract(
    check: Any, global_reactor: Any, logged_errors: Any, tmp_path: Any
) -> None:
    """A connection over UNIX sockets through a fault proxy passes each check of the contract."""
    await hold(proxied_unix(global_reactor, str(tmp_path / "socket")), check)
    logged_errors.take(Planted)
