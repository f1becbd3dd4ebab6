"""
asyncio and Twisted on one loop: conversion of Deferreds to futures and of awaitables to Deferreds, and received
messages as futures.

Programs use `tcpapp.aio`, which is built on this.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.connection.tasks import awaited_by
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.transport.fork_check import check_fork

__all__ = ["Receiving", "as_task", "deferred", "future", "installed_reactor", "loop_for", "start"]

Result = TypeVar("Result")

NOT_IN_A_TASK = (
    "aio: a Twisted coroutine cannot await asyncio; await Deferreds of tcpapp there (tcpapp.connect, Client), "
    "or run the coroutine as a task, by aio.app or aio.deferred(...)"
)
ANOTHER_LOOP = (
    "aio: Twisted's reactor runs on another loop of asyncio, such as an earlier asyncio.run(), and a process has one "
    "reactor; do everything in one asyncio.run(main()), or start a process for each loop"
)


def start() -> Any:
    """
    Run Twisted's reactor on the running asyncio loop, if it does not run there yet. Returns the reactor.

    Raises `InvalidOption` if no loop runs, if the reactor is not asyncio's, or if it runs on another loop. Raises
    `Forked` in a forked child of the process in which the reactor ran. All are the program's fault.
    """
    loop = _running_loop()
    if loop is None:
        raise _no_loop()
    from twisted.internet import asyncioreactor

    if installed_reactor() is None:
        asyncioreactor.install(loop)
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    check_fork(reactor, "aio")
    its = _loop_of(reactor)
    if its is None:
        raise InvalidOption(
            f"aio: the reactor of this program is {type(reactor).__name__}, and not asyncio's on the loop that runs; "
            "call aio.start(), or use aio, before twisted.internet.reactor is imported"
        )
    if its is not loop:
        raise InvalidOption(ANOTHER_LOOP)
    if not reactor.running:
        reactor.startRunning(False)
        _ending.append(_ends_with_its_loop(reactor))
        with contextlib.suppress(StopIteration):
            _ending[0].__anext__().send(None)
    return reactor


_ending: list[Any] = []


async def _ends_with_its_loop(reactor: Any) -> AsyncIterator[None]:
    """Stop the reactor's thread pool when the loop ends: asyncio then closes this generator."""
    try:
        yield
    finally:
        if reactor.threadpool is not None:
            reactor.threadpool.stop()


def installed_reactor() -> Any:
    """Return the global reactor; `None` if the program has chosen none yet."""
    return sys.modules.get("twisted.internet.reactor")


def _loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """Return the loop that `reactor` runs on; `None` if that is not a loop of asyncio."""
    return getattr(reactor, "_asyncioEventloop", None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _no_loop() -> InvalidOption:
    """Return the error that no loop runs. It says what to do."""
    reactor, told = installed_reactor(), "aio: no loop of asyncio runs here"
    if reactor is None:
        return InvalidOption(f"{told}; call it inside asyncio.run(main())")
    if _loop_of(reactor) is not None:
        return InvalidOption(f"{told}; call it inside a coroutine that the reactor runs, by aio.deferred(main())")
    return InvalidOption(
        f"{told}, for Twisted's reactor is {type(reactor).__name__}; start with --reactor=asyncio or --reactor=uvloop, "
        "or call it inside asyncio.run(main())"
    )


class _Awaited(asyncio.Future[Any]):
    """
    A future that raises a clear error when a Twisted coroutine awaits it. Only tasks of asyncio can await futures.
    """

    @override
    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except RuntimeError:
            if self.done():
                raise
            raise InvalidOption(NOT_IN_A_TASK) from None


def future(waits: Deferred[Any]) -> asyncio.Future[Any]:
    """
    Return a future of asyncio that ends as the Deferred `waits` does, with its result or error. Cancelling the future
    cancels the Deferred.

    When the Deferred is cancelled, so is the future (Twisted's own ``asFuture`` fails it with Twisted's error). The end
    of a connection is not logged if no task awaits the future. Raises `InvalidOption`, the program's fault, if no loop
    runs or another loop than the reactor's. A Twisted coroutine that awaits the future gets an `InvalidOption`, too.
    """
    return _ends_as(waits, _Awaited)


def _ends_as(waits: Deferred[Any], kind: Callable[..., asyncio.Future[Any]]) -> asyncio.Future[Any]:
    loop = _running_loop()
    if loop is None:
        raise _no_loop()
    if not waits.called and _loop_of(installed_reactor()) not in (None, loop):
        raise InvalidOption(ANOTHER_LOOP)
    made = kind(loop=loop)

    def done(result: Any) -> None:
        if made.done():
            return
        if not isinstance(result, Failure):
            made.set_result(result)
        elif result.check(CancelledError):
            made.cancel()
        else:
            made.set_exception(cast(BaseException, result.value))
            if result.check(NotConnected):
                made.exception()  # tells asyncio that the exception was retrieved

    waits.addBoth(done)
    made.add_done_callback(lambda _: waits.cancel() if made.cancelled() else None)
    return made


class _Received(_Awaited):
    """A future whose result goes to the next future of `Receiving` if its task is cancelled before the task runs."""

    def __init__(self, receiving: Receiving, **options: Any) -> None:
        super().__init__(**options)
        self._receiving = receiving

    @override
    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from super().__await__())
        except asyncio.CancelledError:
            if self.done() and not self.cancelled():
                self._receiving.not_taken(self)
            raise


