"""
Clear errors where a Twisted coroutine awaits asyncio, or a task of asyncio awaits Twisted.

Python fails with ``await wasn't used with future`` or ``no running event loop`` then. That names neither the cause nor
the cure (twisted#11841).
"""

from __future__ import annotations

from twisted.python.failure import Failure

from tcpapp.errors import InvalidOption

__all__ = ["explained"]

IN_TWISTED = (
    "a Twisted coroutine cannot await asyncio: make the app with tcpapp.aio.app, or await tcpapp.aio.deferred(...)"
)
WITHOUT_LOOP = (
    "asyncio has no loop here: start with --reactor=asyncio or --reactor=uvloop, and make the app with tcpapp.aio.app"
)
IN_ASYNCIO = "a task of asyncio cannot await a Deferred: await tcpapp.aio.future(...) of it"

MEANS = {
    "await wasn't used with future": IN_TWISTED,
    "inside a task": IN_TWISTED,  # asyncio.timeout, asyncio.wait_for, aiohttp's timeouts
    "the parent task": IN_TWISTED,  # asyncio.TaskGroup
    "no running event loop": WITHOUT_LOOP,
    "Task got bad yield: <Deferred": IN_ASYNCIO,
}
"""A part of the text of Python's error, and what it means."""


def explained(failure: Failure) -> Failure:
    """
    `failure` itself; or, where asyncio and Twisted were mixed, an `InvalidOption` with the same traceback.

    The new error names the cause and the cure, and holds the old one as its cause. The fault is the coroutine's.
    """
    error = failure.value
    if type(error) is not RuntimeError:
        return failure
    said = str(error)
    for part, means in MEANS.items():
        if part in said:
            told = InvalidOption(f"{means} ({said})")
            told.__cause__ = error
            return Failure(told, InvalidOption, failure.tb)
    return failure
