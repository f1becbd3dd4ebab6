"""
The end of a connection is no unhandled error.

Twisted logs a failure that no errback takes, with a traceback for each Deferred. When a connection ends, everything
that waits for it fails with `NotConnected`: a thousand messages to a peer that left would be a thousand tracebacks. The
end itself is reported once, by the connection's `CloseReason`, its line in the log and its event, and failed sends are
counted. So a `NotConnected` that no errback takes is not logged. All other failures are logged as Twisted does.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import DebugInfo, Deferred, fail
from typing_extensions import override

from tcpapp.errors import NotConnected

__all__ = ["failed", "unlogged"]

AnyDeferred = TypeVar("AnyDeferred", bound=Deferred[Any])


class _Outcome(DebugInfo):
    """How a Deferred ended. Twisted stores it with the Deferred, and frees both together."""

    told: BaseException | None = None

    @override
    def __del__(self) -> None:
        """Log a failure that no errback took, unless it says that a connection ended."""
        failure = self.failResult
        if failure is not None and not isinstance(failure.value, NotConnected) and failure.value is not self.told:
            super().__del__()


def unlogged(deferred: AnyDeferred, told: BaseException | None = None) -> AnyDeferred:
    """
    `deferred` itself. An unhandled failure of it is not logged if it is a `NotConnected` or the error `told`.

    Its callbacks see the same results as without this, also callbacks that are added later. What a callback raises is
    logged.
    """
    outcome, before = _Outcome(), deferred._debugInfo
    if before is not None:
        vars(outcome).update(vars(before))
        before.failResult = None
    if told is not None:
        outcome.told = told
    deferred._debugInfo = outcome
    return deferred


def failed(error: NotConnected) -> Deferred[Any]:
    """A Deferred that has failed with `error`, which is not logged if it stays unhandled."""
    return unlogged(fail(error))