class Receiving:
    """
    The messages of one object as futures. No message is lost.

    A task can be cancelled after its message has come and before the task runs. Then the message goes to the oldest
    waiting call of `receive`, or to the next call if none waits.
    """

    def __init__(self) -> None:
        self._left: deque[asyncio.Future[Any]] = deque()
        self._waiting: dict[asyncio.Future[Any], Deferred[Any]] = {}

    def receive(self, receive: Callable[[], Deferred[Any]]) -> asyncio.Future[Any]:
        """
        Return a future of the next message, from the object's own `receive`. It raises the errors of `receive` and
        `future`.
        """
        if self._left:
            return self._left.popleft()
        waits = receive()
        made = _ends_as(waits, partial(_Received, self))
        if not waits.called:
            self._waiting[made] = waits
            waits.addBoth(self._ended, made)
        return made

    def _ended(self, _: object, made: asyncio.Future[Any]) -> None:
        del self._waiting[made]

    def not_taken(self, ended: asyncio.Future[Any]) -> None:
        """Pass the result or the error of a future whose task was cancelled to another future."""
        if not self._waiting:
            self._left.append(ended)
            return
        made, waits = next(iter(self._waiting.items()))
        error = ended.exception()
        if error is None:
            made.set_result(ended.result())
        else:
            made.set_exception(error)
        waits.cancel()  # this future has its message


def loop_for(awaitable: Awaitable[Any]) -> asyncio.AbstractEventLoop:
    """
    Return the loop that `awaitable` can run on. Raises `InvalidOption`, the program's fault, if there is none; then a
    coroutine is closed.
    """
    loop = _running_loop() or _loop_of(installed_reactor())
    if loop is None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()  # it is never awaited, and Python would warn about that
        raise _no_loop()
    return loop


def deferred(awaitable: Awaitable[Any]) -> Deferred[Any]:
    """
    Return a Deferred that ends as the awaitable does. The awaitable runs as a task of asyncio, so it can await all of
    asyncio.

    Cancelling the Deferred cancels the task, at any moment, and fails with Twisted's ``CancelledError``
    (twisted#12470). The task begins when the reactor runs. Raises `InvalidOption`, the program's fault, if the reactor
    does not run on a loop of asyncio.
    """
    loop = loop_for(awaitable)
    task: asyncio.Future[Any] = (
        awaitable if asyncio.isfuture(awaitable) else asyncio.ensure_future(awaitable, loop=loop)
    )

    def cancel(_: object) -> None:
        task.cancel()

    made: Deferred[Any] = Deferred(cancel)

    def done(_: object) -> None:
        error = CancelledError() if task.cancelled() else task.exception()
        if made.called:  # the Deferred was cancelled, and has failed already
            return
        if error is not None:
            made.errback(error)
        else:
            made.callback(task.result())

    task.add_done_callback(done)
    return made


async def as_task(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """
    Run `coroutine` as a task of asyncio, and end when the task has ended. This is a Twisted coroutine.

    When it is cancelled, it cancels the task, and waits for it. A task that wakes up in this moment, because a call
    that it awaited has failed, is not cancelled. Raises the errors of `loop_for`.
    """
    task = loop_for(coroutine).create_task(coroutine)
    cancelled = 0
    while not task.done():
        ended: Deferred[None] = Deferred()
        task.add_done_callback(partial(_fire, ended))
        try:
            await ended
        except CancelledError:
            cancelled += 1
            _cancel_later(task, again=cancelled > 1)
    if task.cancelled():
        raise CancelledError
    return task.result()


def _fire(waiter: Deferred[None], _: object) -> None:
    if not waiter.called:
        waiter.callback(None)


def _cancel_later(task: asyncio.Task[Any], *, again: bool) -> None:
    """Cancel `task` in the next turn of the loop, if it then still awaits the same. If `again`, cancel it now."""
    coroutine: Any = task.get_coro()
    before = awaited_by(coroutine)

    def cancel() -> None:
        if awaited_by(coroutine) is before:
            task.cancel()

    if again or inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        task.cancel()
    else:
        task.get_loop().call_soon(cancel)
