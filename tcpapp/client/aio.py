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
process has one reactor, which runs on one loop. A program that has imported another reactor before, or runs a second
loop, gets `InvalidOption`, which says what to do; a child of a process whose reactor ran gets `Forked`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from typing_extensions import Self, override

from tcpapp.client.connect import connect as twisteds_connect
from tcpapp.client.futures import Receiving, deferred, future, start
from tcpapp.client.pool import Pool
from tcpapp.client.reconnecting import Client
from tcpapp.connection.app import batch
from tcpapp.connection.app import conversation as twisteds_conversation
from tcpapp.connection.handlers import Batch, Conversation, handlers_of
from tcpapp.errors import NotConnected
from tcpapp.server.listener import listen as twisteds_listen

__all__ = ["Native", "app", "client", "connect", "conversation", "deferred", "future", "listen", "pool", "start"]

_receiving: WeakKeyDictionary[Any, Receiving] = WeakKeyDictionary()
"""What is received of each object, by whichever `Native` of it."""


class Native:
    """
    Any object of tcpapp's with its Deferreds turned into futures: a connection, a `Listening`, a `Client`, a `Pool`.

    What it has is what that has, and `wrapped` is that itself. Where that is iterated or used in ``async with``, so is
    this. Two of the same object are equal, so a connection can be found again in a set.
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
        """What the object has by this name; a method that gives a Deferred gives a future."""
        found = getattr(self.wrapped, name)
        if not inspect.ismethod(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return future(result) if isinstance(result, Deferred) else result

        return call

    def receive(self) -> asyncio.Future[Any]:
        """
        The next message, where there are any: see `tcpapp.Connection.receive`, or the client's.

        A task that is cancelled takes none: what had come for it is received next.
        """
        receiving = _receiving.get(self.wrapped)
        if receiving is None:
            receiving = _receiving[self.wrapped] = Receiving()
        return receiving.receive(self.wrapped.receive)

    async def __aenter__(self) -> Self:
        """Start it, where it starts. Where that fails or is cancelled, it is stopped."""
        if hasattr(self.wrapped, "start"):
            started = self.start()
            try:
                await started
            except BaseException:  # cancelled, too: a block that was not entered is not left either
                self.wrapped.stop()
                raise
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
    """
    An open connection: see `tcpapp.connect`, whose errors it raises, and those of `start`.

    Cancelled, it stops connecting, and leaves no connection.
    """
    connecting = future(twisteds_connect(*arguments, **{"reactor": start(), **options}))
    return await _handed_over(connecting, lambda connection: connection.abort())


async def listen(endpoint: Any, served: Any, **options: Any) -> Native:
    """
    What listens: see `tcpapp.listen`, whose errors it raises, and those of `start`.

    `served` is an app of Twisted's kind, or one that `app` made. Cancelled, it leaves no port.
    """
    listening = future(twisteds_listen(endpoint, served, **{"reactor": start(), **options}))
    return await _handed_over(listening, lambda port: port.close(0))


async def _handed_over(made: asyncio.Future[Any], let_go: Callable[[Any], object]) -> Native:
    """What is `made`; a task that is cancelled when that is there already gets it no more: `let_go` of it."""
    try:
        return Native(await made)
    except asyncio.CancelledError:
        if not made.cancelled() and made.exception() is None:
            let_go(made.result())
        raise


def client(*arguments: Any, **options: Any) -> Native:
    """
    A `Client`, which is started by ``async with`` or `Client.start`. Raises what that does, and `start`.

    Its ``prepare`` is Twisted's: a coroutine there awaits what the connection's own methods give.
    """
    return Native(Client(*arguments, **{"reactor": start(), **options}))


def pool(*arguments: Any, **options: Any) -> Native:
    """A `Pool`, which is started by ``async with`` or `Pool.start`. Raises what that does, and `start`."""
    return Native(Pool(*arguments, **{"reactor": start(), **options}))


def app(native: Any) -> Any:
    """
    Make an app of one whose coroutines await what asyncio has, in any form that an app has (see
    `tcpapp.connection.app`).

    A function, a `batch`, a conversation, an object, or a class, which is made anew for each connection. Twisted's
    coroutines cannot await asyncio (twisted#11841): these run as tasks. The connection that they are handed is a
    `Native` one. What is no coroutine is called as it is: a ``draining`` has its last word on an idle connection only
    if it is none.

    Raises `InvalidOption` for what is no app. On a reactor that runs on no loop of asyncio's, as twistd's default, the
    app fails with an `InvalidOption` that says so, as soon as a coroutine of it is called.
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
"""What a connection calls of an object that is an app, and which of the arguments the connection is."""


class _Object:
    """An app of the second form: its parts are those of what `make` makes, run as tasks."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        self.native = self.make()


class _Part:
    """The part called `name` of an `_Object`."""

    def __init__(self, name: str, place: int) -> None:
        self._name = name
        self._place = place

    def __get__(self, whole: _Object | None, _: object = None) -> Any:
        return self if whole is None else _as_task(getattr(whole.native, self._name), self._place)


def _as_task(function: Callable[..., Any], place: int) -> Callable[..., Any]:
    """`function`, handed a `Native` connection as the argument at `place`; if it is a coroutine's, run as a task."""

    @wraps(function, updated=())
    def call(*arguments: Any) -> Any:
        given = [*arguments]
        given[place] = Native(given[place])
        result = function(*given)
        return deferred(result) if inspect.isawaitable(result) and not isinstance(result, Deferred) else result

    return call


class _TaskConversation(Conversation):
    """A conversation that runs as a task."""


def conversation(talk: Callable[[Any], Any]) -> Conversation:
    """
    Make an app of a coroutine function of the connection: `tcpapp.conversation`, in a task of asyncio's.

    Raises `InvalidOption` for what is no such function; on a reactor without asyncio it fails as `app` says.
    """
    twisteds_conversation(talk)  # what is none is said of `talk` itself

    @wraps(talk)
    async def native(connection: Any) -> None:
        await deferred(talk(Native(connection)))

    return _TaskConversation(native)
