"""
Coroutines of an app, which run up to their first wait before anything is made for them.

Most of them never wait: what they await is there already. Such a coroutine costs no Deferred. Otherwise it goes on as a
coroutine of Twisted does: it gets what its Deferreds fire with, and is cancelled through the Deferred it awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

__all__ = ["begun"]


def begun(coroutine: CoroutineType[Any, Any, Any], can_wait: tuple[type, ...]) -> Any:
    """
    Run `coroutine` up to its first wait. Returns its result if it has ended; otherwise a Deferred of its result.

    A coroutine that failed gives a failed Deferred. A result whose type is in `can_wait` is returned in a Deferred, so
    that it is not taken for the coroutine's own. The coroutine runs in a copy of the current context, as a coroutine of
    Twisted does.
    """
    context = copy_context()
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as ended:
        result = ended.value
        if type(result) is bytes or result is None or not isinstance(result, can_wait):
            return result
        return succeed(result)
    except BaseException:  # noqa: BLE001 - the app fails by what its coroutine raises, whatever that is
        return fail()
    return Deferred.fromCoroutine(_rest(coroutine, context.run, awaited))


def _rest(coroutine: CoroutineType[Any, Any, Any], run: Callable[..., Any], awaited: Any) -> Generator[Any, Any, Any]:
    """What is left of a `coroutine` that waits for the object `awaited`. Each step is `run` in its own context."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            result = yield awaited
        except GeneratorExit:  # nobody will continue it; the collector can have closed it before
            run(coroutine.close)
            raise
        except BaseException as thrown:  # noqa: BLE001 - the coroutine is given what is thrown, whatever it is
            error = thrown
        try:
            awaited = run(coroutine.send, result) if error is None else run(coroutine.throw, error)
        except StopIteration as ended:
            return ended.value
        finally:
            result = error = None  # an error holds the frames that it passed through
