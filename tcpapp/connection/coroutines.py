"""
Coroutines of an app, which run up to their first wait before anything is made for them.

Most of them never wait: what they await is there already. Such a coroutine costs no Deferred. Otherwise it goes on as a
coroutine of Twisted does: it gets what its Deferreds fire with, and is cancelled through the Deferred it awaits.
"""

from __future__ import annotations

import types
from collections.abc import Generator
from contextvars import Context, copy_context
from types import CoroutineType, GeneratorType
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred, fail, succeed

__all__ = ["Runner", "as_result", "begun", "new_runner", "rest_of"]

Runner: TypeAlias = "GeneratorType[Any, Any, Any]"
"""
Runs one coroutine after the other: ``send`` it a coroutine.

It returns the result of the coroutine, or the object that the coroutine awaits: then its ``gi_yieldfrom`` is the
coroutine. A coroutine that raises ends the runner. Python makes no `StopIteration` on this way, which takes longer than
all the rest.
"""

_spare: list[Runner] = []
"""Runners that have no coroutine. There are as many as coroutines have begun inside each other."""


@types.coroutine
def _runner() -> Generator[Any, Any, None]:
    result = None
    while True:
        coroutine = yield result
        coroutine = result = yield from coroutine  # the coroutine is held no longer than it runs


def new_runner() -> Runner:
    """A runner without a coroutine."""
    runner: Any = _runner()
    runner.send(None)
    return runner  # type: ignore[no-any-return]


def begun(coroutine: CoroutineType[Any, Any, Any], can_wait: tuple[type, ...]) -> Any:
    """
    Run `coroutine` up to its first wait. Returns its result if it has ended; otherwise a Deferred of its result.

    A coroutine that failed gives a failed Deferred. The coroutine runs in a copy of the current context, as a coroutine
    of Twisted does. For `can_wait` see `as_result`.
    """
    runner = _spare.pop() if _spare else new_runner()
    context = copy_context()
    try:
        result = context.run(runner.send, coroutine)
    except BaseException:  # noqa: BLE001 - the app fails by what its coroutine raises, whatever that is
        return fail()
    if runner.gi_yieldfrom is not None:
        return rest_of(runner, context, result)
    _spare.append(runner)
    return result if result is None or type(result) is bytes else as_result(result, can_wait)


def as_result(result: Any, can_wait: tuple[type, ...]) -> Any:
    """
    `result` itself, which a coroutine returned; in a Deferred, if its type is in `can_wait`.

    So it is not taken for a coroutine that waits.
    """
    return succeed(result) if isinstance(result, can_wait) else result


def rest_of(runner: Runner, context: Context, awaited: Any) -> Deferred[Any]:
    """The result of a coroutine that waits for the object `awaited`. Its `runner` runs no other one until then."""
    return Deferred.fromCoroutine(_rest(runner, context, awaited))


def _rest(runner: Runner, context: Context, awaited: Any) -> Generator[Any, Any, Any]:
    """What is left of a coroutine. Each step is made in its own `context`."""
    result: Any = None
    error: BaseException | None = None
    while True:
        try:
            result = yield awaited
        except GeneratorExit:  # nobody will continue it
            context.run(runner.close)
            raise
        except BaseException as thrown:  # noqa: BLE001 - the coroutine is given what is thrown, whatever it is
            error = thrown
        try:
            awaited = context.run(runner.send, result) if error is None else context.run(runner.throw, error)
        finally:
            result = error = None  # an error holds the frames that it passed through
        if runner.gi_yieldfrom is None:
            return awaited
