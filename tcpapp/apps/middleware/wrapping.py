"""
Middleware of your own: `wrap` puts functions around the parts of an app, whichever form it has.

A function has the part ``received``, a `batch` has ``received_all``, and a conversation has ``talk``. A class or an
object has some of ``opened``, ``received``, ``received_all``, ``closed`` and ``draining``. The function around a part
gets the arguments of the part, and the part itself as the last argument:

- ``received(message, connection, inner)`` is for each message. In a conversation, ``inner(message, connection)`` gives
  the message to the next ``receive()``. It returns a Deferred that fires with `None` when the conversation is done with
  the message: it receives again, or ends.
- ``received_all(messages, connection, inner)`` is for a `batch`. Without it, a `batch` is refused if `received` is
  given.
- ``talk(connection, inner)`` is a coroutine function around a conversation, in place of ``received``.
- ``opened(connection, inner)``, ``closed(connection, reason, inner)`` and ``draining(connection, inner)`` are for apps
  of any form.

The function calls ``inner`` with these arguments, with others, or not at all. What it returns is used as the result of
the part. A part that the app does not have does nothing, and its result is `None`.

A function can be a coroutine function. Then ``await inner(...)`` works for every app, also for one that is not async.
Otherwise ``inner`` returns what the app returns: a reply, a Deferred, a coroutine or an iterator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from tcpapp.apps.middleware.relaying import Relay
from tcpapp.connection.handlers import Conversation, handlers_of, outcome_of, value_of
from tcpapp.errors import InvalidOption

__all__ = ["wrap"]

PARTS: Final = {
    "opened": "connection",
    "received": "message, connection",
    "received_all": "messages, connection",
    "closed": "connection, reason",
    "draining": "connection",
    "talk": "connection",
}
"""The parts of an app, and the arguments of each. A function around a part gets the part as one more argument."""


def wrap(
    app: Any,
    *,
    opened: Callable[..., Any] | None = None,
    received: Callable[..., Any] | None = None,
    received_all: Callable[..., Any] | None = None,
    closed: Callable[..., Any] | None = None,
    draining: Callable[..., Any] | None = None,
    talk: Callable[..., Any] | None = None,
) -> Any:
    """
    Return an app that calls these functions in place of the parts of `app`, and has the form of `app`.

    ::

        def shouting(app):
            def received(message, connection, inner):
                return inner(message.upper(), connection)

            return wrap(app, received=received)

    A class stays a class, so each connection has an instance of its own. An app for asyncio is made by `tcpapp.aio.app`
    first, and wrapped then. Raises `InvalidOption`, the caller's fault, for an object that is no app, for a function
    with other arguments, and for `received` around an app that takes no messages.
    """
    hooks = {"opened": opened, "received": received, "received_all": received_all, "closed": closed}
    hooks |= {"draining": draining, "talk": talk}
    given = {name: hook for name, hook in hooks.items() if hook is not None}
    for name, hook in given.items():
        _check_hook(name, hook)
    if app is None:
        raise InvalidOption("wrap: takes an app, and not None")
    handlers_of(app)
    if isinstance(app, Conversation):
        return _wrapped_conversation(app, given)
    return _wrapped_object(app, given)


def _check_hook(name: str, hook: Callable[..., Any]) -> None:
    takes = f"{PARTS[name]}, inner"
    try:
        inspect.signature(hook).bind(*takes.split(", "))
    except (TypeError, ValueError):
        raise InvalidOption(f"wrap: {name}={hook!r:.100}: takes a function of ({takes})") from None
    if name == "talk" and not inspect.iscoroutinefunction(hook):
        raise InvalidOption(f"wrap: talk={hook!r:.100}: takes an async function of ({takes})")


def _around(hook: Callable[..., Any], inner: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls `hook` with `inner` as the last argument."""
    if inspect.iscoroutinefunction(hook):
        inner = partial(outcome_of, inner)

    def call(*arguments: Any) -> Any:
        return hook(*arguments, inner)

    return call


def _nothing(*arguments: Any) -> None:
    """Stand for a part that the app does not have."""


# Functions, batches, objects and classes ------------------------------------------------------------------------------


def _wrapped_object(app: Any, hooks: dict[str, Callable[..., Any]]) -> Any:
    has = _parts_of(app)
    if "received" in hooks and "received" not in has:
        if "received_all" not in has:
            raise InvalidOption(f"wrap: {_name(app)} takes no messages: give it a received, or make it a @conversation")
        if "received_all" not in hooks:
            raise InvalidOption(f"wrap: {_name(app)} takes batches, and this middleware has no received_all")
    names = has | (hooks.keys() & {"opened", "closed", "draining"})
    is_class = inspect.isclass(app)
    parts: dict[str, Any] = {name: _Part(name, hooks.get(name)) for name in names}
    made: dict[str, Any] = {"make": staticmethod(app if is_class else lambda: app), "__doc__": app.__doc__}
    wrapped: Any = type(_name(app), (_Wrapped,), made | parts)
    return wrapped if is_class else wrapped()


def _parts_of(app: Any) -> set[str]:
    """The names of the parts that `app` has, which is no conversation."""
    found = {name for name in PARTS if name != "talk" and getattr(app, name, None) is not None}
    return found or {"received"}


def _name(app: Any) -> str:
    return getattr(app, "__name__", None) or type(app).__name__


class _Wrapped:
    """An app with functions around its parts. `make` returns the app inside: the same one, or a new one each time."""

    make: Callable[[], Any]

    def __init__(self) -> None:
        self.inner = self.make()


class _Part:
    """The part called `name` of a `_Wrapped`, with a `hook` around it."""

    def __init__(self, name: str, hook: Callable[..., Any] | None) -> None:
        self._name = name
        self._hook = hook

    def __get__(self, whole: _Wrapped | None, _: object = None) -> Any:
        if whole is None:
            return self
        part = getattr(whole.inner, self._name, None)
        if part is None:
            part = whole.inner if self._name == "received" else _nothing
        return part if self._hook is None else _around(self._hook, part)


# Conversations --------------------------------------------------------------------------------------------------------


class _WrappedConversation(Conversation):
    """A conversation with functions around its parts. A connection looks for ``closed`` and ``draining`` on an app."""


def _wrapped_conversation(app: Conversation, hooks: dict[str, Callable[..., Any]]) -> Conversation:
    received = hooks.get("received") if "talk" not in hooks else None
    opened = _around(hooks["opened"], _nothing) if "opened" in hooks else _nothing
    talk: Callable[[Any], Coroutine[Any, Any, Any]] = app.talk
    if "talk" in hooks:
        talk = _around(hooks["talk"], app.talk)

    async def talked(connection: Any) -> None:
        greeting = await outcome_of(opened, connection)
        if greeting is not None:
            await connection.send(value_of(greeting))
        if received is None:
            await talk(connection)
            return
        relay = Relay(connection, received)
        try:
            await talk(relay)
        finally:
            relay.end()

    wrapped = _WrappedConversation(talked)
    wrapped.__doc__, wrapped.__name__ = app.__doc__, app.__name__
    for name in ("closed", "draining"):
        part = getattr(app, name, None)
        if name in hooks:
            part = _around(hooks[name], part or _nothing)
        if part is not None:
            setattr(wrapped, name, part)
    return wrapped
