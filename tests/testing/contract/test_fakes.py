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
def test_wire(options: Any, check: Any, logged_errors: Any) -> None:
    keeps(Wires(**options), check, logged_errors)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_wire_with_tls(contexts: Any, check: Any, logged_errors: Any) -> None:
    keeps(Wires(tls=contexts), check, logged_errors)


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_fake_transport(check: Any, logged_errors: Any) -> None:
    keeps(FakeTransports(), check, logged_errors)
