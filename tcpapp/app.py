"""
What the user writes: an app, in one of three forms.

1. A function: message in, reply out (`None`: no reply)::

       def shout(message, connection):
           return message.upper()

2. An object with any of ``opened``, ``received`` and ``closed``. A class is made anew for each connection; an instance
   serves them all::

       class Chat:
           def opened(self, connection): ...
           def received(self, message, connection): ...
           def closed(self, connection, reason): ...

3. A coroutine that lives as long as the connection::

       @conversation
       async def talk(connection):
           async for message in connection:
               await connection.send(message)

Any of them may be async: return a Deferred, or be a coroutine function. One message of a connection is handled at a
time, in order.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, maybeDeferred

from tcpapp.codecs import Codec
from tcpapp.errors import InvalidOption

if TYPE_CHECKING:
    from tcpapp.connection import MessageProtocol

__all__ = ["Conversation", "Handlers", "conversation", "deferred_of", "handlers_of", "outcome_of"]

AWAITABLE = (Deferred, CoroutineType, asyncio.Future)
"""What an app may give in a reply's place when the reply is not there yet."""


class Conversation:
    """An app of the third form; made by `conversation`."""

    def __init__(self, talk: Callable[[MessageProtocol], Coroutine[Any, Any, Any]]) -> None:
        if not inspect.iscoroutinefunction(talk):
            raise InvalidOption(f"{_name(talk)}: @conversation takes an async function of one argument, the connection")
        _check_takes(talk, "connection")
        self.talk = talk
        self.__doc__ = talk.__doc__
        self.__name__ = _name(talk)

    def __call__(self, connection: MessageProtocol) -> Coroutine[Any, Any, Any]:
        """The coroutine itself, to be awaited in a test."""
        return self.talk(connection)


def conversation(talk: Callable[[MessageProtocol], Coroutine[Any, Any, Any]]) -> Conversation:
    """
    Make an app of a coroutine function that takes the connection, and lives as long as it.

    When the coroutine returns, the connection is closed; when it raises, that connection alone. When the connection
    ends, the coroutine's ``async for`` ends, its ``receive`` and ``send`` fail; where it waits for something else, it
    is cancelled there. Raises `InvalidOption` for what is no such function.
    """
    return Conversation(talk)


class Handlers:
    """The parts of an app that a connection calls, each `None` where the app has none. Replies are bytes already."""

    __slots__ = ("closed", "draining", "opened", "received", "talk")

    def __init__(self, app: Any, codec: Codec[Any] | None) -> None:
        self.opened = getattr(app, "opened", None)
        self.closed = getattr(app, "closed", None)
        self.draining = getattr(app, "draining", None)
        self.talk = app.talk if isinstance(app, Conversation) else None
        received = getattr(app, "received", None)
        if received is None and self.opened is None and self.closed is None and self.talk is None:
            received = app  # a function, or None: no app at all
        self.received = received if codec is None or received is None else _encoding(received, codec)


def _encoding(received: Callable[..., Any], codec: Codec[Any]) -> Callable[..., Any]:
    encode = codec.encode

    def received_and_encoded(message: Any, connection: Any) -> Any:
        reply = received(message, connection)
        return reply if reply is None or isinstance(reply, AWAITABLE) else encode(reply)

    return received_and_encoded


def handlers_of(app: Any, codec: Codec[Any] | None = None) -> Callable[[], Handlers]:
    """
    A function that gives a new connection the `Handlers` of `app`; `None` stands for no app.

    Raises `InvalidOption` for what is none of the three forms, and says which it comes near to.
    """
    _check(app)
    if inspect.isclass(app):
        return lambda: Handlers(app(), codec)
    shared = Handlers(app, codec)
    return lambda: shared


def deferred_of(result: Any) -> Deferred[Any] | None:
    """The Deferred of a reply that is not there yet; `None` if `result` is a reply (or no reply) already."""
    if isinstance(result, Deferred):
        return result
    if isinstance(result, CoroutineType):
        return Deferred.fromCoroutine(result)
    if isinstance(result, asyncio.Future):
        return Deferred.fromFuture(result)
    return None


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """A Deferred of what a user's function gives, at once or later, or of what it raises."""

    def call() -> Any:
        result = function(*arguments)
        deferred = deferred_of(result)
        return result if deferred is None else deferred

    return maybeDeferred(call)


def _check(app: Any) -> None:
    if app is None or isinstance(app, Conversation):
        return
    parts = {"opened": "connection", "received": "message, connection", "closed": "connection, reason"}
    found = {name: takes for name, takes in parts.items() if getattr(app, name, None) is not None}
    if inspect.isclass(app):
        if not found:
            raise InvalidOption(f"{_name(app)}: a class that is an app has any of opened, received and closed")
        _check_takes(app, "")
    elif not found and not callable(app):
        raise InvalidOption(
            f"{app!r} is no app: it takes a function of (message, connection), an object or a class with any of opened,"
            " received and closed, or a @conversation"
        )
    elif not found:
        _check_takes(app, "message, connection")
    for name, takes in found.items():
        part = getattr(app, name)
        if not callable(part) and not hasattr(part, "__get__"):
            raise InvalidOption(f"{_name(app)}: its {name} takes a method of ({takes}), not {part!r}")
        _check_takes(part, f"self, {takes}" if _takes_self(app, name) else takes)


def _takes_self(app: Any, name: str) -> bool:
    """Whether `app` is a class whose part `name` is handed the instance, as functions are; static methods are not."""
    part = inspect.getattr_static(app, name, None)
    return inspect.isclass(app) and hasattr(part, "__get__") and not isinstance(part, (staticmethod, classmethod))


def _check_takes(function: Callable[..., Any], takes: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions tell nobody what they take
        return
    try:
        signature.bind(*takes.split(", ") if takes else ())
    except TypeError:
        near = ""
        if takes.startswith("message") and inspect.iscoroutinefunction(function) and len(signature.parameters) == 1:
            near = "; a coroutine that takes the connection alone is written with @conversation"
        raise InvalidOption(f"{_name(function)}{signature}: takes ({takes}){near}") from None


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or repr(thing)
