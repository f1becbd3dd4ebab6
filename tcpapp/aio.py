"""
tcpapp in programs of asyncio, and asyncio in apps of tcpapp: one loop for both.

A Deferred cannot be awaited in asyncio's tasks, nor a future in Twisted's coroutines. Here is what turns the one into
the other, and the whole of tcpapp with its Deferreds turned::

    import asyncio
    from tcpapp import aio

    async def main():
        async with aio.client("tcp:localhost:7007") as client:
            print(await client.request(b"hello"))

    asyncio.run(main())

Twisted's asyncio reactor has to run on the loop that runs: `start` sees to that, and all that is here calls it. A
program that has imported another reactor before cannot have it; it is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from typing_extensions import Self

from tcpapp.app import Conversation
from tcpapp.app import conversation as twisteds_conversation
from tcpapp.client import connect as twisteds_connect
from tcpapp.errors import InvalidOption, NotConnected
from tcpapp.listening import listen as twisteds_listen
from tcpapp.pool import Pool
from tcpapp.recovering import Client

__all__ = ["Native", "app", "client", "connect", "conversation", "deferred", "future", "listen", "pool", "start"]


def start() -> Any:
    """
    Have Twisted's reactor run on the loop that runs now, if it does not yet; returns it.

    Raises `InvalidOption` where no loop runs, or where the reactor is another one, or another loop's.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise InvalidOption("aio: no loop of asyncio runs here; call it inside asyncio.run(main())") from None
    from twisted.internet import asyncioreactor

    if "twisted.internet.reactor" not in sys.modules:
        asyncioreactor.install(loop)
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    if getattr(reactor, "_asyncioEventloop", None) is not loop:
        raise InvalidOption(
            f"aio: the reactor of this program is {type(reactor).__name__}, and not asyncio's on the loop that runs; "
            "call aio.start(), or use aio, before twisted.internet.reactor is imported"
        )
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


def future(waits: Deferred[Any]) -> asyncio.Future[Any]:
    """
    A future of asyncio's that ends as the Deferred does, and takes its result; cancelled, it cancels the Deferred.

    Where the Deferred is cancelled, the future is: Twisted's own ``asFuture`` fails it with Twisted's error. That a
    connection ended is not logged where nobody awaits the future.
    """
    made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

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


def deferred(awaitable: Awaitable[Any]) -> Deferred[Any]:
    """
    A Deferred that ends as the awaitable does, which runs as a task of asyncio's: all of asyncio can be awaited in it.

    Cancelled, it cancels the task, and fails with Twisted's ``CancelledError``, at whatever moment (twisted#12470).
    """
    task: asyncio.Future[Any] = asyncio.ensure_future(awaitable)

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


class Native:
    """
    Any object of tcpapp's with its Deferreds turned into futures: a connection, a `Listening`, a `Client`, a `Pool`.

    What it has is what that has, and `wrapped` is that itself. Where that is iterated or used in ``async with``, so is
    this.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        """What the object has by this name; a method that gives a Deferred gives a future."""
        found = getattr(self.wrapped, name)
        if not inspect.ismethod(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return future(result) if isinstance(result, Deferred) else result

        return call

    async def __aenter__(self) -> Self:
        """Start it, where it starts."""
        if hasattr(self.wrapped, "start"):
            await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop it, or close it."""
        await (self.stop() if hasattr(self.wrapped, "stop") else self.close())

    def __aiter__(self) -> Self:
        """Its messages."""
        return self

    async def __anext__(self) -> Any:
        """The next one, until it ends well."""
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                raise StopAsyncIteration from None
            raise


async def connect(*arguments: Any, **options: Any) -> Native:
    """An open connection: see `tcpapp.connect`."""
    return Native(await future(twisteds_connect(*arguments, **{"reactor": start(), **options})))


async def listen(endpoint: Any, served: Any, **options: Any) -> Native:
    """What listens: see `tcpapp.listen`. `served` is an app of Twisted's kind, or one that `app` made."""
    return Native(await future(twisteds_listen(endpoint, served, **{"reactor": start(), **options})))


def client(*arguments: Any, **options: Any) -> Native:
    """A `Client`, which is started by ``async with`` or `Client.start`."""
    return Native(Client(*arguments, **{"reactor": start(), **options}))


def pool(*arguments: Any, **options: Any) -> Native:
    """A `Pool`, which is started by ``async with`` or `Pool.start`."""
    return Native(Pool(*arguments, **{"reactor": start(), **options}))


def app(native: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """
    Make an app of a coroutine function of (message, connection) that awaits what asyncio has.

    Twisted's coroutines cannot (twisted#11841): this one runs as a task. The connection is a `Native` one.
    """

    def received(message: Any, connection: Any) -> Any:
        return deferred(native(message, Native(connection)))

    return received


def conversation(talk: Callable[[Any], Any]) -> Conversation:
    """Make an app of a coroutine function of the connection: `tcpapp.conversation`, in a task of asyncio's."""

    async def native(connection: Any) -> None:
        await deferred(talk(Native(connection)))

    return twisteds_conversation(native)
