"""Twisted's own transports keep the contract, on whatever reactor the tests run."""

from __future__ import annotations

from inspect import getfile
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.default import install
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS

from tcpapp.testing.contract import CHECKS, Planted, hold, name_of
from tcpapp.testing.contract.sockets import Sockets

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

LOOPBACK = "127.0.0.1"

REACTORS = {"asyncio": "AsyncioSelectorReactor", "select": "SelectReactor"}
"""The class of each reactor that ``--reactor`` may name; the default is the platform's."""


@pytest.fixture(scope="module")
def contexts() -> tuple[Any, Any]:
    """Give the TLS contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("server.example")
    private = PrivateCertificate.loadPEM(issued.private_key_and_cert_chain_pem.bytes())
    return private.options(), optionsForClientTLS("server.example", Certificate.loadPEM(authority.cert_pem.bytes()))


def test_the_reactor_is_the_one_that_was_named(pytestconfig: pytest.Config, global_reactor: Any) -> None:
    """A run under another reactor is one."""
    default = Path(getfile(install)).stem
    named = pytestconfig.getoption("reactor")
    assert type(global_reactor).__name__.lower() == REACTORS.get(named, default).lower()


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_tcp(check: Any, global_reactor: Any, logged_errors: Any) -> None:
    listen = TCP4ServerEndpoint(global_reactor, 0, interface=LOOPBACK)
    await hold(
        Sockets(global_reactor, listen, lambda port: TCP4ClientEndpoint(global_reactor, LOOPBACK, port.getHost().port)),
        check,
    )
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_unix(check: Any, global_reactor: Any, logged_errors: Any, tmp_path: Any) -> None:
    listen = UNIXServerEndpoint(global_reactor, str(tmp_path / "socket"))
    await hold(
        Sockets(
            global_reactor,
            listen,
            lambda port: UNIXClientEndpoint(global_reactor, port.getHost().name.decode()),
            unix=True,
        ),
        check,
    )
    logged_errors.take(Planted)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest_twisted.ensureDeferred
async def test_tls(check: Any, global_reactor: Any, logged_errors: Any, contexts: Any) -> None:
    server, client = contexts
    listen = SSL4ServerEndpoint(global_reactor, 0, server, interface=LOOPBACK)
    await hold(
        Sockets(
            global_reactor,
            listen,
            lambda port: wrapClientTLS(client, TCP4ClientEndpoint(global_reactor, LOOPBACK, port.getHost().port)),
            tls=True,
        ),
        check,
    )
    logged_errors.take(Planted)
