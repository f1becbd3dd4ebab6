"""
The contract of a stream transport, as checks that any pair of connected transports can be held to.

Twisted's sockets keep it, over TCP, UNIX and TLS, and so do the transports of this kit; where they differ, the
`Carrier` says so. Each check is a coroutine function that takes a carrier, raises `Broken` where the promise in its
docstring is not kept, and waits by nothing but the carrier: with a `Clock` it is done as soon as ``ensureDeferred`` has
it, with a reactor that gives a Deferred. Under pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=name_of)
    @pytest_twisted.ensureDeferred
    async def test_my_transport(check):
        await hold(MyCarrier(), check)

Under trial: ``return ensureDeferred(hold(MyCarrier(), check))``. What nobody thought of, `differential` tries: random
programs, which have to see the same on two carriers. `sockets` has the carrier of real connections, `fakes` those
without a network. In the checks of errors the protocol raises `Planted`, which Twisted logs; the test takes it from
the log.
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
"""All checks."""


def name_of(check: Check) -> str:
    """Return the name of a check, for the ids of tests."""
    return str(getattr(check, "__name__", check))


def applies(carrier: Carrier, check: Check) -> bool:
    """Whether the check asks for something that this carrier has at all; `half_close` and the like."""
    needs: tuple[str, ...] = getattr(check, "needs", ())
    return all(getattr(carrier, each) for each in needs)


async def hold(carrier: Carrier, check: Check) -> None:
    """Hold `carrier` to `check`, if it `applies`, and close what was opened. Raises `Broken`."""
    if applies(carrier, check):
        try:
            await check(carrier)
        finally:
            await carrier.close()
