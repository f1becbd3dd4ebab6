"""The parts of an app that a connection calls: checks of the three forms, and the replies."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from types import CoroutineType
from typing import Any, Generic

from twisted.internet.defer import Deferred, maybeDeferred
from typing_extensions import TypeVar, override

from tcpapp.codecs import Codec
from tcpapp.codecs.base import uncollected
from tcpapp.codecs.structured import UNCOLLECTED
from tcpapp.connection.asyncio_errors import explained
from tcpapp.connection.parsing import Parsing
from tcpapp.errors import InvalidOption, UnsendableMessage
from tcpapp.framing.body import Body
from tcpapp.framing.decoded import Decoded, Streamed

__all__ = [
    "Batch",
    "Conversation",
    "Handlers",
    "Reply",
    "deferred_of",
    "handlers_of",
    "is_stream",
    "outcome_of",
    "value_of",
    "without_codec",
]

Value = TypeVar("Value", default=Any)

AWAITABLE = (Deferred, CoroutineType, asyncio.Future)
"""What an app can return when its reply is not there yet."""

STREAMS = (Iterator, AsyncIterator)
"""What an app can return when its reply is many messages. A list, a tuple and a dict are values."""

VALUES = frozenset({dict, list, str, bytes, int, float, bool})
"""The types of most values: a reply of such a type needs no further check."""


NO_STREAMS = VALUES | {CoroutineType, Deferred, type(None)}
"""The types of most replies: a reply of such a type is no stream, and needs no further check."""


class Reply(Generic[Value]):
    """
    A reply with any `value`, `None` included. An app that returns plain `None` sends no reply.

    ::

        def look_up(city, connection):  # with codec="json", the reply for an unknown city is null
            return Reply(WEATHER.get(city))

    It can be used in every place of a reply: as the result of ``received``, ``opened`` or ``draining``, of a Deferred
    or a coroutine. The list of a `batch` and an iterator can have it among their messages. Without a codec, `value` is
    the bytes of the message, and ``Reply(None)`` is an `UnsendableMessage`, the app's failure. ``send`` and ``request``
    take the value itself: ``send(None)`` sends null.
    """

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    @override
    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Reply) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash((Reply, self.value))

    @override
    def __repr__(self) -> str:
        return f"Reply({self.value!r})"


class Conversation:
    """An app of the third form; made by `conversation`."""

    def __init__(self, talk: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        if not inspect.iscoroutinefunction(talk):
            raise InvalidOption(f"{_name(talk)}: @conversation takes an async function of one argument, the connection")
        _check_takes(talk, "connection")
        self.talk = talk
        self.__doc__ = talk.__doc__
        self.__name__ = _name(talk)

    def __call__(self, connection: Any) -> Coroutine[Any, Any, Any]:
        """The coroutine itself, to be awaited in a test."""
        return self.talk(connection)


class Batch:
    """An app of the first form that takes all messages that came together; made by `batch`."""

    def __init__(self, received_all: Callable[[list[Any], Any], Any]) -> None:
        _check_takes(received_all, "messages, connection")
        self.received_all = received_all
        self.__doc__ = received_all.__doc__
        self.__name__ = _name(received_all)

    def __call__(self, messages: list[Any], connection: Any) -> Any:
        """Call the function itself, as in a test."""
        return self.received_all(messages, connection)


class Handlers:
    """
    The parts of an app that a connection calls; a missing part is `None`. Their replies are encoded already.

    `received` takes the bytes of a message, or a `Decoded`. It raises `UndecodableMessage` for a message that the codec
    cannot decode. `received_all` takes values.
    """

    __slots__ = ("_app", "closed", "draining", "opened", "received", "received_all", "talk")

    def __init__(self, app: Any, codec: Codec[Any] | None) -> None:
        self._app = app
        self.opened = getattr(app, "opened", None)
        self.closed = getattr(app, "closed", None)
        self.draining = getattr(app, "draining", None)
        self.talk = app.talk if isinstance(app, Conversation) else None
        received, received_all = getattr(app, "received", None), getattr(app, "received_all", None)
        if all(part is None for part in (received, received_all, self.opened, self.closed, self.talk)):
            received = app  # a function, or None: no app at all
        self.received = received if codec is None or received is None else _coding(received, codec)
        self.received_all = (
            received_all if codec is None or received_all is None else _all_encoding(received_all, codec)
        )
        if isinstance(codec, Parsing) and self.received_all is not None:
            self.received_all = _discarding_bodies(self.received_all)

    def with_codec(self, codec: Codec[Any] | None) -> Handlers:
        """The same app for messages of another codec."""
        return Handlers(self._app, codec)


def value_of(reply: Any) -> Any:
    """The value of a reply: `value` of a `Reply`, otherwise the reply itself."""
    return reply.value if type(reply) is Reply else reply


def is_stream(reply: Any) -> bool:
    """Whether a reply is an iterator or an async iterator of messages, as generators are."""
    return type(reply) not in NO_STREAMS and isinstance(reply, STREAMS)


def without_codec(reply: Any) -> Any:
    """The message of a reply without a codec. Raises `UnsendableMessage` for ``Reply(None)``."""
    if type(reply) is not Reply:
        return reply
    if reply.value is None:
        raise UnsendableMessage("Reply(None): takes bytes where there is no codec; None alone is no reply")
    return reply.value


def _all_encoding(received_all: Callable[..., Any], codec: Codec[Any]) -> Callable[..., Any]:
    encode = codec.encode

    def received_and_encoded(messages: list[Any], connection: Any) -> Any:
        replies = received_all(messages, connection)
        if not isinstance(replies, list):
            return replies
        return [encode(each.value if type(each) is Reply else each) for each in replies]

    return received_and_encoded


def _coding(received: Callable[..., Any], codec: Codec[Any]) -> Callable[..., Any]:
    read, encode = codec.read, codec.encode

    def decoded_received_and_encoded(message: Any, connection: Any) -> Any:
        if type(message) is Decoded:
            value = message.value
        elif type(message) is Streamed:
            handle = partial(decoded_received_and_encoded, Decoded(b"", message.value))
            return _with_body(handle, message.body, connection)
        elif len(message) >= UNCOLLECTED and gc.isenabled():  # the value is short-lived: spare the collector
            return uncollected(decoded_received_and_encoded, message, connection)
        else:
            value = read(message)
        reply = received(value, connection)
        kind = type(reply)
        if kind in VALUES:
            return encode(reply)
        if reply is None or isinstance(reply, AWAITABLE) or is_stream(reply):
            return reply
        return encode(reply.value if kind is Reply else reply)

    return decoded_received_and_encoded


def _with_body(handle: Callable[[Any], Any], body: Body, connection: Any) -> Any:
    """Let the app handle a message, and release its `body` when it has done so."""
    body.hand_over()
    try:
        reply = handle(connection)
        deferred = deferred_of(reply)
    except BaseException:
        body.release()
        raise
    return _released(reply, body) if deferred is None else deferred.addBoth(_released, body)


def _released(reply: Any, body: Body) -> Any:
    """`reply` itself, with which the handler has ended; or the same stream of messages, whose end ends the handler."""
    if isinstance(reply, AsyncIterator):
        return _all_of(reply, body)
    if is_stream(reply):
        return _each_of(reply, body)
    body.release()
    return reply


def _each_of(replies: Iterator[Any], body: Body) -> Iterator[Any]:
    try:
        yield from replies
    finally:
        body.release()


async def _all_of(replies: AsyncIterator[Any], body: Body) -> AsyncIterator[Any]:
    try:
        async for each in replies:
            yield each
    finally:
        body.release()
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()


def _discarding_bodies(received_all: Callable[..., Any]) -> Callable[..., Any]:
    """Let a batch app handle messages, and discard their bodies when it has done so."""

    def received_and_discarded(messages: list[Any], connection: Any) -> Any:
        try:
            replies = received_all(messages, connection)
            deferred = deferred_of(replies)
        except BaseException:
            connection._discard_bodies()
            raise
        if deferred is None:
            connection._discard_bodies()
            return replies

        def discard(result: Any) -> Any:
            connection._discard_bodies()
            return result

        return deferred.addBoth(discard)

    return received_and_discarded


def handlers_of(app: Any, codec: Codec[Any] | None = None) -> Callable[[], Handlers]:
    """
    A function that gives a new connection the `Handlers` of `app`; `None` stands for no app.

    Raises `InvalidOption` for anything but one of the three forms. The error names the form that was probably meant.
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
    """A Deferred of the result of a user's function, or of its error, which is `explained`."""

    def call() -> Any:
        result = function(*arguments)
        deferred = deferred_of(result)
        return result if deferred is None else deferred

    return maybeDeferred(call).addErrback(explained)


