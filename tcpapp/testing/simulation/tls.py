"""TLS on simulated hosts: Twisted's own TLS, with the reactor of the host as its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from twisted.internet.interfaces import IDelayedCall

__all__ = ["over_tls", "timed", "without_a_reactor"]

DEEP = 10
"""The most nested factories that are searched. An endpoint, TLS, a PROXY header and a limit are four."""

INSTALLED = find_spec("OpenSSL") is not None
"""Whether TLS can be used: Twisted's TLS needs pyOpenSSL."""


class NoHost:
    """The clock of a TLS factory whose host is not known yet. `timed` replaces it."""

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> IDelayedCall:
        """Raise `RuntimeError`: the factory has no host."""
        raise RuntimeError(
            "a TLSMemoryBIOFactory is used on no host: give it clock=host.reactor, or give it to host.reactor"
        )


@contextmanager
def without_a_reactor() -> Iterator[None]:
    """
    Keep TLS factories without a clock from using the global reactor, which would install one.

    Twisted's endpoints make such factories, and cannot give them a clock.
    """
    if not INSTALLED:
        yield
        return
    from twisted.protocols import tls

    before = tls._get_default_clock
    tls._get_default_clock = NoHost  # type: ignore[assignment]  # they use only this method of a clock
    try:
        yield
    finally:
        tls._get_default_clock = before


def timed(factory: Any, reactor: Any) -> Any:
    """Return `factory`. If it, or a factory that it wraps, is a TLS factory, it gets `reactor` as its clock."""
    if INSTALLED:
        from twisted.protocols.tls import TLSMemoryBIOFactory

        each = factory
        for _ in range(DEEP):
            if isinstance(each, TLSMemoryBIOFactory):
                each._clock = reactor
            each = getattr(each, "_wrappedFactory", None) or getattr(each, "wrappedFactory", None)
    return factory


def over_tls(context: Any, factory: Any, reactor: Any, *, client: bool) -> Any:
    """Return a factory that puts TLS below the protocols of `factory`, as ``listenSSL`` and ``connectSSL`` do."""
    from twisted.protocols.tls import TLSMemoryBIOFactory

    return TLSMemoryBIOFactory(context, client, factory, clock=reactor)
