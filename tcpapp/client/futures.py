"""
asyncio and Twisted on one loop: a Deferred as a future, an awaitable as a Deferred, and what is received as futures.

`tcpapp.aio` is what programs use; this is what it is made of.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from typing_extensions import override

from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.transport.fork_check import check_fork

__all__ = ["Receiving", "deferred", "future", "installed_reactor", "start"]

NOT_IN_A_TASK = (
    "aio: a Twisted coroutine cannot await asyncio; there, await what tcpapp itself gives (tcpapp.connect, Client), "
    "or run the coroutine as a task, by aio.app or aio.deferred(...)"
)
ANOTHER_LOOP = (
    "aio: Twisted's reactor runs on another loop of asyncio, of an earlier asyncio.run() say, and a process has one "
    "reactor; do everything in one asyncio.run(main()), or start a process for each loop"
)


def start() -> Any:
    """
    Have Twisted's reactor run on the loop that runs now, if it does not yet; returns it.

    Raises `InvalidOption` where no loop runs, or where the reactor is another one, or another loop's, and `Forked` in a
    child of the process in which the reactor ran: the program's fault.
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
    """A loop that ends ends the generators that it has seen begin: so what Twisted's threads wait for is told."""
    try:
        yield
    finally:
        if reactor.threadpool is not None:
            reactor.threadpool.stop()


def installed_reactor() -> Any:
    """The global reactor; `None` where the program has chosen none yet."""
    return sys.modules.get("twisted.internet.reactor")


def _loop_of(reactor: Any) -> asyncio.AbstractEventLoop | None:
    """The loop that `reactor` runs on; `None` where that is none of asyncio's."""
    return getattr(reactor, "_asyncioEventloop", None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _no_loop() -> InvalidOption:
    """What is wrong where no loop runs, and what to do about it."""
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
    """A future that says what is wrong where a Twisted coroutine awaits it: only asyncio's tasks can."""

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
    A future of asyncio's that ends as the Deferred does, and takes its result; cancelled, it cancels the Deferred.

    Where the Deferred is cancelled, the future is: Twisted's own ``asFuture`` fails it with Twisted's error. That a
    connection ended is not logged where nobody awaits the future. Raises `InvalidOption` where no loop runs, or another
    one than the reactor's, and where a Twisted coroutine awaits it.
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
                made.exception()  # for asyncio, somebody has seen it

    waits.addBoth(done)
    made.add_done_callback(lambda _: waits.cancel() if made.cancelled() else None)
    return made


class _Received(_Awaited):
    """A future whose result `Receiving` gives to the next one, if the task that awaits it is cancelled before that."""

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
    The messages of one object as futures, by `receive`, of which none is lost.

    A task can be cancelled after its message has come and before the task runs. Then the message goes to the oldest
    `receive` that waits, or else to the next one.
    """

    def __init__(self) -> None:
        self._left: deque[asyncio.Future[Any]] = deque()
        self._waiting: dict[asyncio.Future[Any], Deferred[Any]] = {}

    def receive(self, receive: Callable[[], Deferred[Any]]) -> asyncio.Future[Any]:
        """The next message, which `receive` of the object gives. Raises what that and `future` raise."""
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
        """The task that waited for this one was cancelled: its result, or its error, is another's."""
        if not self._waiting:
            self._left.append(ended)
            return
        made, waits = next(iter(self._waiting.items()))
        error = ended.exception()
        if error is None:
            made.set_result(ended.result())
        else:
            made.set_exception(error)
        waits.cancel()  # it has its message


def deferred(awaitable: Awaitable[Any]) -> Deferred[Any]:
    """
    A Deferred that ends as the awaitable does, which runs as a task of asyncio's: all of asyncio can be awaited in it.

    Cancelled, it cancels the task, and fails with Twisted's ``CancelledError``, at whatever moment (twisted#12470). The
    task begins when the reactor runs. Raises `InvalidOption` where that runs on no loop of asyncio's.
    """
    loop = _running_loop() or _loop_of(installed_reactor())
    if loop is None:
        if inspect.iscoroutine(awaitable):
            awaitable.close()  # nobody will await it: Python is not to complain of that
        raise _no_loop()
    task: asyncio.Future[Any] = (
        awaitable if asyncio.isfuture(awaitable) else asyncio.ensure_future(awaitable, loop=loop)
    )

    def cancel(_: object) -> None:
        task.cancel()

    made: Deferred[Any] = Deferred(cancel)

    def done(_: object) -> None:
        error = CancelledError() if task.cancelled() else task.exception()
        if made.called:  # it was cancelled, and has failed at once
            return
        if error is not None:
            made.errback(error)
        else:
            made.callback(task.result())

    task.add_done_callback(done)
    return made
