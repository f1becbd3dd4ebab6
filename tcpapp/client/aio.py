"""
tcpapp in programs of asyncio, and asyncio in apps of tcpapp: one loop for both.

A Deferred cannot be awaited in asyncio's tasks, nor a future in Twisted's coroutines. This module converts between
them, and offers all of tcpapp with futures instead of Deferreds::

    import asyncio
    from tcpapp import aio

    async def main():
        async with aio.client("tcp:localhost:7007") as client:
            print(await client.request(b"hello"))

    asyncio.run(main())

Twisted's asyncio reactor must run on the running loop. `start` does this, and every function here calls it. A process
has one reactor, which runs on one loop. A program that imported another reactor before, or runs a second loop, gets an
`InvalidOption` that says what to do. A forked child of a process with a running reactor gets `Forked`.
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
"""The received messages of each object, shared by all `Native` wrappers of it."""


class Native:
    """
    Any object of tcpapp with futures instead of Deferreds: a connection, a `Listening`, a `Client`, a `Pool`.

    It has all names of the object, which is `wrapped`. It can be iterated and used in ``async with`` if the object can.
    Two wrappers of one object are equal, so a connection can be found again in a set.
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
        """The attribute of the object with this name; a method that returns a Deferred returns a future here."""
        found = getattr(self.wrapped, name)
        if not inspect.ismethod(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return future(result) if isinstance(result, Deferred) else result

        return call

    def receive(self) -> asyncio.Future[Any]:
        """
        The next message, if the object receives messages: see `tcpapp.Connection.receive`, or `Client.receive`.

        A cancelled task takes no message: the next call receives it.
        """
        receiving = _receiving.get(self.wrapped)
        if receiving is None:
            receiving = _receiving[self.wrapped] = Receiving()
        return receiving.receive(self.wrapped.receive)

    async def __aenter__(self) -> Self:
        """Start it, if it can be started. On failure or cancellation, it is stopped."""
        if hasattr(self.wrapped, "start"):
            started = self.start()
            try:
                await started
            except BaseException:  # on cancellation, too: without __enter__ there is no __exit__
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
        """The next message, until the connection or the client ends well."""
        try:
            return await self.receive()
        except NotConnected as error:
            if error.reason.clean:
                raise StopAsyncIteration from None
            raise


async def connect(*arguments: Any, **options: Any) -> Native:
    """
    An open connection: see `tcpapp.connect`, whose errors it raises, and the errors of `start`.

    When cancelled, it stops connecting, and leaves no connection.
    """
    connecting = future(twisteds_connect(*arguments, **{"reactor": start(), **options}))
    return await _handed_over(connecting, lambda connection: connection.abort())


async def listen(endpoint: Any, served: Any, **options: Any) -> Native:
    """
    Open ports: see `tcpapp.listen`, whose errors it raises, and the errors of `start`.

    `served` is an app of Twisted's kind, or one that `app` made. When cancelled, it leaves no open port.
    """
    listening = future(twisteds_listen(endpoint, served, **{"reactor": start(), **options}))
    return await _handed_over(listening, lambda port: port.close(0))


async def _handed_over(made: asyncio.Future[Any], let_go: Callable[[Any], object]) -> Native:
    """The result of `made`. If the task is cancelled after the result came, `let_go` is called with the result."""
    try:
        return Native(await made)
    except asyncio.CancelledError:
        if not made.cancelled() and made.exception() is None:
            let_go(made.result())
        raise


def client(*arguments: Any, **options: Any) -> Native:
    """
    A `Client`, started by ``async with`` or `Client.start`. Raises the errors of `Client` and of `start`.

    Its ``prepare`` is Twisted's: a coroutine there awaits the Deferreds of the connection's own methods.
    """
    return Native(Client(*arguments, **{"reactor": start(), **options}))


def pool(*arguments: Any, **options: Any) -> Native:
    """A `Pool`, started by ``async with`` or `Pool.start`. Raises the errors of `Pool` and of `start`."""
    return Native(Pool(*arguments, **{"reactor": start(), **options}))


def app(native: Any) -> Any:
    """
    Make an app from an app whose coroutines await asyncio, in any form of an app (see `tcpapp.connection.app`).

    The app is a function, a `batch`, a conversation, an object, or a class, which is instantiated for each connection.
    Twisted's coroutines cannot await asyncio (twisted#11841), so these run as tasks. Their connection is a `Native`.

    Functions that are no coroutines are called directly. A ``draining`` can send a last word on an idle connection only
    if it is no coroutine.

    Raises `InvalidOption` for an object that is no app. On a reactor without asyncio, such as twistd's default, the
    first call of a coroutine fails with an `InvalidOption` that says so.
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
    """An app of the second form: its methods are those of the object that `make` makes, run as tasks."""

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
    """`function`, called with a `Native` connection as the argument at `place`; a coroutine function runs as a task."""

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
    Make an app of a coroutine function of the connection: `tcpapp.conversation`, in a task of asyncio.

    Raises `InvalidOption` for any other object; on a reactor without asyncio it fails as `app` does.
    """
    twisteds_conversation(talk)  # an error about the function names `talk` itself

    @wraps(talk)
    async def native(connection: Any) -> None:
        await deferred(talk(Native(connection)))

    return _TaskConversation(native)
