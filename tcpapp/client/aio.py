"""
tcpapp in asyncio programs, and asyncio in apps of tcpapp: both run on one loop.

An asyncio task cannot await a Deferred, and a Twisted coroutine cannot await a future. This module converts between
them, and offers all of tcpapp with futures instead of Deferreds::

    import asyncio
    from tcpapp import aio

    async def main():
        async with aio.client("tcp:localhost:7007") as client:
            print(await client.request(b"hello"))

    asyncio.run(main())

Twisted's asyncio reactor must run on the running loop. `start` arranges this, and every function here calls `start`. A
process has one reactor, which runs on one loop. In a program that imported another reactor before, or runs a second
loop, `start` raises an `InvalidOption` that says what to do. In a forked child of a process with a running reactor it
raises `Forked`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from typing_extensions import Self, override

from tcpapp.client.connect import connect as twisteds_connect
from tcpapp.client.futures import Receiving, as_task, deferred, future, loop_for, start
from tcpapp.client.pool import Pool
from tcpapp.client.reconnecting import Client
from tcpapp.connection.app import batch
from tcpapp.connection.app import conversation as twisteds_conversation
from tcpapp.connection.handlers import Batch, Conversation, handlers_of
from tcpapp.connection.tasks import check_coroutine
from tcpapp.connection.ticks import Every
from tcpapp.errors import NotConnected
from tcpapp.server.listener import listen as twisteds_listen

__all__ = ["Native", "app", "client", "connect", "conversation", "deferred", "future", "listen", "pool", "start"]

Result = TypeVar("Result")

_receiving: WeakKeyDictionary[Any, Receiving] = WeakKeyDictionary()
"""The received messages of each object. All `Native` wrappers of the object share them."""


class Native:
    """
    Wraps an object of tcpapp (a connection, a `Listening`, a `Client`, a `Pool`): its methods return futures instead of
    Deferreds.

    It has all attributes of the object, which is `wrapped`. It can be iterated and used in ``async with`` if the object
    can. Two wrappers of one object are equal, so that a set or a dict finds a connection by any wrapper.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Native) and self.wrapped is other.wrapped

    @override
    def __hash__(self) -> int:
        return id(self.wrapped)

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the wrapped object. A method that returns a Deferred returns a future here."""
        found = getattr(self.wrapped, name)
        if not inspect.ismethod(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return future(result) if isinstance(result, Deferred) else result

        return call

    def receive(self) -> asyncio.Future[Any]:
        """
        Return a future of the next message. See `tcpapp.Connection.receive` or `Client.receive`, whose errors it
        raises.

        A cancelled task takes no message: the next call receives the message.
        """
        receiving = _receiving.get(self.wrapped)
        if receiving is None:
            receiving = _receiving[self.wrapped] = Receiving()
        return receiving.receive(self.wrapped.receive)

    def send_stream(self, source: Any, size: int | None = None) -> asyncio.Future[int]:
        """
        Send the bytes of `source`. See `tcpapp.Connection.send_stream`, whose errors it raises.

        The steps of an async iterator run as tasks, so it can await all of asyncio.
        """
        steps = _Steps(source) if hasattr(source, "__aiter__") else source
        return future(self.wrapped.send_stream(steps, size))

    def spawn(self, coroutine: Coroutine[Any, Any, Result], *, background: bool = False) -> asyncio.Future[Result]:
        """
        Run `coroutine` as a task of the connection and of asyncio. See `tcpapp.Connection.spawn`, whose errors it
        raises, and the errors of `deferred`.
        """
        check_coroutine(coroutine)
        loop_for(coroutine)
        try:
            spawned = future(self.wrapped.spawn(as_task(coroutine), background=background))
        except BaseException:
            coroutine.close()  # it was not started, and Python would warn about that
            raise
        spawned.add_done_callback(_retrieve)
        return spawned

    def every(self, seconds: float, *, now: bool = False) -> AsyncIterator[int]:
        """Return an iterator of ticks. See `tcpapp.Connection.every`, whose errors it raises."""
        return _ticks_of(self.wrapped.every(seconds, now=now))

    async def __aenter__(self) -> Self:
        """Start the object, if it can be started. On failure or cancellation, stop it."""
        if hasattr(self.wrapped, "start"):
            started = self.start()
            try:
                await started
            except BaseException:  # on cancellation, too: Python does not call __aexit__ then
                self.wrapped.stop()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop the object, or close it."""
        await (self.stop() if hasattr(self.wrapped, "stop") else self.close())

    def __aiter__(self) -> Self:
        """Return an iterator of the messages: the wrapper itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next message. The iteration ends when the connection or the client ends cleanly."""
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                raise StopAsyncIteration from None
            raise


def _retrieve(spawned: asyncio.Future[Any]) -> None:
    """Tell asyncio that the error of a task is known: the connection has reported it."""
    if not spawned.cancelled():
        spawned.exception()


async def _ticks_of(every: Every) -> AsyncIterator[int]:
    while (skipped := await future(every.tick())) is not None:
        yield skipped


