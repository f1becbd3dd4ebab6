"""The kit's own transports keep the contract that sockets keep."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred

from tcpapp.testing.contract import CHECKS, Planted, hold, name_of
from tcpapp.testing.contract.fakes import FakeTransports, Wires
from tcpapp.testing.pipe import seeded_cuts

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL .* objects is deprecated:DeprecationWarning")

LINES = {
    "whole": {},
    "in pieces": {"cuts": partial(seeded_cuts, 1, most=5000)},
    "slow": {"latency": 0.003, "bandwidth": 100e6},
    "small buffers": {"capacity": 3000},
}


def keeps(carrier: Any, check: Any, logged_errors: Any) -> None:
    """Run `check` on `carrier`. No reactor is needed: the check is done when `ensureDeferred` returns."""
    results: list[Any] = []
    ensureDeferred(hold(carrier, check)).addBoth(results.append)
    logged_errors.take(Planted)
    assert results == [None]


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("options", LINES.values(), ids=LINES)
def test_a_wire_keeps_the_contract(options: Any, check: Any, logged_errors: Any) -> None:
    """A wire passes each check of the contract: unchanged, cut into pieces, slow, and with small buffers."""
    keeps(Wires(**options), check, logged_errors)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_wire_with_tls_keeps_the_contract(contexts: Any, check: Any, logged_errors: Any) -> None:
    """A wire with TLS passes each check of the contract."""
    keeps(Wires(tls=contexts), check, logged_errors)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_a_fake_transport_keeps_the_contract(check: Any, logged_errors: Any) -> None:
    """A fake transport passes each check of the contract."""
    keeps(FakeTransports(), check, logged_errors)