_PARTS = {
    "opened": "connection",
    "received": "message, connection",
    "received_all": "messages, connection",
    "closed": "connection, reason",
    "draining": "connection",
}
"""The methods that a connection calls, and the arguments of each after the instance."""


def _check(app: Any) -> None:
    if app is None or isinstance(app, (Batch, Conversation)):
        return
    for name in _PARTS:
        _check_is_the_same_on_every_python(app, name)
    has = {name: takes for name, takes in _PARTS.items() if getattr(app, name, None) is not None}
    found = has.keys() - {"draining"}
    if "received" in found and "received_all" in found:
        raise InvalidOption(f"{_name(app)}: has received and received_all; one of them is called")
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
    for name, takes in has.items():
        part = getattr(app, name)
        if not callable(part) and not hasattr(part, "__get__"):
            raise InvalidOption(f"{_name(app)}: its {name} takes a method of ({takes}), not {part!r}")
        _check_takes(part, f"self, {takes}" if _takes_self(app, name) else takes)


def _check_is_the_same_on_every_python(app: Any, name: str) -> None:
    """Reject a `partial` in a class: Python 3.14 makes it a method. In an instance it works alike on all Pythons."""
    its_own = not inspect.isclass(app) and name in getattr(app, "__dict__", ())
    part = inspect.getattr_static(app if inspect.isclass(app) else type(app), name, None)
    if isinstance(part, partial) and not its_own:
        raise InvalidOption(
            f"{_name(app)}: its {name} is a functools.partial in a class, which Python calls with the instance from"
            " 3.14 on, and before without it; write staticmethod(partial(...)), or a method"
        )


def _takes_self(app: Any, name: str) -> bool:
    """Whether `app` is a class whose method `name` gets the instance, as functions do and static methods do not."""
    part = inspect.getattr_static(app, name, None)
    return inspect.isclass(app) and hasattr(part, "__get__") and not isinstance(part, (staticmethod, classmethod))


def _check_takes(function: Callable[..., Any], takes: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have no signature
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