class _Steps:
    """An async iterator whose steps are Deferreds, for a coroutine of Twisted."""

    def __init__(self, source: Any) -> None:
        self._steps = source.__aiter__()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(as_task(self._step()))  # it ends when the step has ended, also if cancelled

    async def _step(self) -> Any:
        return await self._steps.__anext__()

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed, as generators can."""
        close = getattr(self._steps, "aclose", None)
        if close is not None:
            await deferred(close())


async def connect(*arguments: Any, **options: Any) -> Native:
    """
    Connect, and return the open connection. See `tcpapp.connect`, whose errors it raises, and the errors of `start`.

    When it is cancelled, it stops connecting, and leaves no open connection.
    """
    connecting = future(twisteds_connect(*arguments, **{"reactor": start(), **options}))
    return await _handed_over(connecting, lambda connection: connection.abort())


async def listen(endpoint: Any, served: Any, **options: Any) -> Native:
    """
    Listen, and return the open ports. See `tcpapp.listen`, whose errors it raises, and the errors of `start`.

    `served` is an app for Twisted, or an app that `app` made. When `listen` is cancelled, it leaves no open port.
    """
    listening = future(twisteds_listen(endpoint, served, **{"reactor": start(), **options}))
    return await _handed_over(listening, lambda port: port.close(0))


async def _handed_over(made: asyncio.Future[Any], let_go: Callable[[Any], object]) -> Native:
    """
    Await `made` and wrap its result. If the task is cancelled after the result came, call `let_go` with the result.
    """
    try:
        return Native(await made)
    except asyncio.CancelledError:
        if not made.cancelled() and made.exception() is None:
            let_go(made.result())
        raise


def client(*arguments: Any, **options: Any) -> Native:
    """
    Return a `Client`. Start it by ``async with`` or `Client.start`. Raises the errors of `Client` and of `start`.

    ``prepare`` gets a connection with Deferreds. So a coroutine for it is a Twisted coroutine, and awaits Deferreds.
    """
    return Native(Client(*arguments, **{"reactor": start(), **options}))


def pool(*arguments: Any, **options: Any) -> Native:
    """Return a `Pool`. Start it by ``async with`` or `Pool.start`. Raises the errors of `Pool` and of `start`."""
    return Native(Pool(*arguments, **{"reactor": start(), **options}))


def app(native: Any) -> Any:
    """
    Make an app for tcpapp from an app whose coroutines await asyncio, in any form of app (see `tcpapp.connection.app`).

    `native` is a function, a `batch`, a conversation, an object, or a class, which is instantiated for each connection.
    Twisted's coroutines cannot await asyncio (twisted#11841), so the coroutines of this app run as tasks. Their
    connection is a `Native`.

    Functions that are no coroutine functions are called directly. A ``draining`` can send a last message on an idle
    connection only if it is no coroutine function.

    Raises `InvalidOption`, the caller's fault, for an object that is no app. On a reactor without asyncio, such as
    twistd's default, the first call of a coroutine fails with an `InvalidOption` that says so.
    """
    handlers_of(native)
    if native is None or isinstance(native, _TaskConversation):
        return native
    if isinstance(native, Conversation):
        return conversation(native.talk)
    if isinstance(native, Batch):
        return batch(_as_task(native.received_all, 1))
    parts = {name: _Part(name, place) for name, place in _PARTS.items() if getattr(native, name, None) is not None}
    if not parts:
        return _as_task(native, 1)
    is_class = inspect.isclass(native)
    kind = native if is_class else type(native)
    made: dict[str, Any] = {"make": staticmethod(native if is_class else lambda: native), "__doc__": kind.__doc__}
    turned: Any = type(kind.__name__, (_Object,), made | parts)
    return turned if is_class else turned()


_PARTS = {"opened": 0, "received": 1, "received_all": 1, "closed": 0, "draining": 0}
"""The methods that a connection calls on an app object, and the position of the argument that is the connection."""


class _Object:
    """
    An app of the second form. Its methods call the methods of the object that `make` returns, and run coroutines as
    tasks.
    """

    make: Callable[[], Any]

    def __init__(self) -> None:
        self.native = self.make()


class _Part:
    """The method called `name` of an `_Object`."""

    def __init__(self, name: str, place: int) -> None:
        self._name = name
        self._place = place

    def __get__(self, whole: _Object | None, _: object = None) -> Any:
        return self if whole is None else _as_task(getattr(whole.native, self._name), self._place)


def _as_task(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """
    Return a function that calls `function` with a `Native` connection as the argument at `place`. Coroutines run as
    tasks.
    """

    @wraps(function, updated=())
    def call(*arguments: Any) -> Any:
        given = [*arguments]
        given[place] = Native(given[place])
        result = function(*given)
        if inspect.isawaitable(result) and not isinstance(result, Deferred):
            return deferred(result).addCallback(_in_steps)
        return _in_steps(result)

    return call


def _in_steps(reply: Any) -> Any:
    """Return a reply that is an async iterator as one whose steps run as tasks; any other reply as it is."""
    return _Steps(reply) if isinstance(reply, AsyncIterator) else reply


class _TaskConversation(Conversation):
    """A conversation that runs as a task."""


def conversation(talk: Callable[[Any], Any]) -> Conversation:
    """
    Make a conversation, as `tcpapp.conversation` does, that runs as a task of asyncio.

    `talk` is a coroutine function that takes the connection. Raises `InvalidOption`, the caller's fault, for any other
    object. On a reactor without asyncio it fails as an app of `app` does.
    """
    twisteds_conversation(talk)  # checks `talk` itself, so that the error names it

    @wraps(talk)
    async def native(connection: Any) -> None:
        await as_task(talk(Native(connection)))

    return _TaskConversation(native)
