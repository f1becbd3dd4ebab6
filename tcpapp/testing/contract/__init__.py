"""
The contract of a stream transport: checks for any pair of connected transports.

Twisted's sockets keep the contract over TCP, UNIX and TLS, and so do the transports of this kit. The `Carrier` has
flags for their differences. Each check is a coroutine function that takes a carrier. It raises `Broken` if the promise
in its docstring is not kept. It waits only through the carrier. With a `Clock` it is done when ``ensureDeferred``
returns; with a reactor, ``ensureDeferred`` returns a Deferred to wait for. Under pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=name_of)
    @pytest_twisted.ensureDeferred
    async def test_my_transport(check):
        await hold(MyCarrier(), check)

Under trial: ``return ensureDeferred(hold(MyCarrier(), check))``. `differential` runs random programs, which must have
the same effects on two carriers. `sockets` has the carrier of real connections, and `fakes` has the carriers without a
network. In the checks of errors the protocol raises `Planted`. Twisted logs it, and the test must take it from the log.
"""

from __future__ import annotations

from tcpapp.testing.contract.carrier import Broken, Carrier, Check, End, HalfCloseableEnd, Piecewise, Planted
from tcpapp.testing.contract.closing import CLOSING
from tcpapp.testing.contract.flow import FLOW

__all__ = [
    "CHECKS",
    "Broken",
    "Carrier",
    "Check",
    "End",
    "HalfCloseableEnd",
    "Piecewise",
    "Planted",
    "applies",
    "hold",
    "name_of",
]

CHECKS: tuple[Check, ...] = (*FLOW, *CLOSING)
"""All checks of the contract."""


def name_of(check: Check) -> str:
    """Return the name of a check, for the ids of tests."""
    return str(getattr(check, "__name__", check))


def applies(carrier: Carrier, check: Check) -> bool:
    """Return whether this carrier has the features that the check needs, such as `half_close`."""
    needs: tuple[str, ...] = getattr(check, "needs", ())
    return all(getattr(carrier, each) for each in needs)


async def hold(carrier: Carrier, check: Check) -> None:
    """
    Run `check` on `carrier`, if it `applies`, and close the connections. Raises `Broken` if a promise is not kept.
    """
    if applies(carrier, check):
        try:
            await check(carrier)
        finally:
            await carrier.close()
